//! Waits for the outcomes of an input's tasks, a part of them at a time.

use std::collections::BTreeMap;
use std::io::{Seek, Write};

use settled_core::contract::{PaymentState, Task, decode};
use settled_store::Client;
use tempfile::{SpooledTempFile, spooled_tempfile};

use super::Args;
use super::input::{Input, Lines, changed};
use crate::cli::human::{self, time};
use crate::cli::outcome::{CHUNK, Deadline, Outcome, OutcomeWatch};
use crate::cli::output::{self, Text};
use crate::cli::progress::Progress;
use crate::cli::{Exit, Failure};

/// The most bytes of the tasks that are looked up together.
const CHUNK_BYTES: usize = 1 << 20;

/// How much of the outcomes' JSON is kept in memory, in bytes, before it goes to a temporary file.
const SPOOL: usize = 4 << 20;

/// Looks at what the tasks' ids are before they are published.
pub(super) async fn look(client: &Client, input: &mut Input, args: &Args) -> Result<OutcomeWatch, Failure> {
    let mut watch = OutcomeWatch::default();
    let mut lines = input.lines(args.from_line)?;
    while let Some(tasks) = chunk(&mut lines)? {
        watch.look(client, &tasks).await?;
    }
    Ok(watch)
}

/// Waits until every task has an outcome, or for as long as `args` say.
pub(super) async fn wait(
    client: &Client,
    mut watch: OutcomeWatch,
    input: &mut Input,
    (args, json): (&Args, bool),
    progress: &Progress,
) -> Result<Outcomes, Failure> {
    let deadline = Deadline::after(args.timeout);
    let mut outcomes = Outcomes::new(json);
    let mut lines = input.lines(args.from_line)?;
    while let Some(tasks) = chunk(&mut lines)? {
        for outcome in watch.wait(client, &tasks, deadline).await? {
            outcomes.add(outcome)?;
            progress.advance(1);
        }
    }
    Ok(outcomes)
}

/// Reads the next tasks. Returns `None` at the end.
fn chunk(lines: &mut Lines<'_>) -> Result<Option<Vec<Task>>, Failure> {
    let (mut tasks, mut bytes) = (Vec::new(), 0);
    while tasks.len() < CHUNK && bytes < CHUNK_BYTES {
        let Some(line) = lines.next().transpose()? else { break };
        bytes += line.body.len();
        tasks.push(decode(&line.body, &Default::default()).map_err(|_| changed())?);
    }
    Ok((!tasks.is_empty()).then_some(tasks))
}

/// The outcomes of all tasks: counted for people, stored as JSON for programs.
pub(super) struct Outcomes {
    stored: Option<SpooledTempFile>,
    number: u64,
    counts: BTreeMap<String, u64>,
    first: Option<String>,
    exit: Exit,
}

impl Outcomes {
    fn new(json: bool) -> Self {
        let stored = json.then(|| spooled_tempfile(SPOOL));
        Self { stored, number: 0, counts: BTreeMap::new(), first: None, exit: Exit::Ok }
    }

    fn add(&mut self, outcome: Outcome) -> Result<(), Failure> {
        if let Some(stored) = &mut self.stored {
            if self.number > 0 {
                stored.write_all(b",")?;
            }
            serde_json::to_writer(stored, &outcome)?;
        }
        self.number += 1;
        *self.counts.entry(kind(&outcome)).or_insert(0) += 1;
        self.first.get_or_insert_with(|| describe(&outcome));
        self.exit = worse(self.exit, outcome.exit());
        Ok(())
    }

    /// Prints the report of a command that has waited, and returns how it ends.
    pub(super) fn print(self, published: u64, human: Text) -> Result<Exit, Failure> {
        let Self { stored, number, counts, first, exit } = self;
        if let Some(mut stored) = stored {
            stored.rewind()?;
            output::print_stored(&format!("{{\"published\":{published},\"outcomes\":["), &mut stored, "]}\n")?;
            return Ok(exit);
        }
        let mut text = human;
        match first {
            Some(only) if number == 1 => text.line(only),
            _ => counts.into_iter().for_each(|(kind, count)| text.line(format!("{count:>10} {kind}"))),
        }
        output::print(false, &(), || text)?;
        Ok(exit)
    }
}

/// Returns the exit code of both: one without an outcome in time outweighs a failed one.
fn worse(one: Exit, other: Exit) -> Exit {
    [Exit::Unavailable, Exit::Failure].into_iter().find(|bad| [one, other].contains(bad)).unwrap_or(Exit::Ok)
}

fn kind(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Payment(stored) => human::state(stored),
        Outcome::DeadLetter { .. } => "dead letters".to_owned(),
        Outcome::Unknown { .. } => "without an outcome yet".to_owned(),
    }
}

fn describe(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Payment(stored) => {
            let until = stored.task.when.execute_at.filter(|_| stored.state == PaymentState::Scheduled);
            let until = until.map(|at| format!(" for {}", time(at))).unwrap_or_default();
            format!("{} {}{until}", stored.task.id, human::state(stored))
        }
        Outcome::DeadLetter { id, detail } => format!("{id} is a dead letter: {detail}"),
        Outcome::Unknown { id } => format!("{id} has no outcome yet"),
    }
}
