//! The currencies in which accounts can be opened: those that ISO 4217 lists as active, and the
//! operator's own.
//!
//! Nothing else asks this list. An account that is open has its currency, whatever becomes of the code.

use std::fmt;
use std::str::FromStr;

use jiff::Timestamp;
use jiff::civil::{Date, date};
use jiff::tz::Offset;

use super::Currency;

/// Codes that the library lists and that have been withdrawn, each with the first day on which no account can be
/// opened in it. ISO 4217 has them in its List Three, of historic denominations.
///
/// `VES`, which the library calls superseded, is not among them: ISO 4217 lists it as active, beside `VED`.
const WITHDRAWN: [(&str, Date); 5] = [
    ("BGN", date(2026, 1, 1)),
    ("CUC", date(2021, 7, 1)),
    ("HRK", date(2023, 1, 1)),
    ("SLL", date(2024, 1, 1)),
    ("ZWL", date(2024, 9, 1)),
];

/// Codes that are no currency: reserved for tests, and for transactions without one.
const NO_MONEY: [&str; 2] = ["XTS", "XXX"];

/// The currencies in which accounts can be opened.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Currencies {
    added: Vec<AddedCurrency>,
}

impl Currencies {
    /// The active currencies of ISO 4217, and those that the operator has added.
    pub const fn with(added: Vec<AddedCurrency>) -> Self {
        Self { added }
    }

    /// The currencies that the operator has added.
    pub fn added(&self) -> &[AddedCurrency] {
        &self.added
    }

    /// Whether an account can be opened in `currency` at the moment `now`.
    pub fn can_open(&self, currency: Currency, now: Timestamp) -> bool {
        self.find(currency).is_some() || is_active(currency, now)
    }

    /// Returns the number of digits behind the decimal point: the operator's, else ISO 4217's, else 2.
    pub fn exponent(&self, currency: Currency) -> u32 {
        self.find(currency).map_or_else(|| currency.iso_exponent().unwrap_or(2), |added| added.exponent.into())
    }

    /// Formats an amount in minor units as a decimal number, such as `12.50`.
    pub fn format(&self, currency: Currency, minor: i64) -> String {
        let exponent = self.exponent(currency) as usize;
        let digits = format!("{:0width$}", minor.unsigned_abs(), width = exponent + 1);
        let (whole, fraction) = digits.split_at(digits.len() - exponent);
        let sign = if minor < 0 { "-" } else { "" };
        if exponent == 0 { format!("{sign}{whole}") } else { format!("{sign}{whole}.{fraction}") }
    }

    fn find(&self, currency: Currency) -> Option<&AddedCurrency> {
        self.added.iter().find(|added| added.currency == currency)
    }
}

/// Whether ISO 4217 lists the code as active money at that moment.
fn is_active(currency: Currency, now: Timestamp) -> bool {
    let code = currency.as_str();
    let is_withdrawn =
        |(withdrawn, from): &(&str, Date)| *withdrawn == code && Offset::UTC.to_datetime(now).date() >= *from;
    currency.is_listed() && !NO_MONEY.contains(&code) && !WITHDRAWN.iter().any(is_withdrawn)
}

/// A currency that the operator has added, written `BTC:8`: its code and its number of digits behind the decimal
/// point.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AddedCurrency {
    currency: Currency,
    exponent: u8,
}

impl AddedCurrency {
    /// The largest number of digits behind the decimal point. With 12 of them, the largest amount is 1000.
    const MOST_DIGITS: u8 = 12;

    /// The currency's code.
    pub const fn currency(&self) -> Currency {
        self.currency
    }
}

impl FromStr for AddedCurrency {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (code, digits) = text.split_once(':').ok_or("the number of digits is missing")?;
        let currency = Currency::parse(code).ok_or("the code is not three capital letters")?;
        let exponent = digits.parse().ok().filter(|digits| *digits <= Self::MOST_DIGITS);
        let exponent =
            exponent.ok_or_else(|| format!("the digits are not a number from 0 to {}", Self::MOST_DIGITS))?;
        match currency.iso_exponent() {
            Some(iso) if iso != u32::from(exponent) => Err(format!("ISO 4217 gives {currency} {iso} digits")),
            _ => Ok(Self { currency, exponent }),
        }
    }
}

impl fmt::Display for AddedCurrency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.currency, self.exponent)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn code(code: &str) -> Currency {
        Currency::parse(code).expect("a code")
    }

    fn at(time: &str) -> Timestamp {
        time.parse().expect("a time")
    }

    #[test]
    fn accounts_are_opened_in_active_money_only() {
        let iso = Currencies::default();
        let now = at("2026-11-29T00:00:00Z");
        for active in ["USD", "JPY", "EUR", "VES", "VED", "XCG", "XAU", "CHE"] {
            assert!(iso.can_open(code(active), now), "{active}");
        }
        for other in ["QQQ", "HRK", "BGN", "CUC", "SLL", "ZWL", "XTS", "XXX", "DEM", "ANG"] {
            assert!(!iso.can_open(code(other), now), "{other}");
        }
    }

    #[test]
    fn a_code_can_be_opened_until_the_day_on_which_it_is_withdrawn() {
        let iso = Currencies::default();
        assert!(iso.can_open(code("BGN"), at("2025-12-31T23:59:59.999999Z")));
        assert!(!iso.can_open(code("BGN"), at("2026-01-01T00:00:00Z")));
    }

    #[test]
    fn every_code_that_is_withdrawn_or_no_money_is_one_that_the_library_lists() {
        let codes = WITHDRAWN.map(|(code, _)| code).into_iter().chain(NO_MONEY);
        for listed in codes {
            assert!(code(listed).is_listed(), "{listed} needs no entry");
        }
    }

    #[test]
    fn the_operators_own_have_their_digits() {
        let added = ["BTC:8", "HRK:2", "XAU:6", "ABC:0"].map(|text| text.parse().expect("a currency"));
        let own = Currencies::with(added.to_vec());
        assert_eq!(
            own.added().iter().map(ToString::to_string).collect::<Vec<_>>(),
            ["BTC:8", "HRK:2", "XAU:6", "ABC:0"]
        );
        let now = at("2026-11-29T00:00:00Z");
        assert!(["BTC", "HRK", "XAU", "ABC", "USD"].into_iter().all(|own_code| own.can_open(code(own_code), now)));
        assert!(!own.can_open(code("QQQ"), now));
        let shown = ["BTC", "HRK", "XAU", "ABC", "USD", "QQQ"].map(|own_code| own.format(code(own_code), -1_234_567));
        assert_eq!(shown, ["-0.01234567", "-12345.67", "-1.234567", "-1234567", "-12345.67", "-12345.67"]);
        for (wrong, why) in [
            ("BTC", "missing"),
            ("btc:8", "three capital letters"),
            ("BTC:13", "from 0 to 12"),
            ("BTC:-1", "from 0 to 12"),
            ("USD:3", "ISO 4217 gives USD 2 digits"),
        ] {
            let refused = wrong.parse::<AddedCurrency>().expect_err("refused");
            assert!(refused.contains(why), "{wrong}: {refused}");
        }
    }

    #[test]
    fn amounts_are_written_with_the_currencys_exponent() {
        let format = |of: &str, minor| Currencies::default().format(code(of), minor);
        assert_eq!(format("USD", 1250), "12.50");
        assert_eq!(format("USD", -5), "-0.05");
        assert_eq!(format("JPY", 1250), "1250");
        assert_eq!(format("KWD", 1), "0.001");
        assert_eq!(format("HRK", 1250), "12.50");
        assert_eq!(format("USD", i64::MIN), "-92233720368547758.08");
    }
}
