//! A service level objective: terms such as `p99<25ms` that the summary of a run has to keep.

use std::fmt;
use std::str::FromStr;

use serde_json::Value;

use crate::report::model::{SloResult, Summary};

/// The terms, in the order in which they were written.
#[derive(Clone, Debug)]
pub(crate) struct Slo(Vec<Term>);

#[derive(Clone, Debug)]
struct Term {
    text: String,
    /// The span of time that it is about, if it is one.
    span: Option<String>,
    /// Where `summary.json` has what is measured, in milliseconds or as a number.
    place: String,
    holds: fn(f64, f64) -> bool,
    /// In milliseconds, or a number.
    bound: f64,
    /// The unit that the term is written in, per unit of the bound.
    unit: f64,
}

const SPANS: [&str; 3] = ["confirm", "commit", "event"];
const QUANTILES: [&str; 5] = ["p50", "p90", "p99", "p999", "max"];
const RATE: &str = "rate_committed";
const COUNTS: [&str; 6] = ["lost", "doubled", "events_missing", "dead_lettered", "rejected", RATE];

type Relation = (&'static str, fn(f64, f64) -> bool);
// Longer ones first: "<=" begins with "<".
const RELATIONS: [Relation; 5] = [
    ("<=", |measured, bound| measured <= bound),
    (">=", |measured, bound| measured >= bound),
    ("<", |measured, bound| measured < bound),
    (">", |measured, bound| measured > bound),
    ("=", |measured, bound| (measured - bound).abs() < f64::EPSILON),
];
/// Units of time, and how many of them a millisecond has.
const UNITS: [(&str, f64); 3] = [("us", 1e3), ("ms", 1.0), ("s", 1e-3)];

impl FromStr for Slo {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let terms = text.split(',').map(|term| term.trim().parse::<Term>());
        terms.collect::<Result<_, _>>().map(Self)
    }
}

impl FromStr for Term {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = |what: String| format!("term `{text}`: {what}, such as p99<25ms, event.p50<=2s or lost=0");
        let at = text.find(['<', '>', '=']);
        let Some((name, rest)) = at.map(|at| text.split_at(at)) else {
            return Err(wrong("no relation, expected one of < <= = >= >".to_owned()));
        };
        let relation = RELATIONS.iter().find_map(|(sign, holds)| Some((*holds, rest.strip_prefix(sign)?)));
        let Some((holds, value)) = relation else { return Err(wrong("expected a relation".to_owned())) };
        let Some((span, place)) = measure(name.trim()) else {
            let (name, quantiles, counts) = (name.trim(), QUANTILES.join(" "), COUNTS.join(" "));
            let expected = format!("expected {quantiles} (of commit, or behind confirm. commit. event.), or {counts}");
            return Err(wrong(format!("unknown measure `{name}`, {expected}")));
        };
        let (bound, unit) = bound(value.trim(), span.is_some()).map_err(wrong)?;
        Ok(Self { text: text.to_owned(), span, place, holds, bound, unit })
    }
}

/// Returns the span of a measure, if it has one, and its place in the summary.
fn measure(name: &str) -> Option<(Option<String>, String)> {
    let (span, quantile) = name.split_once('.').unwrap_or(("commit", name));
    if name == RATE {
        Some((None, "/rate_committed_per_s".to_owned()))
    } else if COUNTS.contains(&name) {
        Some((None, format!("/{name}")))
    } else if SPANS.contains(&span) && QUANTILES.contains(&quantile) {
        Some((Some(span.to_owned()), format!("/latency_ms/{span}/{quantile}")))
    } else {
        None
    }
}

/// Returns the bound of a term, and its unit.
fn bound(value: &str, is_time: bool) -> Result<(f64, f64), String> {
    let digits = value.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(value.len());
    let (number, unit) = value.split_at(digits);
    let number: f64 = number.parse().map_err(|_| format!("`{value}` does not begin with a number"))?;
    match UNITS.iter().find(|(name, _)| *name == unit.trim()) {
        Some((_, unit)) if is_time => Ok((number / unit, *unit)),
        None if is_time => Err(format!("`{value}` is no time, expected a number with us, ms or s")),
        _ if unit.is_empty() => Ok((number, 1.0)),
        _ => Err(format!("`{value}` has a unit, expected a number alone")),
    }
}

