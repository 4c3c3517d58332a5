//! A run's summary as text, for the end of a run.

use std::collections::BTreeMap;
use std::fmt::{self, Write as _};

use super::model::{Quantiles, Summary};
use super::numbers::{bytes, count, decimal, measured, millis, rate, seconds};

/// The summary as lines; `colour` for a terminal.
#[must_use]
pub(crate) fn text(summary: &Summary, colour: bool) -> String {
    let paint = Paint(colour);
    let mut text = String::new();
    // Writing to a string cannot fail.
    let _ = write(&mut text, summary, paint);
    text
}

fn write(text: &mut String, summary: &Summary, paint: Paint) -> fmt::Result {
    writeln!(text, "\n  {}", paint.with(BOLD, &format!("{} messages published", count(summary.published))))?;
    row(text, "settled", summary.settled)?;
    row(text, "rejected", summary.rejected.values().sum())?;
    reasons(text, &summary.rejected, paint)?;
    if summary.canceled > 0 {
        row(text, "canceled", summary.canceled)?;
    }
    row(text, "duplicates", summary.duplicates)?;
    row(text, "dead-lettered", summary.dead_lettered.values().sum())?;
    reasons(text, &summary.dead_lettered, paint)?;
    must_be_none(text, "lost", summary.lost, paint)?;
    must_be_none(text, "doubled", summary.doubled, paint)?;
    writeln!(text)?;
    types(text, summary)?;
    speed(text, summary)?;
    latencies(text, summary)?;
    processes(text, summary)?;
    let verdict = if summary.audit.passed { "passed" } else { "not passed" };
    writeln!(text, "  audit       {verdict}, {} checks over every row", summary.audit.checks)?;
    writeln!(text)?;
    judgement(text, summary, paint)
}

fn row(text: &mut String, what: &str, number: u64) -> fmt::Result {
    writeln!(text, "    {what:<28}{:>12}", count(number))
}

fn must_be_none(text: &mut String, what: &str, number: u64, paint: Paint) -> fmt::Result {
    let line = format!("{what:<28}{:>12}", count(number));
    writeln!(text, "    {}", if number > 0 { paint.with(RED, &line) } else { line })
}

fn reasons(text: &mut String, reasons: &BTreeMap<String, u64>, paint: Paint) -> fmt::Result {
    for (reason, number) in reasons {
        writeln!(text, "{}", paint.with(DIM, &format!("      {reason:<26}{:>12}", count(*number))))?;
    }
    Ok(())
}

fn types(text: &mut String, summary: &Summary) -> fmt::Result {
    if summary.by_type.keys().all(|name| name == "transfer") && summary.waited.is_empty() {
        return Ok(());
    }
    for (name, outcomes) in &summary.by_type {
        let outcomes: Vec<_> = outcomes.iter().map(|(outcome, n)| format!("{} {outcome}", count(*n))).collect();
        writeln!(text, "    {name:<28}{:>12}", outcomes.join(", "))?;
    }
    for (state, times) in &summary.waited {
        row(text, &format!("{state} before that"), *times)?;
    }
    writeln!(text)
}

fn speed(text: &mut String, summary: &Summary) -> fmt::Result {
    let (published, committed) = (rate(summary.rate_published_per_s), rate(summary.rate_committed_per_s));
    writeln!(text, "  rate        {committed} committed, {published} published ({})", summary.load.rate)?;
    let (unique, received) = (count(summary.events), count(summary.events_received));
    write!(text, "  events      {}, {received} received, {unique} of them unique", rate(summary.rate_events_per_s))?;
    if summary.events_missing + summary.events_unexpected > 0 {
        let (missing, unexpected) = (count(summary.events_missing), count(summary.events_unexpected));
        write!(text, ", {missing} missing, {unexpected} unexpected")?;
    }
    writeln!(text)
}

fn latencies(text: &mut String, summary: &Summary) -> fmt::Result {
    let latency = &summary.latency_ms;
    let measured = [
        ("to confirm", latency.confirm),
        ("to commit", latency.commit),
        ("to event", latency.event),
        ("late by", summary.schedule_lag_ms),
    ];
    for (what, quantiles) in measured {
        let Some(Quantiles { p50, p99, p999, max, .. }) = quantiles else { continue };
        let [p50, p99, p999, max] = [p50, p99, p999, max].map(millis);
        writeln!(text, "  {what:<10}  p50 {p50:>9}   p99 {p99:>9}   p99.9 {p999:>9}   max {max:>9}")?;
    }
    Ok(())
}

fn processes(text: &mut String, summary: &Summary) -> fmt::Result {
    for (what, used) in summary.processes() {
        let cpu = decimal(used.cpu_seconds, 2);
        let each = summary.micros_per_payment(used.cpu_seconds).map_or("–".to_owned(), |micros| decimal(micros, 0));
        let memory = bytes(used.max_rss_bytes);
        writeln!(text, "  {what:<10}  {cpu:>8} s of CPU, {each:>5} µs per payment, {memory:>8} of memory at most")?;
    }
    Ok(())
}

fn judgement(text: &mut String, summary: &Summary, paint: Paint) -> fmt::Result {
    for term in &summary.slo {
        let mark = paint.mark(term.held);
        writeln!(text, "  {mark} {} (measured {})", term.term, measured(term))?;
    }
    for check in &summary.checks {
        writeln!(text, "  {} {}", paint.mark(check.found.is_none()), check.holds)?;
        if let Some(found) = &check.found {
            writeln!(text, "      {found}")?;
        }
    }
    if summary.generator_was_the_bottleneck {
        let warning = "the load generator could not keep to its schedule: the figures say more of it than of";
        writeln!(text, "\n  {} {warning} {}", paint.with(RED, "!"), summary.subject)?;
    }
    let verdict = if summary.passed { paint.with(GREEN, "PASSED") } else { paint.with(RED, "FAILED") };
    writeln!(text, "\n  {verdict} in {}", seconds(summary.duration_s))
}

/// Codes of a terminal.
const BOLD: u8 = 1;
const DIM: u8 = 2;
const RED: u8 = 31;
const GREEN: u8 = 32;

/// Whether texts are painted.
#[derive(Clone, Copy)]
struct Paint(bool);

impl Paint {
    fn with(self, code: u8, text: &str) -> String {
        if self.0 { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }

    fn mark(self, held: bool) -> String {
        if held { self.with(GREEN, "✓") } else { self.with(RED, "✗") }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::fixture;

    #[test]
    fn a_run_as_it_should_be() {
        insta::assert_snapshot!(text(&fixture::good_run().summary, false));
    }

    #[test]
    fn a_backlog_has_no_latencies() {
        insta::assert_snapshot!(text(&fixture::drain().summary, false));
    }

    #[test]
    fn what_is_wrong_is_said() {
        insta::assert_snapshot!(text(&fixture::failed_run().summary, false));
    }

    #[test]
    fn colours_change_nothing_but_the_colour() {
        let summary = fixture::failed_run().summary;
        let coloured = text(&summary, true);
        let codes = ["\x1b[0m", "\x1b[1m", "\x1b[2m", "\x1b[31m", "\x1b[32m"];
        assert!(codes.iter().all(|code| coloured.contains(code)));
        assert_eq!(codes.iter().fold(coloured, |text, code| text.replace(code, "")), text(&summary, false));
    }
}
