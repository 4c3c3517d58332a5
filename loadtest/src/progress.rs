//! How far a run has come: a bar on a terminal, now and then a line elsewhere.
//!
//! On standard error: standard output is for the result.

use std::cell::Cell;
use std::io::{self, Write};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

use crate::report::numbers::count;

/// How often a line is written where there is no bar.
const LINE_EVERY: Duration = Duration::from_secs(5);
const TEMPLATE: &str = "  {msg:<10} {bar:40.cyan/dim} {human_pos:>8} of {human_len}  {per_sec:.dim}  {elapsed:.dim}";

/// Says that something is done, and how long it took.
#[derive(Debug)]
pub(crate) struct Step(Instant);

impl Step {
    pub(crate) fn begin() -> Self {
        Self(Instant::now())
    }

    pub(crate) fn done(self, what: &str) {
        say(&format!("  ✓ {what} ({:.1} s)", self.0.elapsed().as_secs_f64()));
    }
}

/// One thing that takes a while and can be counted.
#[derive(Debug)]
pub(crate) struct Count {
    bar: ProgressBar,
    what: &'static str,
    began: Instant,
    line_due: Cell<Instant>,
}

impl Count {
    /// Begins to count to `total`.
    pub(crate) fn new(what: &'static str, total: u64) -> Self {
        let bar = ProgressBar::new(total);
        if let Ok(style) = ProgressStyle::with_template(TEMPLATE) {
            bar.set_style(style.progress_chars("━╸─"));
        }
        bar.set_message(what);
        let now = Instant::now();
        Self { bar, what, began: now, line_due: Cell::new(now + LINE_EVERY) }
    }

    pub(crate) fn at(&self, position: u64) {
        self.bar.set_position(position);
        if self.bar.is_hidden() && Instant::now() >= self.line_due.get() {
            self.line_due.set(Instant::now() + LINE_EVERY);
            say(&format!("  … {} {position} of {}", self.what, self.bar.length().unwrap_or_default()));
        }
    }

    pub(crate) fn done(self) {
        let (done, seconds) = (self.bar.position(), self.began.elapsed().as_secs_f64());
        self.bar.finish_and_clear();
        say(&format!("  ✓ {} {} ({seconds:.1} s)", count(done), self.what));
    }
}

/// Where nobody listens there is nobody to tell.
pub(crate) fn say(line: &str) {
    let _ = writeln!(io::stderr(), "{line}");
}