impl Slo {
    /// Returns the first term about a latency that is not among the measured ones.
    pub(crate) fn needs_other_than(&self, measured: &[&str]) -> Option<&str> {
        let missing = |term: &&Term| term.span.as_ref().is_some_and(|span| !measured.contains(&span.as_str()));
        self.0.iter().find(missing).map(|term| term.text.as_str())
    }

    /// Returns which terms hold. One whose latency was not measured does not.
    pub(crate) fn judge(&self, summary: &Summary) -> Vec<SloResult> {
        let summary = serde_json::to_value(summary).unwrap_or_default();
        let judge = |term: &Term| {
            let measured = summary.pointer(&term.place).and_then(figure);
            let held = measured.is_some_and(|measured| (term.holds)(measured, term.bound));
            SloResult { term: term.text.clone(), measured: measured.unwrap_or_default() * term.unit, held }
        };
        self.0.iter().map(judge).collect()
    }
}

/// A number, or the sum of numbers by reason.
fn figure(value: &Value) -> Option<f64> {
    value.as_f64().or_else(|| Some(value.as_object()?.values().filter_map(Value::as_f64).sum()))
}

impl fmt::Display for Slo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let terms: Vec<&str> = self.0.iter().map(|term| term.text.as_str()).collect();
        f.write_str(&terms.join(","))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::model::{Histograms, LatencyMs, Quantiles};

    /// 1 to 1000 ms to the commit, nothing to the event.
    fn summary() -> Summary {
        let mut histograms = Histograms::new();
        (1..=1000).for_each(|millis| histograms.commit.saturating_record(millis * 1000));
        (1..=10).for_each(|micros| histograms.confirm.saturating_record(micros));
        let [confirm, commit] = [&histograms.confirm, &histograms.commit].map(Quantiles::of);
        let latency_ms = LatencyMs { confirm, commit, event: None };
        let dead_lettered = [("malformed".to_owned(), 2), ("oversize".to_owned(), 1)].into();
        Summary { latency_ms, dead_lettered, rate_committed_per_s: 1500.5, ..Summary::default() }
    }

    fn held(terms: &str) -> Vec<bool> {
        let slo: Slo = terms.parse().expect("an objective");
        slo.judge(&summary()).into_iter().map(|result| result.held).collect()
    }

    #[test]
    fn terms_hold_or_do_not() {
        assert_eq!(held("p50<=501ms, p50<499ms, commit.p99<1s, max>999ms, max<0.5s"), [true, false, true, true, false]);
        assert_eq!(held("confirm.p999<=10us,confirm.max<10us"), [true, false]);
        assert_eq!(held("lost=0,dead_lettered=3,dead_lettered<3,rejected>0"), [true, true, false, false]);
        assert_eq!(held("rate_committed>=1500.5,rate_committed>1500.5"), [true, false]);
    }

    #[test]
    fn a_measure_is_told_in_the_unit_of_its_term() {
        let slo: Slo = "p90<2s".parse().expect("an objective");
        let measured = slo.judge(&summary())[0].measured;
        assert!((measured - 0.9).abs() < 0.01, "{measured}");
    }

    #[test]
    fn a_latency_that_was_not_measured_does_not_hold() {
        assert_eq!(held("event.p99<1s"), [false]);
        let slo: Slo = "lost=0,event.p99<1s".parse().expect("an objective");
        assert_eq!(slo.needs_other_than(&["commit", "confirm"]), Some("event.p99<1s"));
        assert_eq!(slo.needs_other_than(&["event"]), None);
    }

    #[test]
    fn a_wrong_term_is_named_with_what_was_expected() {
        for (text, expected) in [
            ("p99", "no relation"),
            ("", "no relation"),
            ("lost=0,p95<3ms", "term `p95<3ms`: unknown measure `p95`, expected p50 p90"),
            ("foo.p99<3ms", "unknown measure `foo.p99`"),
            ("p99<25", "expected a number with us, ms or s"),
            ("p99<25min", "expected a number with us, ms or s"),
            ("p99<fast", "does not begin with a number"),
            ("p99<-1ms", "does not begin with a number"),
            ("lost=0ms", "expected a number alone"),
            ("p99<25ms,,lost=0", "term ``"),
        ] {
            let error = text.parse::<Slo>().expect_err(text);
            assert!(error.contains(expected), "{text}: {error}");
        }
    }

    #[test]
    fn an_objective_reads_as_it_is_shown() {
        let slo: Slo = " p99<25ms , lost=0".parse().expect("an objective");
        assert_eq!(slo.to_string(), "p99<25ms,lost=0");
    }
}
