//! `settled publish`: publishes tasks from a file and waits for the broker's confirms.
//!
//! The input is one JSON task, or one per line. All of them are checked before the first is published; if one is
//! invalid, none is published, and its line and field are reported.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, anyhow};
use jiff::Timestamp;
use serde::Serialize;
use settled_amqp::{MAX_PROPERTY_BYTES, Outgoing, PublishError, Published, Publisher};
use settled_core::contract::{PaymentState, Properties, Task, decode};

use super::human::{self, counted, duration, time};
use super::outcome::{Outcome, OutcomeWatch};
use super::output::{self, Text};
use super::{Exit, Failure, Global, block_on};
use crate::config::{BROKER, Config, DATABASE};
use crate::printable::printable;

/// The default publisher of tasks from the command line.
pub(super) const PUBLISHER: &str = "settled-cli";

/// The routing key of messages that are no valid tasks.
pub(super) const UNCHECKED_KEY: &str = "task.unchecked";

#[derive(Clone, Debug, clap::Args)]
pub(super) struct Args {
    /// The file; standard input if it is `-` or left out.
    #[arg(default_value = "-")]
    file: PathBuf,
    /// Publishes lines that are no tasks too, to see what the daemon makes of them.
    #[arg(long, conflicts_with = "wait")]
    unchecked: bool,
    /// Waits until every task has an outcome. Ends with 1 if one is rejected, canceled or a dead
    /// letter, with 69 if some have no outcome in time.
    ///
    /// A task whose `execute_at` is later than that is done when it is scheduled. One that is
    /// parked, because what it acts on or comes after is not there yet, has no outcome.
    #[arg(long)]
    wait: bool,
    /// How long to wait for the outcomes.
    #[arg(long, default_value = "60s", value_parser = duration, requires = "wait")]
    timeout: Duration,
    /// Who publishes, as payments will show it.
    #[arg(long, default_value = PUBLISHER, value_parser = publisher)]
    publisher: String,
}

fn publisher(text: &str) -> Result<String, String> {
    let fits = text.len() <= MAX_PROPERTY_BYTES && !text.contains('\0');
    fits.then(|| text.to_owned()).ok_or_else(|| format!("expected at most {MAX_PROPERTY_BYTES} bytes, none of them 0"))
}

#[derive(Serialize)]
struct Report {
    published: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    outcomes: Option<Vec<Outcome>>,
}

pub(super) fn run(global: &Global, args: &Args) -> Result<Exit, Failure> {
    let config = global.load_of_service()?;
    let input = read(&args.file)?;
    let (messages, tasks) = messages(&input, args)?;
    global.announce(&config, if args.wait { &[BROKER, DATABASE] } else { &[BROKER] });
    let report = block_on(async {
        if !args.wait {
            let published = publish_all(&config, &messages).await?;
            return Ok(Report { published, outcomes: None });
        }
        let client = settled_store::connect(&config.postgres).await?;
        let watch = OutcomeWatch::start(&client, &tasks).await?;
        let published = publish_all(&config, &messages).await?;
        let outcomes = watch.wait(&client, &tasks, args.timeout).await?;
        Ok(Report { published, outcomes: Some(outcomes) })
    })?;
    output::print(global.json, &report, || human(&report))?;
    Ok(report.outcomes.as_deref().map_or(Exit::Ok, exit))
}

/// Connects as the configuration says.
pub(super) async fn connect(config: &Config) -> Result<Publisher, PublishError> {
    Publisher::connect(&config.broker, config.needs_user_id()).await
}

/// Publishes messages on a connection of their own.
pub(super) async fn publish(config: &Config, messages: &[Outgoing]) -> Result<Published, PublishError> {
    let publisher = connect(config).await?;
    let published = publisher.publish(messages).await;
    publisher.close().await;
    Ok(published)
}

/// Publishes all messages. Returns how many were confirmed.
async fn publish_all(config: &Config, messages: &[Outgoing]) -> Result<usize, Failure> {
    let Published { confirmed, error } = publish(config, messages).await?;
    error.map_or(Ok(confirmed), |error| {
        Err(Failure::from(error).hint(format!(
            "{confirmed} of {} confirmed; to publish all of them again is safe, the ids are the same",
            messages.len()
        )))
    })
}

