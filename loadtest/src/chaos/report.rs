//! What a run came to, for people and for programs.

use std::fmt::{self, Write as _};

use comfy_table::presets::NOTHING;
use comfy_table::{CellAlignment, Table};
use serde::Serialize;

use super::checks::{kept, promise};
use super::fault::Fault;
use super::record::Struck;
use super::schedule::Strike;
use crate::report::model::Check;
use crate::report::numbers::count;

#[derive(Debug, Serialize)]
pub(crate) struct Report {
    pub(super) tool_version: &'static str,
    pub(super) command: String,
    pub(super) seed: u64,
    pub(super) daemons: usize,
    /// How long messages were published, in seconds.
    pub(super) duration_s: f64,
    pub(super) published: u64,
    pub(super) confirmed: u64,
    /// Messages per second that were published and confirmed.
    pub(super) rate_per_s: f64,
    pub(super) connections: u64,
    pub(super) settled: u64,
    pub(super) rejected: u64,
    pub(super) dead_lettered: u64,
    pub(super) events: u64,
    pub(super) events_received: u64,
    pub(super) lost: u64,
    pub(super) doubled: u64,
    pub(super) events_missing: u64,
    pub(super) deadlocks: usize,
    pub(super) replayed: usize,
    /// Commits without an answer, whose outcome was looked up.
    pub(super) looked_up: u64,
    pub(super) faults: Vec<Tried>,
    pub(super) strikes: Vec<Struck>,
    pub(super) checks: Vec<Check>,
    pub(super) passed: bool,
}

#[derive(Debug, Serialize)]
pub(super) struct Tried {
    fault: Fault,
    /// How often it was to strike, and did.
    planned: usize,
    count: usize,
    in_flight_least: u64,
    /// Until it was noticed, where that was waited for.
    found_worst_s: Option<f64>,
    /// Until a broker that was away answered for its queue.
    served_median_s: Option<f64>,
    served_worst_s: Option<f64>,
    recovered_median_s: Option<f64>,
    recovered_worst_s: Option<f64>,
    /// Until a daemon had ended that was asked to.
    exit_worst_s: Option<f64>,
    /// What is promised, and whether it was kept each time.
    promised: String,
    kept: bool,
}

impl Tried {
    /// Every fault of a schedule, with what came of it.
    pub(super) fn all(strikes: &[Strike], struck: &[Struck]) -> Vec<Self> {
        let mut faults: Vec<Fault> = strikes.iter().map(|strike| strike.fault).collect();
        faults.sort_unstable();
        faults.dedup();
        let planned = |fault| strikes.iter().filter(|strike| strike.fault == fault).count();
        faults.into_iter().map(|fault| Self::of(fault, planned(fault), struck)).collect()
    }

    fn of(fault: Fault, planned: usize, struck: &[Struck]) -> Self {
        let counted: Vec<&Struck> = struck.iter().filter(|struck| struck.fault == fault && struck.counts()).collect();
        let sorted = |figure: fn(&Struck) -> Option<f64>| {
            let mut figures: Vec<f64> = counted.iter().filter_map(|one| figure(one)).collect();
            figures.sort_by(f64::total_cmp);
            figures
        };
        let worst = |figure: fn(&Struck) -> Option<f64>| sorted(figure).last().copied();
        let (served, recovered) = (sorted(|struck| struck.served_s), sorted(|struck| struck.recovered_s));
        Self {
            fault,
            planned,
            count: counted.len(),
            in_flight_least: counted.iter().map(|struck| struck.in_flight).min().unwrap_or_default(),
            found_worst_s: worst(|struck| struck.found_s),
            served_median_s: served.get(served.len() / 2).copied(),
            served_worst_s: served.last().copied(),
            recovered_median_s: recovered.get(recovered.len() / 2).copied(),
            recovered_worst_s: recovered.last().copied(),
            exit_worst_s: worst(|struck| Some(struck.exit?.after_s)),
            promised: promise(fault),
            kept: counted.iter().all(|struck| kept(struck)),
        }
    }
}

impl Report {
    /// Adds a check that could not be made before, and passes the verdict again.
    pub(super) fn close(&mut self, check: Check) {
        self.checks.push(check);
        self.passed = self.checks.iter().all(|check| check.found.is_none());
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [published, confirmed, settled, rejected, dead, events, received] = [
            self.published,
            self.confirmed,
            self.settled,
            self.rejected,
            self.dead_lettered,
            self.events,
            self.events_received,
        ]
        .map(count);
        writeln!(
            f,
            "\n  {published} messages published in {:.0} s by a system that had to connect {} times, {confirmed} \
             confirmed, {:.0} per second\n  {settled} settled, {rejected} rejected, {dead} dead letters; {events} \
             events, {received} received\n  {} lost, {} doubled, {} events missing, {} deadlocks; {} commits looked up; {} steps replayed\n",
            self.duration_s,
            self.connections,
            self.rate_per_s,
            self.lost,
            self.doubled,
            self.events_missing,
            self.deadlocks,
            self.looked_up,
            count(self.replayed as u64)
        )?;
        writeln!(f, "{}\n", table(&self.faults))?;
        for Check { holds, found } in &self.checks {
            writeln!(f, "  {} {holds}", if found.is_none() { "✓" } else { "✗" })?;
            if let Some(found) = found {
                writeln!(f, "      {found}")?;
            }
        }
        if !self.passed {
            write!(f, "\n{}", schedule(self.seed, &self.strikes, &self.command))?;
        }
        writeln!(f, "\n  {}", if self.passed { "PASSED" } else { "FAILED" })
    }
}

fn table(faults: &[Tried]) -> Table {
    let mut table = Table::new();
    table.load_style(NOTHING);
    table.set_header([
        "fault",
        "struck",
        "in flight ≥",
        "found",
        "ended",
        "queue there: median",
        "worst",
        "went on: median",
        "worst",
        "promised",
        "",
    ]);
    let seconds = |figure: Option<f64>| figure.map(|seconds| format!("{seconds:.2} s")).unwrap_or_default();
    for tried in faults {
        table.add_row([
            tried.fault.name(),
            format!("{} of {}", tried.count, tried.planned),
            tried.in_flight_least.to_string(),
            seconds(tried.found_worst_s),
            seconds(tried.exit_worst_s),
            seconds(tried.served_median_s),
            seconds(tried.served_worst_s),
            seconds(tried.recovered_median_s),
            seconds(tried.recovered_worst_s),
            tried.promised.clone(),
            if tried.kept { "✓" } else { "✗" }.to_owned(),
        ]);
    }
    for column in table.column_iter_mut().skip(1).take(8) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}

/// What struck, and how to have it strike again.
pub(super) fn schedule(seed: u64, strikes: &[Struck], command: &str) -> String {
    let mut text = format!("  what struck, with seed {seed}:\n");
    for struck in strikes {
        let _ = writeln!(text, "  {struck}");
    }
    let _ = writeln!(text, "  again: {command}");
    text
}
