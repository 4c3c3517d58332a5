//! `settled dead-letters`: messages that could not become a payment.

mod view;

use crate::store::Client;

use self::view::{Refused, Report, Shown};
use super::output;
use super::publish::UNCHECKED_KEY;
use super::publisher::{Outgoing, PublishError, Publisher};
use super::{Exit, Failure, Global, block_on};
use crate::config::Config;
use crate::contract::{DeadReason, Properties, decode};
use crate::intake::BrokerSettings;
use crate::store;
use crate::store::queries::dead_letter::{self, Resolution, Selection, StoredDeadLetter};

/// How many are read, published and marked at a time.
const CHUNK: i64 = 200;

/// Looks at messages that could not become a payment, and deals with them.
#[derive(Clone, Debug, clap::Subcommand)]
pub(super) enum Command {
    /// Lists open dead letters, the newest first.
    List(ListArgs),
    /// Shows a dead letter with its body and properties.
    Show {
        /// Its number.
        id: i64,
    },
    /// Publishes dead letters again, as they were, and marks them as replayed.
    ///
    /// With the same properties and headers, to the same exchange with the same routing key; but
    /// without an `expiration`, without a `user_id` that isn't the user of this connection (the broker
    /// takes no other), and without headers that were too long to be kept.
    ///
    /// Safe to repeat: the task's id is its idempotency key. One that fails again is open
    /// again. Given by number, also one that was discarded or replayed before.
    Replay(ReplayArgs),
    /// Marks dead letters as dealt with. Nothing is deleted.
    Discard(DiscardArgs),
}

/// Which dead letters to list.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct ListArgs {
    /// Only those with this reason.
    #[arg(long, value_parser = reasons())]
    reason: Option<String>,
    /// Also those that were replayed or discarded.
    #[arg(long)]
    all: bool,
    /// At most this many.
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(i64).range(1..=100_000))]
    limit: i64,
}

/// Which dead letters to replay.
#[derive(Clone, Debug, clap::Args)]
#[command(group = clap::ArgGroup::new("which").required(true).args(["ids", "reason", "all"]))]
pub(super) struct ReplayArgs {
    /// Their numbers.
    #[arg(value_name = "ID")]
    ids: Vec<i64>,
    /// All open ones with this reason.
    #[arg(long, value_parser = reasons())]
    reason: Option<String>,
    /// All open ones.
    #[arg(long)]
    all: bool,
    /// Only says what would be done.
    #[arg(long)]
    dry_run: bool,
}

/// Which dead letters to discard.
#[derive(Clone, Debug, clap::Args)]
#[command(group = clap::ArgGroup::new("which").required(true).args(["ids", "reason"]))]
pub(super) struct DiscardArgs {
    /// Their numbers.
    #[arg(value_name = "ID")]
    ids: Vec<i64>,
    /// All open ones with this reason.
    #[arg(long, value_parser = reasons(), requires = "decided")]
    reason: Option<String>,
    /// Yes, all of them.
    #[arg(long, group = "decided")]
    yes: bool,
    /// Only says what would be done.
    #[arg(long, group = "decided")]
    dry_run: bool,
}

fn reasons() -> [&'static str; DeadReason::ALL.len()] {
    DeadReason::ALL.map(DeadReason::name)
}

pub(super) fn run(global: &Global, command: Command) -> Result<Exit, Failure> {
    let config = global.load()?;
    block_on(async {
        let client = store::connect(&config.postgres).await?;
        carry_out(command, &client, &config, global.json).await
    })
}

async fn carry_out(command: Command, client: &Client, config: &Config, json: bool) -> Result<Exit, Failure> {
    let (verb, report) = match command {
        Command::List(args) => return list(&args, client, json).await,
        Command::Show { id } => return show(id, client, json).await,
        Command::Replay(args) => ("replayed", replay(&args, client, config).await?),
        Command::Discard(args) => ("discarded", discard(&args, client).await?),
    };
    output::print(json, &report, || report.human(verb))?;
    let all = report.missing.is_empty() && report.oversize.is_empty() && report.refused.is_empty();
    Ok(if all { Exit::Ok } else { Exit::Failure })
}

