//! What is read from the results of a run.

use crate::report::model::{Results, Sample};
use crate::report::numbers::decimal;

const MEBIBYTE: f64 = 1_048_576.0;

/// A figure of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Figure {
    /// Outcomes committed per second.
    Committed,
    /// Outcomes committed and heard of, per second: the slower of the two.
    Outcomes,
    /// Half were committed within so long, in milliseconds.
    CommitP50,
    /// 99 % were committed within so long, in milliseconds.
    CommitP99,
    /// The most memory the daemon had, in MiB.
    MaxMemory,
    /// The daemon's memory in the last quarter of the work, to that in the second.
    MemoryGrowth,
    /// From the start of the daemon to its readiness, in milliseconds.
    Ready,
    /// From the kill of a daemon to the next commit, in seconds.
    FirstCommit,
}

/// What a figure is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Unit {
    PerSecond,
    Milliseconds,
    Seconds,
    Mebibytes,
    Ratio,
}

impl Figure {
    /// The figures that results have.
    const OF_RESULTS: [Self; 6] =
        [Self::Committed, Self::Outcomes, Self::CommitP50, Self::CommitP99, Self::MaxMemory, Self::MemoryGrowth];

    pub(super) const fn unit(self) -> Unit {
        match self {
            Self::Committed | Self::Outcomes => Unit::PerSecond,
            Self::CommitP50 | Self::CommitP99 | Self::Ready => Unit::Milliseconds,
            Self::MaxMemory => Unit::Mebibytes,
            Self::MemoryGrowth => Unit::Ratio,
            Self::FirstCommit => Unit::Seconds,
        }
    }

    /// As people read it.
    pub(super) fn show(self, value: f64) -> String {
        self.unit().show(value)
    }

    /// All figures that were measured.
    pub(super) fn all_of(results: &Results) -> Vec<(Self, f64)> {
        Self::OF_RESULTS.into_iter().filter_map(|figure| Some((figure, figure.of(results)?))).collect()
    }

    fn of(self, Results { summary, series, .. }: &Results) -> Option<f64> {
        let commit = summary.latency_ms.commit;
        match self {
            Self::Committed => Some(summary.rate_committed_per_s),
            Self::Outcomes => Some(summary.rate_committed_per_s.min(summary.rate_events_per_s)),
            Self::CommitP50 => commit.map(|times| times.p50),
            Self::CommitP99 => commit.map(|times| times.p99),
            Self::MaxMemory => Some(summary.daemon.max_rss_bytes as f64 / MEBIBYTE),
            Self::MemoryGrowth => memory_growth(series),
            Self::Ready | Self::FirstCommit => None,
        }
    }
}

impl Unit {
    /// As people read it.
    pub(super) fn show(self, value: f64) -> String {
        match self {
            Self::PerSecond => format!("{}/s", decimal(value, 0)),
            Self::Milliseconds => format!("{} ms", decimal(value, 2)),
            Self::Seconds => format!("{} s", decimal(value, 2)),
            Self::Mebibytes => format!("{} MiB", decimal(value, 1)),
            Self::Ratio => format!("×{}", decimal(value, 2)),
        }
    }

    /// What stands behind the number of a target.
    pub(super) const fn suffix(self) -> &'static str {
        match self {
            Self::PerSecond => "/s",
            Self::Milliseconds => " ms",
            Self::Seconds => " s",
            Self::Mebibytes => " MiB",
            Self::Ratio => "",
        }
    }
}

/// The median memory of the last quarter of the work to that of the second. What comes after the
/// work, when a late subscriber reads its events, says nothing of the daemon. `None` of a run that
/// was too short for it.
fn memory_growth(series: &[Sample]) -> Option<f64> {
    let all = series.last()?.settled;
    let end = series.iter().position(|sample| sample.settled == all && sample.outbox_events == 0);
    let work: Vec<f64> =
        series[..end.map_or(series.len(), |end| end + 1)].iter().map(|sample| sample.daemon_rss_bytes as f64).collect();
    let quarter = work.len() / 4;
    let (second, last) = (work.get(quarter..2 * quarter)?, work.get(work.len() - quarter..)?);
    Some(median(last)? / median(second)?)
}

/// The middle value, or the mean of the two in the middle.
pub(super) fn median(values: &[f64]) -> Option<f64> {
    let mut values = values.to_vec();
    values.sort_unstable_by(f64::total_cmp);
    let middle = values.len() / 2;
    let upper = *values.get(middle)?;
    if values.len() % 2 == 1 { Some(upper) } else { Some(f64::midpoint(values[middle - 1], upper)) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::fixture;

    #[test]
    fn the_median_is_in_the_middle() {
        assert_eq!(median(&[]), None);
        assert_eq!(median(&[3.0]), Some(3.0));
        assert_eq!(median(&[9.0, 1.0, 3.0]), Some(3.0));
        assert_eq!(median(&[4.0, 1.0, 3.0, 9.0]), Some(3.5));
    }

    #[test]
    fn a_rate_of_outcomes_is_that_of_the_slower_of_commits_and_events() {
        let mut results = fixture::drain();
        (results.summary.rate_committed_per_s, results.summary.rate_events_per_s) = (31_000.0, 20_000.0);
        assert_eq!(Figure::Outcomes.of(&results), Some(20_000.0));
        assert_eq!(Figure::Committed.of(&results), Some(31_000.0));
    }

    #[test]
    fn a_backlog_has_no_latency() {
        let measured = |results: &Results| Figure::all_of(results).into_iter().map(|(figure, _)| figure).collect();
        let (drained, run): (Vec<_>, Vec<_>) = (measured(&fixture::drain()), measured(&fixture::good_run()));
        assert!(!drained.contains(&Figure::CommitP99) && run.contains(&Figure::CommitP99));
    }

    fn series(memory: &[u64]) -> Vec<Sample> {
        let sample = |(second, rss): (usize, &u64)| Sample {
            settled: second as u64,
            daemon_rss_bytes: *rss,
            ..Sample::default()
        };
        memory.iter().enumerate().map(sample).collect()
    }

    #[test]
    fn memory_grows_from_the_second_quarter_to_the_last() {
        assert_eq!(memory_growth(&series(&[1, 9, 40, 40, 7, 7, 60, 60])), Some(1.5));
        assert_eq!(memory_growth(&series(&[1, 40, 9, 60])), Some(1.5));
        assert_eq!(memory_growth(&series(&[1, 40, 9])), None);
        assert_eq!(memory_growth(&[]), None);
    }

    #[test]
    fn memory_is_not_looked_at_after_the_work() {
        let mut idle = series(&[1, 40, 9, 60]);
        let done = Sample { daemon_rss_bytes: 20, ..idle[3].clone() };
        idle.extend([done.clone(), done.clone(), done]);
        assert_eq!(memory_growth(&idle), Some(1.5));
        // While events wait it still works.
        idle[3].outbox_events = 5;
        assert_eq!(memory_growth(&idle), Some(0.5));
    }
}
