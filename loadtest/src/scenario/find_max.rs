//! The highest constant rate that keeps an objective.

use std::fmt;

use anyhow::Result;
use serde::Serialize;

use super::{Job, Order, SearchRange, run};
use crate::load::Pace;
use crate::progress;
use crate::report::model::{Machine, Quantiles, Summary};
use crate::report::numbers::count;
use crate::results;
use crate::rig::Rig;

#[derive(Debug, Serialize)]
pub(crate) struct Found {
    /// The highest rate that kept the objective, per second; `None` if none did.
    pub(crate) rate_per_s: Option<f64>,
    pub(crate) slo: String,
    pub(crate) because: End,
    pub(crate) steps: Vec<Step>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum End {
    /// The next higher rate that was tried does not keep the objective.
    Bracketed,
    /// The lowest rate does not keep the objective.
    LowestIsTooHigh,
    HighestIsKept,
    /// The load generator could not keep to the schedule: what the daemon could do is not known.
    GeneratorWasTheBottleneck,
    /// A payment was lost, applied twice or not as it had to be: a rate is then no merit.
    VerdictFailed,
}

#[derive(Debug, Serialize)]
pub(crate) struct Step {
    /// Per second.
    pub(crate) rate_per_s: f64,
    /// What was committed, per second.
    pub(crate) committed_per_s: f64,
    pub(crate) commit_ms: Option<Quantiles>,
    pub(crate) kept: bool,
    pub(crate) broken: Vec<String>,
    pub(crate) generator_was_the_bottleneck: bool,
    pub(crate) failed_checks: Vec<String>,
}

/// Doubles the rate until one is too high, then halves the distance. Pure.
#[derive(Clone, Copy, Debug)]
struct Search {
    range: SearchRange,
    kept: Option<f64>,
    broken: Option<f64>,
}

impl Search {
    fn new(range: SearchRange) -> Self {
        Self { range, kept: None, broken: None }
    }

    /// The next rate to try, or why there is none.
    fn next(&self) -> Result<f64, End> {
        let SearchRange { from, to, precision } = self.range;
        match (self.kept, self.broken) {
            (None, None) => Ok(from),
            (None, Some(_)) => Err(End::LowestIsTooHigh),
            (Some(kept), None) if kept >= to => Err(End::HighestIsKept),
            (Some(kept), None) => Ok((2.0 * kept).min(to)),
            (Some(kept), Some(broken)) if broken - kept <= precision * kept => Err(End::Bracketed),
            (Some(kept), Some(broken)) => Ok(f64::midpoint(kept, broken)),
        }
    }

    fn tried(&mut self, rate: f64, kept: bool) {
        let bound = if kept { &mut self.kept } else { &mut self.broken };
        *bound = Some(rate);
    }
}

impl Step {
    fn of(rate: f64, summary: &Summary) -> Self {
        let broken = summary.slo.iter().filter(|term| !term.held);
        let failed = summary.checks.iter().filter_map(|check| Some((&check.holds, check.found.as_ref()?)));
        Self {
            rate_per_s: rate,
            committed_per_s: summary.rate_committed_per_s,
            commit_ms: summary.latency_ms.commit,
            kept: summary.passed,
            broken: broken.map(|term| format!("{} ({:.3})", term.term, term.measured)).collect(),
            generator_was_the_bottleneck: summary.generator_was_the_bottleneck,
            failed_checks: failed.map(|(holds, found)| format!("{holds}: {found}")).collect(),
        }
    }

