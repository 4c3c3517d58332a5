//! Records the steps, the faults and the violations of a run.

use parking_lot::Mutex;
use tokio::time::Instant;

use super::weather::Fault;

#[derive(Debug)]
pub(super) struct Journal {
    start: Instant,
    tell: bool,
    pub(super) lines: Mutex<Vec<String>>,
    pub(super) violations: Mutex<Vec<String>>,
    pub(super) faults: Mutex<Vec<Fault>>,
}

impl Journal {
    pub(super) fn new(start: Instant, tell: bool) -> Self {
        Self { start, tell, lines: Mutex::default(), violations: Mutex::default(), faults: Mutex::default() }
    }

    /// Records a step, if the run is to be printed.
    pub(super) fn note(&self, line: impl FnOnce() -> String) {
        if self.tell {
            self.lines.lock().push(format!("{:9.4} {}", self.start.elapsed().as_secs_f64(), line()));
        }
    }

    /// Records a violation of an invariant.
    pub(super) fn violation(&self, what: String) {
        self.note(|| format!("VIOLATION: {what}"));
        self.violations.lock().push(what);
    }

    pub(super) fn has_violations(&self) -> bool {
        !self.violations.lock().is_empty()
    }

    pub(super) fn struck(&self, fault: Fault) {
        self.note(|| format!("{fault:?}"));
        self.faults.lock().push(fault);
    }
}
