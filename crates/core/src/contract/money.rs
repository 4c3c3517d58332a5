//! Money: bounds of amounts in minor units, and currency codes.

use std::fmt;

/// The largest amount of one payment, in minor units.
pub const MAX_AMOUNT: i64 = 1_000_000_000_000_000;

/// The largest absolute balance of an account, in minor units. No sum of a balance and an amount overflows an `i64`.
pub const MAX_BALANCE: i64 = 1_000_000_000_000_000_000;

/// A currency code: three capital letters. [`Currencies`](super::Currencies) decides whether accounts can be opened in
/// it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Currency([u8; 3]);

impl Currency {
    /// Parses a code. Returns `None` unless it is three capital letters.
    pub fn parse(code: &str) -> Option<Self> {
        let bytes: [u8; 3] = code.as_bytes().try_into().ok()?;
        bytes.iter().all(u8::is_ascii_uppercase).then_some(Self(bytes))
    }

    /// Returns the three letters.
    pub fn as_str(&self) -> &str {
        // Only capital letters get in.
        std::str::from_utf8(&self.0).unwrap_or_default()
    }

    /// Whether the library lists the code for ISO 4217, active or not.
    pub(super) fn is_listed(self) -> bool {
        iso_currency::Currency::from_code(self.as_str()).is_some()
    }

    /// Returns the number of digits behind the decimal point, if ISO 4217 has one for the currency.
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
