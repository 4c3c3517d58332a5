//! What a run measured: the data between those who measure and those who report.
//!
//! Serialised, [`Summary`] is `summary.json` and a [`Sample`] is a line of `series.csv`. Both
//! are read by other programs: a change that a reader would notice needs a new
//! [`SCHEMA_VERSION`], a new field does not.

mod sample;
mod summary;

use hdrhistogram::Histogram;

pub(crate) use sample::{Sample, Snapshot};
pub(crate) use summary::{Audit, Check, LatencyMs, Load, Machine, ProcessUse, Quantiles, SloResult, Summary};

/// Of `summary.json`. Grows when a field goes, or changes its name, its unit or its meaning.
pub(crate) const SCHEMA_VERSION: u32 = 1;

/// The longest time that a histogram tells from a longer one: an hour.
const LONGEST_MICROS: u64 = 3_600_000_000;
/// How many digits of a time a histogram keeps: it is off by 0.1 % at most.
const DIGITS: u8 = 3;

#[derive(Clone, Debug)]
pub(crate) struct Results {
    pub(crate) summary: Summary,
    /// A sample for every second of the run, in order.
    pub(crate) series: Vec<Sample>,
    pub(crate) histograms: Histograms,
}

/// A histogram of microseconds, up to an hour; record with `saturating_record`.
pub(crate) fn empty_histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, LONGEST_MICROS, DIGITS).expect("constant bounds that are in order")
}

/// The latencies of all messages, in microseconds from the scheduled publish.
#[derive(Clone, Debug)]
pub(crate) struct Histograms {
    pub(crate) confirm: Histogram<u64>,
    pub(crate) commit: Histogram<u64>,
    pub(crate) event: Histogram<u64>,
    pub(crate) schedule_lag: Histogram<u64>,
}

impl Histograms {
    pub(crate) fn new() -> Self {
        Self {
            confirm: empty_histogram(),
            commit: empty_histogram(),
            event: empty_histogram(),
            schedule_lag: empty_histogram(),
        }
    }
}

impl Quantiles {
    /// Of a histogram of microseconds; `None` if it is empty.
    pub(crate) fn of(micros: &Histogram<u64>) -> Option<Self> {
        let at = |quantile| millis(micros.value_at_quantile(quantile));
        (!micros.is_empty()).then(|| Self {
            p50: at(0.5),
            p90: at(0.9),
            p99: at(0.99),
            p999: at(0.999),
            max: millis(micros.max()),
            count: micros.len(),
        })
    }
}

fn millis(micros: u64) -> f64 {
    micros as f64 / 1e3
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_of_microseconds_are_milliseconds() {
        let mut micros = empty_histogram();
        assert_eq!(Quantiles::of(&micros), None);
        (1..=1000).for_each(|value| micros.saturating_record(value));
        let quantiles = Quantiles::of(&micros).expect("not empty");
        let Quantiles { p50, p90, p99, p999, max, count } = quantiles;
        assert_eq!((p50, p90, p99, p999, max, count), (0.5, 0.9, 0.99, 0.999, 1.0, 1000));
    }

    #[test]
    fn a_time_beyond_the_longest_counts_as_the_longest() {
        let mut micros = empty_histogram();
        micros.saturating_record(10 * LONGEST_MICROS);
        let longest = Quantiles::of(&micros).expect("not empty").max;
        assert!((3.6e6..3.61e6).contains(&longest), "{longest} ms");
    }
}
