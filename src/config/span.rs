//! Durations as they are written in the file: a whole number and a unit, `"250ms"`.

use std::time::Duration;

/// The units with their length in milliseconds, longest first.
const UNITS: [(&str, u64); 4] = [("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];

pub(super) const REMEDY: &str = "write a whole number with ms, s, m or h in quotes, such as \"10s\"";

/// Parses `"10s"`, `"250ms"`, `"5m"`, `"1h"`. The error says what is wrong with the text.
pub(super) fn parse(text: &str) -> Result<Duration, String> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    if number.is_empty() {
        return Err("it does not begin with a whole number".to_owned());
    }
    let Some((_, length)) = UNITS.iter().find(|(name, _)| *name == unit) else {
        return Err(match unit {
            "" => "the unit is missing".to_owned(),
            _ if unit.starts_with('.') => "it has a fraction".to_owned(),
            _ => format!("\"{unit}\" is not a unit"),
        });
    };
    let millis = number.parse::<u64>().ok().and_then(|number| number.checked_mul(*length));
    millis.map(Duration::from_millis).ok_or_else(|| "it is too long".to_owned())
}

/// Formats a duration with the longest unit that needs no fraction.
pub(super) fn show(duration: Duration) -> String {
    let millis = duration.as_millis();
    let fits = |length: u64| millis > 0 && millis.is_multiple_of(u128::from(length));
    let (unit, length) = UNITS.into_iter().find(|(_, length)| fits(*length)).unwrap_or(("ms", 1));
    format!("{}{unit}", millis / u128::from(length))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_shown_can_be_read_again() {
        for (text, millis) in [("250ms", 250), ("10s", 10_000), ("90s", 90_000), ("5m", 300_000), ("2h", 7_200_000)] {
            assert_eq!(parse(text), Ok(Duration::from_millis(millis)));
            assert_eq!(show(Duration::from_millis(millis)), text);
        }
        assert_eq!(show(Duration::ZERO), "0ms");
    }

    #[test]
    fn anything_else_is_refused_with_the_reason() {
        for (text, reason) in [
            ("10", "the unit is missing"),
            ("10 s", "not a unit"),
            ("10sec", "not a unit"),
            ("1.5s", "fraction"),
            ("-1s", "whole number"),
            ("", "whole number"),
            ("99999999999999999999s", "too long"),
            ("9999999999999999999h", "too long"),
        ] {
            let error = parse(text).unwrap_err();
            assert!(error.contains(reason), "{text}: {error}");
        }
    }
}
