//! The report, for people.

use std::collections::BTreeMap;
use std::fmt::{self, Display, Write as _};

use crate::progress::grouped;
use crate::report::Report;

/// A report as text; `colour` for a terminal.
#[must_use]
pub(crate) fn text(report: &Report, colour: bool) -> String {
    let paint = Paint(colour);
    let mut text = String::new();
    // Writing to a string cannot fail.
    let _ = write(&mut text, report, paint);
    text
}

fn write(text: &mut String, report: &Report, paint: Paint) -> fmt::Result {
    writeln!(text, "\n  {}", paint.bold(&format!("{} messages published", grouped(report.published))))?;
    row(text, "settled", report.settled)?;
    row(text, "rejected", report.rejected.values().sum())?;
    reasons(text, &report.rejected, paint)?;
    row(text, "duplicates", report.duplicates)?;
    row(text, "dead letters", report.dead_letters.values().sum())?;
    reasons(text, &report.dead_letters, paint)?;
    writeln!(text)?;
    figures(text, report)?;
    writeln!(text)?;
    for check in &report.checks {
        match &check.found {
            None => writeln!(text, "  {} {}", paint.green("✓"), check.holds)?,
            Some(found) => writeln!(text, "  {} {}\n      {found}", paint.red("✗"), check.holds)?,
        }
    }
    let verdict = if report.passed { paint.green("PASSED") } else { paint.red("FAILED") };
    writeln!(text, "\n  {verdict} in {:.1} s", report.seconds)
}

fn figures(text: &mut String, report: &Report) -> fmt::Result {
    let rate = |per_second: f64| grouped(per_second as u64);
    let speed = report.speed;
    writeln!(text, "  payments   {}/s committed", rate(speed.payments_per_second))?;
    let events = &report.events;
    let (received, unique) = (grouped(events.received), grouped(events.unique));
    writeln!(text, "  events     {}/s, {received} received, {unique} of them unique", rate(speed.events_per_second))?;
    if let Some(latency) = report.publish_to_commit_ms {
        let (p50, p99) = (millis(latency.p50), millis(latency.p99));
        writeln!(text, "  latency    p50 {p50}, p99 {p99} from publish to commit, as fast as the publisher can")?;
    }
    if let Some(used) = report.daemon {
        let megabytes = used.max_rss_bytes as f64 / 1e6;
        writeln!(text, "  daemon     {:.2} s of CPU, {megabytes:.0} MB of memory at most", used.cpu_seconds)?;
    }
    let verdict = if report.audit.passed { "passed" } else { "not passed" };
    writeln!(text, "  audit      {verdict}, {} checks over every row", report.audit.checks)
}

fn row(text: &mut String, what: &str, count: u64) -> fmt::Result {
    writeln!(text, "    {what:<28}{:>10}", grouped(count))
}

fn reasons(text: &mut String, reasons: &BTreeMap<&str, u64>, paint: Paint) -> fmt::Result {
    for (reason, count) in reasons {
        writeln!(text, "{}", paint.dim(&format!("      {reason:<26}{:>10}", grouped(*count))))?;
    }
    Ok(())
}

/// Short times with decimals, long ones without.
fn millis(value: f64) -> String {
    match value {
        value if value < 10.0 => format!("{value:.2} ms"),
        value if value < 10_000.0 => format!("{value:.0} ms"),
        value => format!("{:.1} s", value / 1e3),
    }
}

/// Colours, or none.
#[derive(Clone, Copy)]
struct Paint(bool);

impl Paint {
    fn bold(self, text: &str) -> String {
        self.with(1, text)
    }

    fn dim(self, text: &str) -> String {
        self.with(2, text)
    }

    fn red(self, text: &str) -> String {
        self.with(31, text)
    }

    fn green(self, text: &str) -> String {
        self.with(32, text)
    }

    fn with(self, code: u8, text: impl Display) -> String {
        if self.0 { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_string() }
    }
}
