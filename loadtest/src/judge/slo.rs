//! A service level objective: terms such as `p99<25ms` that a run has to keep. Pure.

use std::fmt;
use std::str::FromStr;

use hdrhistogram::Histogram;

use crate::report::model::{Histograms, SloResult};

/// The terms, in the order in which they were written.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Slo(Vec<Term>);

#[derive(Clone, Debug, PartialEq)]
struct Term {
    text: String,
    measure: Measure,
    relation: Relation,
    bound: f64,
    /// What a microsecond, or one of what is counted, is in the term's unit.
    unit: f64,
}

/// What a term is about.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Measure {
    Latency(Span, Quantile),
    Count(Counted),
}

/// From the scheduled publish to what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Span {
    /// The broker's confirm.
    Confirm,
    /// The commit.
    Commit,
    /// The receipt of the event.
    Event,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Quantile {
    At(f64),
    Max,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Counted {
    Lost,
    Doubled,
    EventsMissing,
    DeadLettered,
    Rejected,
    RateCommitted,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Relation {
    Less,
    AtMost,
    Equal,
    AtLeast,
    More,
}

/// What is counted.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Counts {
    /// Confirmed messages without an outcome.
    pub(crate) lost: u64,
    /// Payments that were applied more than once.
    pub(crate) doubled: u64,
    /// Outcomes whose event did not come.
    pub(crate) events_missing: u64,
    /// Messages that became no payment.
    pub(crate) dead_lettered: u64,
    /// Payments that were declined.
    pub(crate) rejected: u64,
    /// Outcomes committed per second.
    pub(crate) rate_committed: f64,
}

const SPANS: [(&str, Span); 3] = [("confirm", Span::Confirm), ("commit", Span::Commit), ("event", Span::Event)];
const QUANTILES: [(&str, Quantile); 5] = [
    ("p50", Quantile::At(0.5)),
    ("p90", Quantile::At(0.9)),
    ("p99", Quantile::At(0.99)),
    ("p999", Quantile::At(0.999)),
    ("max", Quantile::Max),
];
const COUNTS: [(&str, Counted); 6] = [
    ("lost", Counted::Lost),
    ("doubled", Counted::Doubled),
    ("events_missing", Counted::EventsMissing),
    ("dead_lettered", Counted::DeadLettered),
    ("rejected", Counted::Rejected),
    ("rate_committed", Counted::RateCommitted),
];
// Longer ones first: "<=" begins with "<".
const RELATIONS: [(&str, Relation); 5] = [
    ("<=", Relation::AtMost),
    (">=", Relation::AtLeast),
    ("<", Relation::Less),
    (">", Relation::More),
    ("=", Relation::Equal),
];
/// Microseconds of each unit of time.
const UNITS: [(&str, f64); 3] = [("us", 1.0), ("ms", 1e3), ("s", 1e6)];

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
        let relation = RELATIONS.iter().find_map(|(sign, relation)| Some((*relation, rest.strip_prefix(sign)?)));
        let Some((relation, value)) = relation else { return Err(wrong("expected a relation".to_owned())) };
        let measure = Measure::named(name.trim()).ok_or_else(|| {
            let (quantiles, counts) = (names(&QUANTILES), names(&COUNTS));
            wrong(format!(
                "unknown measure `{}`, expected {quantiles} (of commit, or behind confirm. commit. event.), or {counts}",
                name.trim()
            ))
        })?;
        let (bound, unit) = measure.bound(value.trim()).map_err(wrong)?;
        Ok(Self { text: text.to_owned(), measure, relation, bound, unit })
    }
}

impl Measure {
    fn named(name: &str) -> Option<Self> {
        if let Some(counted) = find(&COUNTS, name) {
            return Some(Self::Count(counted));
        }
        let (span, quantile) = match name.split_once('.') {
            Some((span, quantile)) => (find(&SPANS, span)?, quantile),
            None => (Span::Commit, name),
        };
        Some(Self::Latency(span, find(&QUANTILES, quantile)?))
    }