async fn list(args: &ListArgs, client: &Client, json: bool) -> Result<Exit, Failure> {
    let selection = Selection { ids: None, reason: args.reason.as_deref(), resolved: args.all };
    let letters = dead_letter::list(client, selection, args.limit).await?;
    output::print(json, &letters, || view::rows(&letters))?;
    Ok(Exit::Ok)
}

async fn show(id: i64, client: &Client, json: bool) -> Result<Exit, Failure> {
    let selection = Selection { ids: Some(&[id]), reason: None, resolved: true };
    let Some(letter) = dead_letter::load(client, selection, 0, 1).await?.pop() else {
        return Err(Failure::new(Exit::Failure, anyhow::anyhow!("no dead letter {id}")));
    };
    let shown = Shown::of(&letter);
    output::print(json, &shown, || shown.human())?;
    Ok(Exit::Ok)
}

async fn replay(args: &ReplayArgs, client: &Client, config: &Config) -> Result<Report, Failure> {
    let by_number = !args.ids.is_empty();
    let selection =
        Selection { ids: by_number.then_some(&args.ids[..]), reason: args.reason.as_deref(), resolved: by_number };
    let mut report = Report { dry_run: args.dry_run, missing: sorted(&args.ids), ..Report::default() };
    let mut publisher = if args.dry_run { None } else { Some(Publisher::connect(config).await?) };
    let mut after = 0;
    // What comes in meanwhile, and what comes back, has to wait for the next time.
    let last = dead_letter::list(client, selection, 1).await?.first().map_or(0, |newest| newest.id);
    while after < last {
        let chunk = dead_letter::load(client, selection, after, CHUNK).await?;
        let Some(newest) = chunk.last() else { break };
        after = newest.row.id;
        let refused = replay_chunk(chunk, publisher.as_ref(), client, &config.broker, &mut report).await?;
        if !refused.is_empty() {
            // Its channel is closed.
            publisher = Some(replay_singly(refused, config, client, &mut report).await?);
        }
    }
    if let Some(publisher) = publisher {
        publisher.close().await;
    }
    Ok(report)
}

/// A message, and the dead letter that it was: its number and attempts.
type Replayed = (Outgoing, (i64, i32));

/// Publishes each for itself, one of which the broker refuses: that one stays open, and says why.
async fn replay_singly(
    messages: Vec<Replayed>,
    config: &Config,
    client: &Client,
    report: &mut Report,
) -> Result<Publisher, Failure> {
    let mut publisher = Publisher::connect(config).await?;
    for (message, seen) in messages {
        match publisher.publish([&message], || ()).await.error {
            None => mark(client, &[seen], Resolution::Replayed, report).await?,
            Some(PublishError::Denied(reason)) => {
                report.refused.push(Refused { id: seen.0, reason });
                publisher = Publisher::connect(config).await?;
            }
            Some(error @ PublishError::Returned { .. }) => {
                report.refused.push(Refused { id: seen.0, reason: error.to_string() });
            }
            Some(error) => return Err(error.into()),
        }
    }
    Ok(publisher)
}

