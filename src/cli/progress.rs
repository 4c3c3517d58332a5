//! How far a long command has come: a bar on a terminal, now and then a line elsewhere, nothing with `--json`.
//!
//! On standard error: standard output is for the result. `indicatif` knows whether there is a terminal, and how wide it
//! is; without one it writes nothing, so that no escape codes get into a file.

use std::cell::Cell;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

use super::output::note;

/// How often a line is written where there is no bar.
const LINE_EVERY: Duration = Duration::from_secs(10);

/// How often a bar is drawn that nothing moves, for its clock.
const TICK: Duration = Duration::from_millis(200);

const BAR: &str = "{msg:<12} {bar:30} {human_pos:>9} of {human_len}  {per_sec}  {eta} left";
const SPINNER: &str = "{msg:<12} {spinner} {human_pos:>9}  {elapsed}";

/// One part of a command's work. Its bar is gone when the value is dropped.
#[derive(Debug)]
pub(super) struct Progress {
    bar: ProgressBar,
    what: &'static str,
    is_silent: bool,
    line_due: Cell<Instant>,
}

impl Progress {
    /// Begins to count up to `total`, or up to an unknown number.
    pub(super) fn begin(is_silent: bool, what: &'static str, total: Option<u64>) -> Self {
        let bar = if is_silent { ProgressBar::hidden() } else { ProgressBar::no_length() };
        if let Ok(style) = ProgressStyle::with_template(if total.is_some() { BAR } else { SPINNER }) {
            bar.set_style(style);
        }
        if let Some(total) = total {
            bar.set_length(total);
        }
        bar.set_message(what);
        if !bar.is_hidden() {
            bar.enable_steady_tick(TICK);
        }
        Self { bar, what, is_silent, line_due: Cell::new(Instant::now() + LINE_EVERY) }
    }

    /// Counts `more`.
    pub(super) fn advance(&self, more: u64) {
        self.bar.inc(more);
        if !self.is_silent && self.bar.is_hidden() && Instant::now() >= self.line_due.get() {
            self.line_due.set(Instant::now() + LINE_EVERY);
            let total = self.bar.length().map(|total| format!(" of {total}")).unwrap_or_default();
            note(&format!("{}: {}{total}", self.what, self.bar.position()));
        }
    }

    /// Begins the next of several steps; each has a name.
    pub(super) fn step(&self, name: &'static str) {
        self.bar.set_message(name);
        self.advance(1);
    }

    /// Says what was done: above the bar, or as a line.
    pub(super) fn say(&self, text: &str) {
        if !self.is_silent {
            self.bar.suspend(|| note(text));
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}