fn read(file: &Path) -> Result<Vec<u8>, Failure> {
    if file.as_os_str() != "-" {
        return Ok(std::fs::read(file).with_context(|| file.display().to_string())?);
    }
    let mut input = Vec::new();
    std::io::stdin().read_to_end(&mut input).context("standard input")?;
    Ok(input)
}

/// Returns the messages and their tasks. With `unchecked` there are messages without a task.
fn messages(input: &[u8], args: &Args) -> Result<(Vec<Outgoing>, Vec<Task>), Failure> {
    let documents = documents(input);
    if documents.is_empty() {
        return Err(anyhow!("the input holds no task").into());
    }
    let (mut messages, mut tasks, mut wrong) = (Vec::new(), Vec::new(), Vec::new());
    for (line, body) in documents {
        match decode(body, &Properties::default()) {
            Ok(task) => {
                messages.push(task_message(&task, body.to_vec(), &args.publisher));
                tasks.push(task);
            }
            Err(_) if args.unchecked => messages.push(unchecked(body.to_vec(), &args.publisher)),
            Err(letter) => wrong.push(format!("line {line}: {}", printable(&letter.detail))),
        }
    }
    if wrong.is_empty() {
        return Ok((messages, tasks));
    }
    let more = wrong.len().saturating_sub(10);
    wrong.truncate(10);
    if more > 0 {
        wrong.push(format!("… and {more} more"));
    }
    Err(Failure::from(anyhow!("nothing published:\n  {}", wrong.join("\n  ")))
        .hint("--unchecked publishes them as they are"))
}

/// Splits the input into documents, each with the number of its first line: one that spans lines, or one per line.
fn documents(input: &[u8]) -> Vec<(usize, &[u8])> {
    let single: Result<&serde_json::value::RawValue, _> = serde_json::from_slice(input);
    if single.is_ok() {
        let leading = input.iter().take_while(|byte| byte.is_ascii_whitespace());
        let line = 1 + leading.filter(|byte| **byte == b'\n').count();
        return vec![(line, input.trim_ascii())];
    }
    (1..)
        .zip(input.split(|byte| *byte == b'\n'))
        .map(|(line, body)| (line, body.trim_ascii()))
        .filter(|(_, body)| !body.is_empty())
        .collect()
}

/// Returns the message of a task.
pub(super) fn task_message(task: &Task, body: Vec<u8>, publisher: &str) -> Outgoing {
    let mut message = unchecked(body, publisher);
    message.routing_key = format!("task.{}", task.body.task_type().name());
    message.properties.message_id = Some(task.id.into());
    message
}

/// Returns a message that may be no valid task, with a routing key for which the queue is bound.
fn unchecked(body: Vec<u8>, publisher: &str) -> Outgoing {
    let properties = Properties {
        content_type: Some("application/json".into()),
        publisher: Some(publisher.into()),
        timestamp: u64::try_from(Timestamp::now().as_second()).ok(),
        ..Properties::default()
    };
    Outgoing { exchange: None, routing_key: UNCHECKED_KEY.to_owned(), body, properties }
}

/// Returns the exit code of all outcomes: one without an outcome in time outweighs a failed one.
fn exit(outcomes: &[Outcome]) -> Exit {
    let exits = || outcomes.iter().map(Outcome::exit);
    [Exit::Unavailable, Exit::Failure].into_iter().find(|bad| exits().any(|exit| exit == *bad)).unwrap_or(Exit::Ok)
}

fn human(report: &Report) -> Text {
    let mut text = Text::of(format!("{} published and confirmed", counted(report.published, "task")));
    let outcomes = report.outcomes.as_deref().unwrap_or_default();
    if let [outcome] = outcomes {
        text.line(describe(outcome));
        return text;
    }
    let mut counts = std::collections::BTreeMap::new();
    for outcome in outcomes {
        *counts.entry(kind(outcome)).or_insert(0_usize) += 1;
    }
    for (kind, count) in counts {
        text.line(format!("{count:>10} {kind}"));
    }
    text
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_input_is_one_document_or_one_per_line() {
        let lines = |input: &'static str| documents(input.as_bytes()).iter().map(|(line, _)| *line).collect::<Vec<_>>();
        assert_eq!(lines("\n{\n \"a\": 1\n}\n"), [2]);
        assert_eq!(lines("{}\n\n{}\r\n"), [1, 3]);
        assert_eq!(lines("{}\nno\n"), [1, 2]);
        assert_eq!(lines(" \n"), [0; 0]);
    }
}
