//! Money: integers in minor units, and the currency they are of.

use std::fmt;

/// The largest amount of one payment, in minor units.
pub const MAX_AMOUNT: i64 = 1_000_000_000_000_000;

/// The largest absolute balance of an account, in minor units: far enough from the edge of
/// `i64` that no sum of a balance and an amount can overflow.
pub const MAX_BALANCE: i64 = 1_000_000_000_000_000_000;

/// A currency code: three capital letters. Whether an account can be opened in it is for
/// [`Currencies`](super::Currencies) to say, whether one is, for the ledger.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Currency([u8; 3]);

impl Currency {
    /// Reads a code of three capital letters; `None` when `code` isn't one.
    pub fn parse(code: &str) -> Option<Self> {
        let bytes: [u8; 3] = code.as_bytes().try_into().ok()?;
        bytes.iter().all(u8::is_ascii_uppercase).then_some(Self(bytes))
    }

    /// The three letters.
    pub fn as_str(&self) -> &str {
        // Only capital letters get in.
        std::str::from_utf8(&self.0).unwrap_or_default()
    }

    /// Whether the library's list of ISO 4217 has the code, active or not.
    pub(super) fn is_listed(self) -> bool {
        iso_currency::Currency::from_code(self.as_str()).is_some()
    }

    /// How many digits of an amount are behind the decimal point, where ISO 4217 says it.
    pub(super) fn iso_exponent(self) -> Option<u32> {
        iso_currency::Currency::from_code(self.as_str()).and_then(|currency| currency.exponent()).map(u32::from)
    }
}

impl fmt::Display for Currency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for Currency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl serde::Serialize for Currency {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_three_capital_letters_are_a_code() {
        assert_eq!(Currency::parse("USD").map(|c| c.to_string()), Some("USD".into()));
        for bad in ["", "US", "usd", "USDX", "U$D", "ÄÖ"] {
            assert_eq!(Currency::parse(bad), None, "{bad}");
        }
    }
}