    /// The number of a term, and how much its unit is.
    fn bound(self, value: &str) -> Result<(f64, f64), String> {
        let digits = value.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(value.len());
        let (number, unit) = value.split_at(digits);
        let number: f64 = number.parse().map_err(|_| format!("`{value}` does not begin with a number"))?;
        match self {
            Self::Latency(..) => match find(&UNITS, unit.trim()) {
                Some(micros) => Ok((number, 1.0 / micros)),
                None => Err(format!("`{value}` is no time, expected a number with us, ms or s")),
            },
            Self::Count(_) if unit.is_empty() => Ok((number, 1.0)),
            Self::Count(_) => Err(format!("`{value}` has a unit, expected a number alone")),
        }
    }

    /// In microseconds or as a number; `None` if nothing was measured.
    fn measured(self, histograms: &Histograms, counts: &Counts) -> Option<f64> {
        match self {
            Self::Latency(span, quantile) => {
                let micros: &Histogram<u64> = match span {
                    Span::Confirm => &histograms.confirm,
                    Span::Commit => &histograms.commit,
                    Span::Event => &histograms.event,
                };
                let value = match quantile {
                    Quantile::At(quantile) => micros.value_at_quantile(quantile),
                    Quantile::Max => micros.max(),
                };
                (!micros.is_empty()).then_some(value as f64)
            }
            Self::Count(counted) => Some(match counted {
                Counted::Lost => counts.lost as f64,
                Counted::Doubled => counts.doubled as f64,
                Counted::EventsMissing => counts.events_missing as f64,
                Counted::DeadLettered => counts.dead_lettered as f64,
                Counted::Rejected => counts.rejected as f64,
                Counted::RateCommitted => counts.rate_committed,
            }),
        }
    }
}

impl Relation {
    fn holds(self, measured: f64, bound: f64) -> bool {
        match self {
            Self::Less => measured < bound,
            Self::AtMost => measured <= bound,
            Self::Equal => (measured - bound).abs() < f64::EPSILON,
            Self::AtLeast => measured >= bound,
            Self::More => measured > bound,
        }
    }
}

impl Slo {
    /// The first term about a latency that will not be measured.
    pub(crate) fn needs_other_than(&self, measured: &[Span]) -> Option<&str> {
        let missing = |term: &&Term| matches!(term.measure, Measure::Latency(span, _) if !measured.contains(&span));
        self.0.iter().find(missing).map(|term| term.text.as_str())
    }

    /// Which terms hold. One whose latency nothing was measured of does not.
    pub(crate) fn judge(&self, histograms: &Histograms, counts: &Counts) -> Vec<SloResult> {
        let judge = |term: &Term| {
            let measured = term.measure.measured(histograms, counts).map(|measured| measured * term.unit);
            let held = measured.is_some_and(|measured| term.relation.holds(measured, term.bound));
            SloResult { term: term.text.clone(), measured: measured.unwrap_or_default(), held }
        };
        self.0.iter().map(judge).collect()
    }
}

impl fmt::Display for Slo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let terms: Vec<&str> = self.0.iter().map(|term| term.text.as_str()).collect();
        f.write_str(&terms.join(","))
    }
}

fn find<T: Copy>(table: &[(&str, T)], name: &str) -> Option<T> {
    table.iter().find(|(known, _)| *known == name).map(|(_, value)| *value)
}

fn names<T>(table: &[(&str, T)]) -> String {
    table.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 1 to 1000 ms to the commit, nothing to the event.
    fn measured() -> Histograms {
        let mut histograms = Histograms::new();
        (1..=1000).for_each(|millis| histograms.commit.saturating_record(millis * 1000));
        (1..=10).for_each(|micros| histograms.confirm.saturating_record(micros));
        histograms
    }

    fn held(terms: &str) -> Vec<bool> {
        let counts = Counts { dead_lettered: 3, rate_committed: 1500.5, ..Counts::default() };
        let slo: Slo = terms.parse().expect("an objective");
        slo.judge(&measured(), &counts).into_iter().map(|result| result.held).collect()
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
        let measured = slo.judge(&measured(), &Counts::default())[0].measured;
        assert!((measured - 0.9).abs() < 0.01, "{measured}");
    }

    #[test]
    fn a_latency_that_was_not_measured_does_not_hold() {
        assert_eq!(held("event.p99<1s"), [false]);
        let slo: Slo = "lost=0,event.p99<1s".parse().expect("an objective");
        assert_eq!(slo.needs_other_than(&[Span::Commit, Span::Confirm]), Some("event.p99<1s"));
        assert_eq!(slo.needs_other_than(&[Span::Event]), None);
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
