//! What a run shows while it goes on: a few lines redrawn in place on a terminal, a plain line
//! every few seconds elsewhere.
//!
//! On standard error: standard output is for the result.

use std::io::{self, Write};
use std::time::Duration;

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

use super::model::{Quantiles, Snapshot};
use super::numbers::{clock, count, millis, rate};

const LINE_EVERY: Duration = Duration::from_secs(5);
const LINE: &str = "  {prefix:<9.cyan} {wide_msg}";
const BAR: &str = "  {prefix:<9.cyan} {bar:40.cyan/dim} {wide_msg}";

#[derive(Clone, Copy, Debug)]
pub(crate) enum Goal {
    Time(Duration),
    Outcomes(u64),
}

/// The view of a run. Dropped, it is taken away: what comes next is the summary.
#[derive(Debug)]
pub(crate) struct View<W = io::Stderr> {
    goal: Goal,
    /// None without a terminal.
    lines: Option<Lines>,
    plain: W,
    line_due: Duration,
}

#[derive(Debug)]
struct Lines {
    all: MultiProgress,
    bar: ProgressBar,
    texts: [ProgressBar; 4],
}

impl View {
    pub(crate) fn new(goal: Goal) -> Self {
        Self::on(goal, MultiProgress::new(), io::stderr())
    }
}

impl<W: Write> View<W> {
    /// Lines on `terminal`, if it is one, or else in `plain`.
    fn on(goal: Goal, terminal: MultiProgress, plain: W) -> Self {
        let lines = (!terminal.is_hidden()).then(|| Lines::new(terminal, goal));
        Self { goal, lines, plain, line_due: LINE_EVERY }
    }

    /// Shows the run as it is now; to be called about once a second.
    pub(crate) fn update(&mut self, now: &Snapshot) {
        if let Some(lines) = &self.lines {
            lines.show(self.goal, now);
        } else if now.elapsed >= self.line_due {
            self.line_due = now.elapsed + LINE_EVERY;
            // Where nobody listens there is nobody to tell.
            let _ = writeln!(self.plain, "  … {}: {}", progress(self.goal, now), texts(now).join("; "));
        }
    }
}

impl Drop for Lines {
    fn drop(&mut self) {
        // It can fail only if the terminal has gone.
        let _ = self.all.clear();
    }
}

impl Lines {
    fn new(all: MultiProgress, goal: Goal) -> Self {
        let length = match goal {
            Goal::Time(length) => length.as_millis() as u64,
            Goal::Outcomes(number) => number,
        };
        let bar = all.add(ProgressBar::new(length)).with_prefix("run").with_style(style(BAR).progress_chars("━╸─"));
        let line = |prefix| all.add(ProgressBar::new_spinner()).with_prefix(prefix).with_style(style(LINE));
        let texts = ["rate", "latency", "outcomes", "waiting"].map(line);
        Self { all, bar, texts }
    }

    fn show(&self, goal: Goal, now: &Snapshot) {
        self.bar.set_position(match goal {
            Goal::Time(_) => now.elapsed.as_millis() as u64,
            Goal::Outcomes(_) => now.decided(),
        });
        self.bar.set_message(progress(goal, now));
        for (bar, text) in self.texts.iter().zip(texts(now)) {
            bar.set_message(text);
            bar.tick();
        }
    }
}

/// The templates are constants; one with a fault would only look plain.
fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar())
}

fn progress(goal: Goal, now: &Snapshot) -> String {
    let elapsed = clock(now.elapsed.as_secs_f64());
    match goal {
        Goal::Time(length) => format!("{elapsed} of {}", clock(length.as_secs_f64())),
        Goal::Outcomes(number) => format!("{} of {}, {elapsed}", count(now.decided()), count(number)),
    }
}

