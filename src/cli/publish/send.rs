//! Publishes the lines of an input, and knows at any moment how far it has come.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::time::Duration;

use anyhow::anyhow;
use settled_amqp::{Outgoing, PublishError, Publisher};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::input::{Input, Lines, changed};
use super::{Args, message};
use crate::cli::human::counted;
use crate::cli::progress::Progress;
use crate::cli::{Exit, Failure};

/// How long an interrupted command waits for the confirms of what it has published.
const LAST_CONFIRMS: Duration = Duration::from_secs(2);

/// How far a command has come.
#[derive(Debug)]
pub(super) struct Sent {
    pub(super) confirmed: u64,
    /// The line after the last one that is confirmed: everything before it is.
    pub(super) next_line: u64,
    /// Why it ended before all was published.
    pub(super) failure: Option<Failure>,
}

/// Publishes all documents of the input, in their order, until `stop` is cancelled.
pub(super) async fn send(
    publisher: Publisher,
    input: &mut Input,
    (args, total): (&Args, u64),
    progress: &Progress,
    stop: &CancellationToken,
) -> Result<Sent, Failure> {
    let state = RefCell::new(State { sent: Sent::none(args), unconfirmed: VecDeque::new() });
    let feed = Feed { lines: input.lines(args.from_line)?, args, state: &state, stop };
    let on_confirm = || {
        state.borrow_mut().confirm();
        progress.advance(1);
    };
    let patience = async {
        stop.cancelled().await;
        sleep(LAST_CONFIRMS).await;
    };
    let error = tokio::select! {
        biased;
        published = publisher.publish_each(feed, on_confirm) => published.error,
        () = patience => None,
    };
    // Nobody who interrupts waits for a broker that doesn't answer.
    let _ = timeout(if stop.is_cancelled() { LAST_CONFIRMS } else { Duration::MAX }, publisher.close()).await;
    let State { mut sent, unconfirmed } = state.into_inner();
    if sent.failure.is_none() {
        sent.failure = match error {
            Some(error) => Some(refused(error, unconfirmed.front())),
            None => (sent.confirmed < total).then(|| interrupted(&sent, total)),
        };
    }
    sent.failure = sent.failure.map(|failure| failure.hint(hint(sent.confirmed, sent.next_line, total, args)));
    Ok(sent)
}

impl Sent {
    /// Nothing yet.
    fn none(args: &Args) -> Self {
        Self { confirmed: 0, next_line: args.from_line, failure: None }
    }
}

/// Names the line of a message that the broker doesn't take.
fn refused(error: PublishError, line: Option<&u64>) -> Failure {
    match (&error, line) {
        (PublishError::Returned { .. } | PublishError::Denied(_), Some(line)) => {
            anyhow::Error::new(error).context(format!("line {line}")).into()
        }
        _ => error.into(),
    }
}

fn interrupted(sent: &Sent, total: u64) -> Failure {
    let confirmed = sent.confirmed;
    Failure::new(
        Exit::Interrupted,
        anyhow!("interrupted: {confirmed} of {} published and confirmed", counted(total.cast_signed(), "task")),
    )
}

fn hint(confirmed: u64, next_line: u64, total: u64, args: &Args) -> String {
    let again = "to publish all of them again is safe, the ids are the same";
    match confirmed {
        0 => format!("0 of {total} confirmed; {again}"),
        _ => format!(
            "{confirmed} of {total} confirmed; go on with --from-line {next_line} and the same input ({}); {again}",
            args.file.display()
        ),
    }
}

struct State {
    sent: Sent,
    /// The lines of published messages that the broker has not confirmed.
    unconfirmed: VecDeque<u64>,
}

impl State {
    fn confirm(&mut self) {
        self.sent.confirmed += 1;
        if let Some(line) = self.unconfirmed.pop_front() {
            self.sent.next_line = line + 1;
        }
    }
}

/// The messages, made when the publisher has room for them. Ends early if a line cannot be read or the command is
/// interrupted.
struct Feed<'a> {
    lines: Lines<'a>,
    args: &'a Args,
    state: &'a RefCell<State>,
    stop: &'a CancellationToken,
}

impl Iterator for Feed<'_> {
    type Item = Outgoing;

    fn next(&mut self) -> Option<Outgoing> {
        if self.stop.is_cancelled() {
            return None;
        }
        let line = self.lines.next()?;
        let mut state = self.state.borrow_mut();
        match line.and_then(|line| Ok((line.number, message(line, self.args).map_err(|_| changed())?))) {
            Ok((number, message)) => {
                state.unconfirmed.push_back(number);
                Some(message)
            }
            Err(failure) => {
                state.sent.failure = Some(failure);
                None
            }
        }
    }
}
