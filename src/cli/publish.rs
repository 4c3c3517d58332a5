//! `settled publish`: publishes tasks from a file and waits for the broker's confirms.
//!
//! The input is one JSON task, or one per line. All of them are checked before the first is published; if one is
//! invalid, none is published, and its line and field are reported. The input is read once for each of these steps, so
//! that its size does not matter: [`input`].

mod input;
mod send;
mod wait;

use std::path::PathBuf;
use std::time::Duration;

use anyhow::anyhow;
use jiff::Timestamp;
use serde::Serialize;
use settled_amqp::{MAX_PROPERTY_BYTES, Outgoing, PublishError, Published, Publisher};
use settled_core::contract::{Properties, Task, decode};
use tokio_util::sync::CancellationToken;

use self::input::{Input, Line};
use self::send::{Sent, send};
use super::human::{counted, duration};
use super::output::{self, Text};
use super::progress::Progress;
use super::{Exit, Failure, Global, block_on};
use crate::config::{BROKER, Config, DATABASE};
use crate::lifecycle;
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
    /// Leaves out the lines before this one, to go on where a command was interrupted.
    #[arg(long, default_value = "1", value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    from_line: u64,
    /// Who publishes, as payments will show it. With the name of the connection's own user the
    /// broker verifies it: needed where the daemon lists publishers, and this configuration does not.
    #[arg(long, default_value = PUBLISHER, value_parser = publisher)]
    publisher: String,
}

fn publisher(text: &str) -> Result<String, String> {
    let fits = text.len() <= MAX_PROPERTY_BYTES && !text.contains('\0');
    fits.then(|| text.to_owned()).ok_or_else(|| format!("expected at most {MAX_PROPERTY_BYTES} bytes, none of them 0"))
}

#[derive(Serialize)]
struct Report {
    published: u64,
    /// Where to go on, if not all was published.
    #[serde(skip_serializing_if = "Option::is_none")]
    next_line: Option<u64>,
}

pub(super) fn run(global: &Global, args: &Args) -> Result<Exit, Failure> {
    let config = global.load_of_service()?;
    let mut input = Input::open(&args.file)?;
    // Not before: whoever types the input ends the process by the signal itself.
    let stop = lifecycle::interruptible()?;
    let total = check(&mut input, args, global.json, &stop)?;
    global.announce(&config, if args.wait { &[BROKER, DATABASE] } else { &[BROKER] });
    block_on(async {
        let client = match args.wait {
            true => Some(or_stopped(&stop, settled_store::connect(&config.postgres)).await??),
            false => None,
        };
        let watch = match &client {
            Some(client) => Some(or_stopped(&stop, wait::look(client, &mut input, args)).await??),
            None => None,
        };
        let publisher = or_stopped(&stop, connect(&config)).await??;
        let progress = Progress::begin(global.json, "published", Some(total));
        let Sent { confirmed, next_line, failure } =
            send(publisher, &mut input, (args, total), &progress, &stop).await?;
        drop(progress);
        if let Some(failure) = failure {
            if global.json && failure.exit() == Exit::Interrupted {
                output::print(true, &Report { published: confirmed, next_line: Some(next_line) }, Text::default)?;
            }
            return Err(failure);
        }
        let human = Text::of(format!("{} published and confirmed", counted(confirmed.cast_signed(), "task")));
        let (Some(client), Some(watch)) = (client, watch) else {
            return output::print(global.json, &Report { published: confirmed, next_line: None }, || human);
        };
        let progress = Progress::begin(global.json, "outcomes", Some(total));
        let waiting = wait::wait(&client, watch, &mut input, (args, global.json), &progress);
        let outcomes = tokio::select! {
            biased;
            outcomes = waiting => outcomes?,
            () = stop.cancelled() => {
                return Err(Failure::new(Exit::Interrupted, anyhow!("interrupted: all {confirmed} tasks are published and confirmed, not all of their outcomes are known"))
                    .hint("the same command again waits for them; to publish again is safe, the ids are the same"));
            }
        };
        drop(progress);
        outcomes.print(confirmed, human)
    })
}

/// Waits for something that comes before publishing, unless the command is interrupted.
async fn or_stopped<T>(stop: &CancellationToken, before: impl Future<Output = T>) -> Result<T, Failure> {
    tokio::select! {
        biased;
        () = stop.cancelled() => Err(nothing_published()),
        result = before => Ok(result),
    }
}

fn nothing_published() -> Failure {
    Failure::new(Exit::Interrupted, anyhow!("interrupted: nothing is published"))
}

/// How many invalid lines are named.
const NAMED: u64 = 10;

/// Checks every line. Returns the number of tasks; with `--unchecked`, of messages.
fn check(input: &mut Input, args: &Args, json: bool, stop: &CancellationToken) -> Result<u64, Failure> {
    let progress = Progress::begin(json, "checked", None);
    let (mut count, mut wrong) = (0, 0);
    let mut text = String::from("nothing published:");
    for line in input.lines(args.from_line)? {
        if stop.is_cancelled() {
            return Err(nothing_published());
        }
        count += 1;
        progress.advance(1);
        if let Err(invalid) = message(line?, args) {
            wrong += 1;
            if wrong <= NAMED {
                text += &format!("\n  {invalid}");
            }
        }
    }
    if wrong > NAMED {
        text += &format!("\n  … and {} more", wrong - NAMED);
    }
    match (count, wrong) {
        (0, _) if args.from_line > 1 => Err(anyhow!("the input holds no task from line {} on", args.from_line).into()),
        (0, _) => Err(anyhow!("the input holds no task").into()),
        (_, 0) => Ok(count),
        _ => Err(Failure::from(anyhow!(text)).hint("--unchecked publishes them as they are")),
    }
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

/// Returns the message of a line: that of a task, or with `--unchecked` of whatever it is. Otherwise the line's number,
/// and what is wrong with it.
fn message(Line { number, body }: Line, args: &Args) -> Result<Outgoing, String> {
    match decode(&body, &Properties::default()) {
        Ok(task) => Ok(task_message(&task, body, &args.publisher)),
        Err(_) if args.unchecked => Ok(unchecked(body, &args.publisher)),
        Err(letter) => Err(format!("line {number}: {}", printable(&letter.detail))),
    }
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
