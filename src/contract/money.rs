//! Money: integers in minor units, and the currency they are of.

use std::fmt;

/// The largest amount of one payment, in minor units.
pub const MAX_AMOUNT: i64 = 1_000_000_000_000_000;

/// The largest absolute balance of an account, in minor units: far enough from the edge of
/// `i64` that no sum of a balance and an amount can overflow.
pub const MAX_BALANCE: i64 = 1_000_000_000_000_000_000;

/// A currency code: three capital letters. Whether ISO 4217 knows it is a question of its own,
/// because a code that it does not know is a rejection, not bad JSON.
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

    /// Whether ISO 4217 lists the code.
    pub fn is_known(self) -> bool {
        iso_currency::Currency::from_code(self.as_str()).is_some()
    }

    /// How many digits of an amount are behind the decimal point; 2 for a code that ISO 4217
    /// doesn't give an exponent.
    pub fn exponent(self) -> u32 {
        iso_currency::Currency::from_code(self.as_str()).and_then(|c| c.exponent()).unwrap_or(2).into()
    }

    /// An amount in minor units as people write it, `12.50`.
    pub fn format(self, minor: i64) -> String {
        let exponent = self.exponent() as usize;
        let digits = format!("{:0width$}", minor.unsigned_abs(), width = exponent + 1);
        let (whole, fraction) = digits.split_at(digits.len() - exponent);
        let sign = if minor < 0 { "-" } else { "" };
        if exponent == 0 { format!("{sign}{whole}") } else { format!("{sign}{whole}.{fraction}") }
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

    #[test]
    fn iso_4217_decides_what_is_known() {
        assert!(Currency::parse("JPY").is_some_and(Currency::is_known));
        assert!(!Currency::parse("QQQ").is_some_and(Currency::is_known));
    }

    #[test]
    fn amounts_are_written_with_the_currencys_exponent() {
        let format = |code: &str, minor| Currency::parse(code).map(|c| c.format(minor)).unwrap_or_default();
        assert_eq!(format("USD", 1250), "12.50");
        assert_eq!(format("USD", -5), "-0.05");
        assert_eq!(format("JPY", 1250), "1250");
        assert_eq!(format("KWD", 1), "0.001");
        assert_eq!(format("USD", i64::MIN), "-92233720368547758.08");
    }
}
