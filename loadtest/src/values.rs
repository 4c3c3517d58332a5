//! What can be written for a value: rates, shares, times.

use std::net::{SocketAddr, ToSocketAddrs};
use std::time::Duration;

use clap::ValueEnum;

/// Returns what is written for a value of an enumeration.
pub(crate) fn name(value: impl ValueEnum) -> String {
    value.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
}

/// `--rate`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Rate {
    /// Per second.
    PerSecond(f64),
    /// As fast as the broker confirms.
    Max,
}

/// More is a slip of the finger: no single queue takes it.
const HIGHEST_RATE: f64 = 1e6;

/// `max`, or a number per second.
pub(crate) fn rate(text: &str) -> Result<Rate, String> {
    if text == "max" {
        return Ok(Rate::Max);
    }
    let number = text.strip_suffix("/s").unwrap_or(text);
    let rate = per_second(number).filter(|rate| *rate > 0.0);
    rate.map(Rate::PerSecond)
        .ok_or_else(|| format!("expected max, or messages per second above 0 and up to {HIGHEST_RATE}, such as 2000"))
}

/// A number per second that is no word.
pub(crate) fn rate_per_second(text: &str) -> Result<f64, String> {
    match rate(text)? {
        Rate::PerSecond(rate) => Ok(rate),
        Rate::Max => Err("expected a number per second, such as 2000".to_owned()),
    }
}

/// A rate, in messages per second.
pub(crate) fn per_second(text: &str) -> Option<f64> {
    text.trim().parse().ok().filter(|rate| (0.0..=HIGHEST_RATE).contains(rate))
}

/// A whole number of ms, s or m.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let millis = match unit {
        "ms" => 1,
        "s" => 1000,
        "m" => 60_000,
        _ => 0,
    };
    let duration = number.parse::<u64>().ok().and_then(|number| number.checked_mul(millis));
    match duration {
        Some(millis @ 1..=86_400_000) => Ok(Duration::from_millis(millis)),
        _ => Err("expected a time above 0 and up to a day with ms, s or m, such as 30s".to_owned()),
    }
}

fn fraction(text: &str) -> Option<f64> {
    match text.strip_suffix('%') {
        Some(percent) => percent.trim().parse().ok().map(|percent: f64| percent / 100.0),
        None => text.parse().ok(),
    }
}

/// A percentage or a fraction, as a fraction below 1.
pub(crate) fn share(text: &str) -> Result<f64, String> {
    let share = fraction(text).filter(|share| (0.0..1.0).contains(share));
    share
        .ok_or_else(|| "expected a share below the whole, as a percentage or a fraction, such as 1% or 0.01".to_owned())
}

/// A percentage or a fraction, as a fraction up to 1.
pub(crate) fn part(text: &str) -> Result<f64, String> {
    let part = fraction(text).filter(|part| (0.0..=1.0).contains(part));
    part.ok_or_else(|| "expected a share up to the whole, as a percentage or a fraction, such as 1% or 1".to_owned())
}

/// A fraction above 0, up to the whole.
pub(crate) fn scale(text: &str) -> Result<f64, String> {
    let scale = text.parse().ok().filter(|scale| *scale > 0.0 && *scale <= 1.0);
    scale.ok_or_else(|| "expected a part above 0 and up to 1, such as 0.01".to_owned())
}

/// A percentage or a fraction above 0.
pub(crate) fn precision(text: &str) -> Result<f64, String> {
    let expected = |_| "expected a share above 0 and up to a half, such as 5% or 0.05".to_owned();
    let precision = share(text).map_err(expected)?;
    if precision > 0.0 && precision <= 0.5 { Ok(precision) } else { Err(expected(String::new())) }
}

/// A number of something.
pub(crate) fn at_least_one(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(0) => Err("expected at least 1".to_owned()),
        Ok(count) => Ok(count),
        Err(error) => Err(format!("{error}")),
    }
}

/// Ids are numbered with 32 bits.
pub(crate) fn messages(text: &str) -> Result<usize, String> {
    const MOST: usize = 1_000_000_000;
    let count = at_least_one(text)?;
    if count <= MOST { Ok(count) } else { Err(format!("expected at most {MOST}")) }
}

/// `host:port`, or the URL of it.
pub(crate) fn address(text: &str) -> Result<SocketAddr, String> {
    let bare = text.strip_prefix("http://").unwrap_or(text).trim_end_matches('/');
    let found = bare.to_socket_addrs().ok().and_then(|mut found| found.next());
    found.ok_or_else(|| "expected the address of a daemon's admin server, such as http://127.0.0.1:9464".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_per_second() {
        assert_eq!(rate("2000"), Ok(Rate::PerSecond(2000.0)));
        assert_eq!(rate("0.5/s"), Ok(Rate::PerSecond(0.5)));
        assert_eq!(rate("max"), Ok(Rate::Max));
        for text in ["0", "-1", "fast", "nan", "inf", "2e6", ""] {
            assert!(rate(text).is_err_and(|error| error.contains("such as 2000")), "{text}");
        }
    }

    #[test]
    fn shares_are_percentages_or_fractions() {
        assert_eq!((share("1%"), share("0.01"), share("0")), (Ok(0.01), Ok(0.01), Ok(0.0)));
        for text in ["1", "100%", "-1%", "x", "%", "nan"] {
            assert!(share(text).is_err_and(|error| error.contains("such as 1% or 0.01")), "{text}");
        }
        assert_eq!((part("100%"), part("1"), part("0.5%")), (Ok(1.0), Ok(1.0), Ok(0.005)));
        assert!(part("101%").is_err() && part("-1").is_err() && part("nan").is_err());
        assert_eq!(precision("5%"), Ok(0.05));
        assert!(precision("0").is_err() && precision("80%").is_err());
    }

    #[test]
    fn times_have_a_unit() {
        assert_eq!(duration("30s"), Ok(Duration::from_secs(30)));
        assert_eq!((duration("250ms"), duration("2m")), (Ok(Duration::from_millis(250)), Ok(Duration::from_secs(120))));
        for text in ["30", "0s", "s", "1h", "-3s", "99999999999999999999s"] {
            assert!(duration(text).is_err_and(|error| error.contains("such as 30s")), "{text}");
        }
    }

    #[test]
    fn an_admin_server_is_an_address_or_its_url() {
        let expected = Ok(SocketAddr::from(([127, 0, 0, 1], 9464)));
        assert_eq!((address("127.0.0.1:9464"), address("http://127.0.0.1:9464/")), (expected.clone(), expected));
        assert!(address("127.0.0.1").is_err());
    }
}
