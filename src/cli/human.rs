//! Parses values of the command line and formats values for people.

use std::time::Duration;

use jiff::{Span, Timestamp, Zoned};
use settled_core::contract::{AccountName, Currencies, Currency};
use settled_store::queries::payment::StoredTask;

/// Formats an amount with its currency's decimal point, or in minor units if the currency is unknown.
pub(super) fn amount(currencies: &Currencies, currency: Option<&str>, minor: i64) -> String {
    let currency = currency.and_then(Currency::parse);
    currency.map_or_else(|| minor.to_string(), |currency| currencies.format(currency, minor))
}

/// Formats a time to the millisecond.
pub(super) fn time(time: Timestamp) -> String {
    format!("{time:.3}")
}

/// Formats a time span by its largest unit: "5s", "12m", "3h", "4d".
pub(super) fn age(seconds: f64) -> String {
    let units = [(86_400.0, "d"), (3_600.0, "h"), (60.0, "m")];
    let (size, unit) = units.into_iter().find(|(size, _)| seconds >= *size).unwrap_or((1.0, "s"));
    format!("{:.0}{unit}", (seconds / size).floor())
}

pub(super) fn or_dash<T: ToString>(value: Option<T>) -> String {
    value.map_or_else(|| "-".to_owned(), |value| value.to_string())
}

/// Formats a count with its noun: "1 row", "2 rows".
pub(super) fn counted(count: impl TryInto<i64>, noun: &str) -> String {
    let count = count.try_into().unwrap_or(i64::MAX);
    format!("{count} {noun}{}", if count == 1 { "" } else { "s" })
}

pub(super) fn account_name(text: &str) -> Result<AccountName, String> {
    AccountName::parse(text).ok_or_else(|| format!("expected {}", AccountName::EXPECTED))
}

/// Parses a currency code. The daemon decides whether accounts can be opened in it.
pub(super) fn currency(text: &str) -> Result<Currency, String> {
    Currency::parse(text).ok_or_else(|| "expected three capital letters, an ISO 4217 code".to_owned())
}

/// Parses a time, or how long ago it was.
pub(super) fn since(text: &str) -> Result<Timestamp, String> {
    if let Ok(time) = text.parse() {
        return Ok(time);
    }
    let ago: Span = text
        .parse()
        .map_err(|_| "expected a time such as 2025-01-31T12:00:00Z, or how long ago: 90s, 15m, 2h, 1d".to_owned())?;
    Zoned::now().checked_sub(ago.abs()).map(|then| then.timestamp()).map_err(|error| error.to_string())
}

/// The longest wait. A much longer one could overflow a clock.
const LONGEST_WAIT: Duration = Duration::from_secs(366 * 24 * 3600);

/// Parses a wait: `30s`, `2m`; a plain number is seconds.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    let duration = match text.parse() {
        Ok(seconds) => Some(Duration::from_secs(seconds)),
        Err(_) => text.parse::<jiff::SignedDuration>().ok().and_then(|duration| duration.try_into().ok()),
    };
    let duration = duration.filter(|duration| *duration <= LONGEST_WAIT);
    duration.ok_or_else(|| "expected how long to wait, up to a year: 500ms, 30s, 2m".to_owned())
}

/// Formats the state, of a rejected task with the reason.
pub(super) fn state(stored: &StoredTask) -> String {
    match stored.rejection {
        None => stored.state.name().to_owned(),
        Some(rejection) => format!("rejected: {} ({})", rejection.name(), rejection.iso_code()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_a_time_or_how_long_ago_it_was() {
        assert_eq!(since("1970-01-01T00:00:00Z"), Ok(Timestamp::UNIX_EPOCH));
        let day = since("1d").expect("a duration");
        assert!(day < Timestamp::now() - jiff::SignedDuration::from_hours(22), "{day}");
        assert!(since("yesterday").is_err());
    }

    #[test]
    fn a_wait_is_a_duration_or_seconds() {
        assert_eq!(duration("2m"), Ok(Duration::from_secs(120)));
        assert_eq!(duration("5"), Ok(Duration::from_secs(5)));
        assert!(duration("-5s").is_err());
        assert!(duration("soon").is_err());
        for endless in ["18446744073709551615", "9000000000h"] {
            assert!(duration(endless).is_err_and(|error| error.contains("up to a year")), "{endless}");
        }
    }

    #[test]
    fn an_age_has_one_unit() {
        let shown = [0.4, 59.9, 60.0, 7_199.0, 86_400.0].map(age);
        assert_eq!(shown, ["0s", "59s", "1m", "1h", "1d"]);
    }

    #[test]
    fn one_is_singular() {
        assert_eq!(counted(1, "check"), "1 check");
        assert_eq!(counted(2_usize, "check"), "2 checks");
    }
}