    fn ends(&self) -> Option<End> {
        if !self.failed_checks.is_empty() {
            return Some(End::VerdictFailed);
        }
        // Kept or not: it says nothing of the daemon at that rate.
        self.generator_was_the_bottleneck.then_some(End::GeneratorWasTheBottleneck)
    }
}

/// Tries rates until the highest is found, all of them on the same daemons. To be called on the
/// main thread.
pub(crate) async fn find_max(rig: &Rig, job: &Job, range: SearchRange, machine: &Machine) -> Result<Found> {
    let mut fleet = rig.crew().await?;
    let mut search = Search::new(range);
    let mut steps = Vec::new();
    let because = loop {
        let rate = match search.next() {
            // Whole numbers: they are to be read.
            Ok(rate) => rate.round().max(1.0),
            Err(end) => break end,
        };
        let order = Order { pace: Pace::constant(rate), ..job.order.clone() };
        let job = Job { order, ..job.clone() };
        let outcome = run::step(rig, &job.order, &mut fleet).await?;
        let results = results::assemble(&job, machine, &outcome);
        if let Some(out) = &job.output.out {
            results.write(&out.join(format!("step-{:02}-{rate}", steps.len() + 1)))?;
        }
        let step = Step::of(rate, &results.summary);
        tell(&step);
        let (end, kept) = (step.ends(), step.kept);
        steps.push(step);
        match end {
            Some(end) => break end,
            None => search.tried(rate, kept),
        }
    };
    fleet.stop().await?;
    let rate_per_s = search.kept.filter(|_| because != End::VerdictFailed);
    let slo = job.output.slo.as_ref().map(ToString::to_string).unwrap_or_default();
    Ok(Found { rate_per_s, slo, because, steps })
}

/// A line for people, while it goes on.
fn tell(step: &Step) {
    let mark = if step.kept { '✓' } else { '✗' };
    let p99 = step.commit_ms.map_or_else(|| "-".to_owned(), |times| format!("{:.2} ms", times.p99));
    let rate = count(step.rate_per_s as u64);
    let reasons = step.broken.iter().chain(&step.failed_checks).cloned().collect::<Vec<_>>().join("; ");
    let late = if step.generator_was_the_bottleneck { " (the load generator was late)" } else { "" };
    progress::say(&format!("  {mark} {rate}/s: commit p99 {p99}{late} {reasons}"));
}

impl Found {
    /// Whether there is a rate that keeps the objective.
    pub(crate) fn passed(&self) -> bool {
        self.rate_per_s.is_some()
    }
}

/// The result as a line for people.
impl fmt::Display for Found {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let because = match self.because {
            End::Bracketed => "the next higher rate does not keep it",
            End::LowestIsTooHigh => "the lowest rate does not keep it",
            End::HighestIsKept => "no higher rate was to be tried",
            End::GeneratorWasTheBottleneck => "the load generator was the bottleneck: the daemon may do more",
            End::VerdictFailed => "a check failed: see above",
        };
        match self.rate_per_s {
            Some(rate) => writeln!(f, "\n  {}/s keeps {}; {because}", count(rate as u64), self.slo),
            None => writeln!(f, "\n  no rate keeps {}; {because}", self.slo),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Searches where everything up to `capacity` is kept; returns the rates and the end.
    fn search(from: f64, to: f64, precision: f64, capacity: f64) -> (Vec<f64>, End, Option<f64>) {
        let mut search = Search::new(SearchRange { from, to, precision });
        let mut tried = Vec::new();
        loop {
            match search.next() {
                Ok(rate) => {
                    tried.push(rate);
                    search.tried(rate, rate <= capacity);
                }
                Err(end) => return (tried, end, search.kept),
            }
        }
    }

    #[test]
    fn the_highest_rate_is_found_to_the_precision() {
        let (tried, end, kept) = search(1000.0, 50_000.0, 0.05, 13_700.0);
        assert_eq!(tried[..5], [1000.0, 2000.0, 4000.0, 8000.0, 16_000.0]);
        assert_eq!(end, End::Bracketed);
        let kept = kept.expect("a rate");
        assert!((13_700.0 / 1.05..=13_700.0).contains(&kept), "{kept}");
    }

    #[test]
    fn a_search_ends_at_its_bounds() {
        assert_eq!(search(100.0, 1000.0, 0.1, 50.0), (vec![100.0], End::LowestIsTooHigh, None));
        let (tried, end, kept) = search(100.0, 300.0, 0.1, 1000.0);
        assert_eq!((tried, end, kept), (vec![100.0, 200.0, 300.0], End::HighestIsKept, Some(300.0)));
    }
}
