//! Figures as people read them, with their units. What is not a number is a dash.

use super::model::SloResult;

const NONE: &str = "–";

/// A number with its thousands set apart.
pub(crate) fn count(number: u64) -> String {
    indicatif::HumanCount(number).to_string()
}

pub(crate) fn decimal(number: f64, decimals: usize) -> String {
    if !number.is_finite() {
        return NONE.to_owned();
    }
    let text = format!("{:.decimals$}", number.abs());
    let (whole, fraction) = text.split_once('.').unwrap_or((&text, ""));
    let sign = if number < 0.0 && text.bytes().any(|digit| (b'1'..=b'9').contains(&digit)) { "-" } else { "" };
    let point = if fraction.is_empty() { "" } else { "." };
    let whole = whole.parse().map_or_else(|_| whole.to_owned(), count);
    format!("{sign}{whole}{point}{fraction}")
}

/// Something per second.
pub(super) fn rate(per_second: f64) -> String {
    let decimals = if per_second < 100.0 { 1 } else { 0 };
    format!("{}/s", decimal(per_second, decimals))
}

/// A time in milliseconds: short ones with decimals, long ones in seconds.
pub(super) fn millis(millis: f64) -> String {
    match millis {
        short if short < 10.0 => format!("{} ms", decimal(short, 2)),
        short if short < 100.0 => format!("{} ms", decimal(short, 1)),
        long if long >= 10_000.0 => seconds(long / 1e3),
        other => format!("{} ms", decimal(other, 0)),
    }
}

/// A time in seconds, from two minutes on in minutes.
pub(super) fn seconds(seconds: f64) -> String {
    if seconds < 120.0 || !seconds.is_finite() {
        return format!("{} s", decimal(seconds, 1));
    }
    let whole = seconds.round() as u64;
    format!("{} min {:02} s", count(whole / 60), whole % 60)
}

/// A time since the start as a clock shows it: `1:05`.
pub(super) fn clock(seconds: f64) -> String {
    let whole = seconds.round() as u64;
    let (hours, minutes, seconds) = (whole / 3600, whole / 60 % 60, whole % 60);
    if hours > 0 { format!("{hours}:{minutes:02}:{seconds:02}") } else { format!("{minutes}:{seconds:02}") }
}

pub(super) fn bytes(bytes: u64) -> String {
    match bytes as f64 {
        small if small < 1e6 => format!("{} kB", decimal(small / 1e3, 0)),
        medium if medium < 1e9 => format!("{} MB", decimal(medium / 1e6, 0)),
        large => format!("{} GB", decimal(large / 1e9, 1)),
    }
}

/// What was measured for a term, in the unit that stands behind the term's own number.
pub(super) fn measured(result: &SloResult) -> String {
    let unit = result.term.rsplit(|c: char| c.is_ascii_digit()).next().unwrap_or_default().trim();
    let space = if unit.starts_with(char::is_alphabetic) { " " } else { "" };
    // What is counted has no unit.
    format!("{}{space}{unit}", decimal(result.measured, if unit.is_empty() { 0 } else { 2 }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_measured_has_the_unit_of_its_term() {
        let terms = ["p99<25ms", "rate>400/s", "lost=0", "p50 < 1.5 s"];
        let measured = terms.map(|term| measured(&SloResult { term: term.to_owned(), measured: 2.0, held: true }));
        assert_eq!(measured, ["2.00 ms", "2.00/s", "2", "2.00 s"]);
    }

    #[test]
    fn figures_have_as_many_digits_as_they_are_worth() {
        let times = [0.0, 0.042, 9.994, 12.34, 99.96, 1234.4, 61_000.0, 600_400.0].map(millis);
        assert_eq!(
            times,
            ["0.00 ms", "0.04 ms", "9.99 ms", "12.3 ms", "100.0 ms", "1,234 ms", "61.0 s", "10 min 00 s"]
        );
        assert_eq!([12.34, 1999.6].map(rate), ["12.3/s", "2,000/s"]);
        assert_eq!([900, 143_400_000, 25_000_000_000].map(bytes), ["1 kB", "143 MB", "25.0 GB"]);
        assert_eq!([5.0, 65.0, 3_725.0].map(clock), ["0:05", "1:05", "1:02:05"]);
    }

    #[test]
    fn what_is_not_a_number_is_a_dash() {
        assert_eq!(rate(f64::NAN), "–/s");
        assert_eq!(millis(f64::INFINITY), "– s");
    }

    #[test]
    fn a_sign_stands_only_before_what_is_not_zero() {
        assert_eq!(decimal(-1234.5, 1), "-1,234.5");
        assert_eq!(decimal(-0.001, 1), "0.0");
    }
}