/// How fast, how slow, what came of it, and what waits.
fn texts(now: &Snapshot) -> [String; 4] {
    let target =
        now.target_rate.map_or_else(|| "as fast as possible".to_owned(), |target| format!("of {}", rate(target)));
    let [published, committed, events] = [now.rate_published, now.rate_committed, now.rate_events].map(rate);
    let time = |what, times: Option<Quantiles>| match times {
        Some(Quantiles { p50, p99, .. }) => format!("{what} p50 {}, p99 {}", millis(p50), millis(p99)),
        None => format!("{what} p50 –, p99 –"),
    };
    let (confirm, event) = (time("confirm", now.confirm), time("event", now.event));
    let [settled, rejected, duplicates, dead_lettered] =
        [now.settled, now.rejected, now.duplicates, now.dead_lettered].map(count);
    let unconfirmed = count(now.published.saturating_sub(now.confirmed));
    let [depth, outbox] = [now.queue_depth, now.outbox_events].map(count);
    let heard = count(now.events);
    [
        format!("{published} published ({target}), {committed} committed, {events} events"),
        format!("{confirm}; {event}"),
        format!(
            "{settled} settled, {rejected} rejected, {duplicates} duplicates, {dead_lettered} dead-lettered, {heard} events"
        ),
        format!("{unconfirmed} to be confirmed, {depth} in the queue, {outbox} events in the outbox"),
    ]
}

#[cfg(test)]
mod tests {
    use indicatif::{InMemoryTerm, ProgressDrawTarget};

    use super::*;

    fn quantiles(p50: f64, p99: f64) -> Quantiles {
        Quantiles { p50, p90: p50, p99, p999: p99, max: p99, count: 2 }
    }

    fn snapshot() -> Snapshot {
        Snapshot {
            elapsed: Duration::from_secs(65),
            target_rate: Some(2_000.0),
            published: 130_000,
            confirmed: 129_990,
            settled: 124_000,
            rejected: 2_600,
            duplicates: 1_300,
            dead_lettered: 1_300,
            events: 126_500,
            queue_depth: 21,
            outbox_events: 4,
            rate_published: 2_001.4,
            rate_committed: 1_998.7,
            rate_events: 1_990.1,
            confirm: Some(quantiles(1.31, 4.2)),
            event: Some(quantiles(4.52, 23.1)),
        }
    }

    #[test]
    fn everything_is_shown_with_its_unit() {
        insta::assert_snapshot!(texts(&snapshot()).join("\n"));
    }

    #[test]
    fn a_terminal_has_the_lines_until_the_end() {
        let screen = InMemoryTerm::new(10, 100);
        let target = ProgressDrawTarget::term_like(Box::new(screen.clone()));
        let goal = Goal::Time(Duration::from_secs(600));
        let mut view = View::on(goal, MultiProgress::with_draw_target(target), Vec::new());
        view.update(&snapshot());
        insta::assert_snapshot!(screen.contents());
        assert!(view.plain.is_empty());
        drop(view);
        assert_eq!(screen.contents(), "");
    }

    #[test]
    fn without_a_terminal_there_is_a_line_every_few_seconds() {
        let hidden = MultiProgress::with_draw_target(ProgressDrawTarget::hidden());
        let mut view = View::on(Goal::Outcomes(200_000), hidden, Vec::new());
        for seconds in [1, 2, 5, 6, 9, 11, 12] {
            view.update(&Snapshot { elapsed: Duration::from_secs(seconds), ..snapshot() });
        }
        let lines = String::from_utf8(view.plain).expect("text");
        let times: Vec<&str> = lines.lines().filter_map(|line| line.split(": ").next()).collect();
        assert_eq!(times, ["  … 129,200 of 200,000, 0:05", "  … 129,200 of 200,000, 0:11"]);
    }

    #[test]
    fn what_is_not_known_is_a_dash() {
        let [rate, latency, ..] = texts(&Snapshot::default());
        assert!(rate.contains("(as fast as possible)"), "{rate}");
        assert_eq!(latency, "confirm p50 –, p99 –; event p50 –, p99 –");
    }
}
