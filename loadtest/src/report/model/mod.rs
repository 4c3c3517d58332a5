//! What a run measured: the data between those who measure and those who report.
//!
//! Serialised, [`Summary`] is `summary.json` and a [`Sample`] is a line of `series.csv`. Both
//! are read by other programs: a change that a reader would notice needs a new
//! [`SCHEMA_VERSION`], a new field does not.

mod histograms;
mod sample;
mod summary;

use hdrhistogram::Histogram;

pub(crate) use histograms::Histograms;
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