/// Publishes first and marks second: a crash between the two replays twice, never not at all. Returns
/// what is left if the broker refuses one of them.
async fn replay_chunk(
    chunk: Vec<StoredDeadLetter>,
    publisher: Option<&Publisher>,
    client: &Client,
    broker: &BrokerSettings,
    report: &mut Report,
) -> Result<Vec<Replayed>, Failure> {
    report.missing.retain(|id| chunk.iter().all(|letter| letter.row.id != *id));
    let (oversize, whole): (Vec<_>, Vec<_>) =
        chunk.into_iter().partition(|letter| letter.row.reason == DeadReason::Oversize.name());
    report.oversize.extend(oversize.iter().map(|letter| letter.row.id));
    let seen: Vec<(i64, i32)> = whole.iter().map(|letter| (letter.row.id, letter.row.attempts)).collect();
    let Some(publisher) = publisher else {
        report.done.extend(seen.iter().map(|(id, _)| id));
        return Ok(Vec::new());
    };
    for letter in &whole {
        for what in left_out(&letter.properties, publisher.user()) {
            report.left_out.entry(what).or_default().push(letter.row.id);
        }
    }
    let messages: Vec<Outgoing> = whole.into_iter().map(|letter| outgoing(letter, broker)).collect();
    let published = publisher.publish(&messages, || ()).await;
    let confirmed = &seen[..published.confirmed];
    mark(client, confirmed, Resolution::Replayed, report).await?;
    match published.error {
        None => Ok(Vec::new()),
        Some(PublishError::Denied(_) | PublishError::Returned { .. }) => {
            Ok(messages.into_iter().zip(seen).skip(published.confirmed).collect())
        }
        Some(error) => {
            Err(Failure::from(error)
                .hint(format!("{} replayed before that; the others are still open", report.done.len())))
        }
    }
}

async fn discard(args: &DiscardArgs, client: &Client) -> Result<Report, Failure> {
    let ids = (!args.ids.is_empty()).then_some(&args.ids[..]);
    let selection = Selection { ids, reason: args.reason.as_deref(), resolved: false };
    let mut report = Report { dry_run: args.dry_run, missing: sorted(&args.ids), ..Report::default() };
    let letters = dead_letter::list(client, selection, i64::MAX).await?;
    report.missing.retain(|id| letters.iter().all(|letter| letter.id != *id));
    let seen: Vec<(i64, i32)> = letters.iter().rev().map(|letter| (letter.id, letter.attempts)).collect();
    if args.dry_run {
        report.done.extend(seen.iter().map(|(id, _)| id));
    } else {
        mark(client, &seen, Resolution::Discarded, &mut report).await?;
    }
    Ok(report)
}

async fn mark(
    client: &Client,
    seen: &[(i64, i32)],
    resolution: Resolution,
    report: &mut Report,
) -> Result<(), Failure> {
    let marked = dead_letter::resolve(client, seen, resolution).await?;
    report.came_again += seen.len() - marked.len();
    report.done.extend(marked);
    Ok(())
}

/// The message as it came: to the exchange to which it was published, unless the broker has moved it to
/// the dead letters since.
fn outgoing(letter: StoredDeadLetter, broker: &BrokerSettings) -> Outgoing {
    let StoredDeadLetter { body, properties, .. } = letter;
    // Of a message that was published without a look at it, or stored without its key.
    let routing_key = properties.routing_key.as_deref().filter(|key| *key != UNCHECKED_KEY).map_or_else(
        || match decode(&body, &properties) {
            Ok(task) => format!("task.{}", task.body.task_type().name()),
            Err(_) => UNCHECKED_KEY.to_owned(),
        },
        str::to_owned,
    );
    let exchange = properties.exchange.as_deref().filter(|name| *name != broker.dead_letter_exchange);
    Outgoing { exchange: exchange.map(str::to_owned), routing_key, body, properties }
}

/// What of a dead letter is not published again.
fn left_out(properties: &Properties, user: &str) -> Vec<&'static str> {
    let evidence = properties.evidence.as_deref();
    let mut left_out = Vec::new();
    if evidence.is_some_and(|evidence| evidence.expiration.is_some()) {
        left_out.push("expiration");
    }
    if properties.user_id.as_deref().is_some_and(|name| name != user) {
        left_out.push("user_id");
    }
    if evidence.is_some_and(|evidence| !evidence.cut.is_empty()) {
        left_out.push("headers");
    }
    left_out
}

fn sorted(ids: &[i64]) -> Vec<i64> {
    let mut ids = ids.to_vec();
    ids.sort_unstable();
    ids.dedup();
    ids
}
