//! `settled dead-letters`: messages that could not be processed.

mod view;

use anyhow::anyhow;
use settled_amqp::{BrokerSettings, Outgoing, PublishError, Publisher};
use settled_core::contract::{DeadReason, Properties, decode};
use settled_store::Client;
use settled_store::queries::dead_letter::{self, Resolution, Selection, StoredDeadLetter};
use tokio_util::sync::CancellationToken;

use self::view::{Refused, Report, Shown};
use super::human::{or_dash, time};
use super::progress::Progress;
use super::publish::{UNCHECKED_KEY, connect};
use super::{Exit, Failure, Global, Session};
use crate::config::Config;
use crate::lifecycle;

/// The number of dead letters that are read, published and marked at a time.
const CHUNK: i64 = 200;

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
    /// Marks dead letters as dealt with. They are kept as long as [retention] says.
    Discard(DiscardArgs),
}

#[derive(Clone, Debug, clap::Args)]
pub(super) struct ListArgs {
    /// Only those with this reason.
    #[arg(long, value_parser = reasons())]
    reason: Option<String>,
    /// Also those that were replayed or discarded.
    #[arg(long)]
    all: bool,
    /// Only those with a smaller number: the last one of the page before.
    #[arg(long, value_name = "ID", default_value_t = i64::MAX, hide_default_value = true)]
    before: i64,
    /// At most this many.
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(i64).range(1..=100_000))]
    limit: i64,
}

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
    global.with_database(async |session| execute(command, &session).await)
}

async fn execute(command: Command, session: &Session) -> Result<Exit, Failure> {
    let (verb, report) = match command {
        Command::List(args) => return list(&args, session).await,
        Command::Show { id } => return show(id, session).await,
        Command::Replay(args) => ("replayed", replay(&args, session, &Work::begin(session, "replayed")?).await?),
        Command::Discard(args) => ("discarded", discard(&args, session, &Work::begin(session, "discarded")?).await?),
    };
    session.print(&report, || report.human(verb))?;
    if report.interrupted {
        return Err(Failure::new(Exit::Interrupted, anyhow!("interrupted: {} {verb}", report.done.len()))
            .hint("the others are still open; the same command goes on with them"));
    }
    let all = report.missing.is_empty() && report.oversize.is_empty() && report.refused.is_empty();
    Ok(if all { Exit::Ok } else { Exit::Failure })
}

/// Work that goes on, a chunk at a time, until it is done or interrupted.
struct Work {
    progress: Progress,
    stop: CancellationToken,
}

impl Work {
    fn begin(session: &Session, what: &'static str) -> Result<Self, Failure> {
        Ok(Self { progress: Progress::begin(session.json, what, None), stop: lifecycle::interruptible()? })
    }

    /// Counts what was done. Returns whether to go on.
    fn goes_on(&self, done: usize, report: &mut Report) -> bool {
        self.progress.advance(done as u64);
        report.interrupted = self.stop.is_cancelled();
        !report.interrupted
    }
}

async fn list(args: &ListArgs, session: &Session) -> Result<Exit, Failure> {
    let selection = Selection { ids: None, reason: args.reason.as_deref(), resolved: args.all };
    let letters = dead_letter::list(&session.client, selection, args.before, args.limit).await?;
    let headings = ["ID", "LAST SEEN", "REASON", "DETAIL", "PUBLISHER", "TIMES", "STATE"];
    let is_full = usize::try_from(args.limit).is_ok_and(|limit| letters.len() == limit);
    let next = letters.last().filter(|_| is_full).map(|last| last.id.to_string());
    session.page(&letters, "no dead letters", next.as_deref(), headings, |letter| {
        [
            letter.id.to_string(),
            time(letter.last_seen),
            letter.reason.clone(),
            letter.detail.clone(),
            or_dash(letter.publisher.as_ref()),
            letter.attempts.to_string(),
            letter.resolution.clone().unwrap_or_else(|| "open".to_owned()),
        ]
    })
}

async fn show(id: i64, session: &Session) -> Result<Exit, Failure> {
    let selection = Selection { ids: Some(&[id]), reason: None, resolved: true };
    let Some(letter) = dead_letter::load(&session.client, selection, 0, 1).await?.pop() else {
        return Err(anyhow!("no dead letter {id}").into());
    };
    let shown = Shown::of(&letter);
    session.print(&shown, || shown.human())
}

async fn replay(args: &ReplayArgs, session: &Session, work: &Work) -> Result<Report, Failure> {
    let Session { config, client, .. } = session;
    let by_id = !args.ids.is_empty();
    let selection = Selection { ids: by_id.then_some(&args.ids[..]), reason: args.reason.as_deref(), resolved: by_id };
    let mut report = Report::new(args.dry_run, &args.ids);
    if !args.dry_run {
        session.announce_broker();
    }
    let mut publisher = if args.dry_run { None } else { Some(connect(config).await?) };
    let mut after = 0;
    // Leaves out dead letters that arrive meanwhile, among them replayed ones that fail again.
    let last = dead_letter::list(client, selection, i64::MAX, 1).await?.first().map_or(0, |newest| newest.id);
    while after < last {
        let chunk = dead_letter::load(client, selection, after, CHUNK).await?;
        let Some(newest) = chunk.last() else { break };
        after = newest.row.id;
        let seen = chunk.len();
        let refused = replay_chunk(chunk, publisher.as_ref(), client, &config.broker, &mut report).await?;
        if !refused.is_empty() {
            // The broker has closed the publisher's channel.
            publisher = Some(replay_singly(refused, config, client, &mut report).await?);
        }
        if !work.goes_on(seen, &mut report) {
            break;
        }
    }
    if let Some(publisher) = publisher {
        publisher.close().await;
    }
    Ok(report)
}

/// A message, and the id and attempts of its dead letter.
type Replayed = (Outgoing, (i64, i32));

/// Publishes messages one by one, to find those that the broker refuses. They stay open and are reported.
async fn replay_singly(
    messages: Vec<Replayed>,
    config: &Config,
    client: &Client,
    report: &mut Report,
) -> Result<Publisher, Failure> {
    let mut publisher = connect(config).await?;
    for (message, seen) in messages {
        match publisher.publish([&message]).await.error {
            None => mark(client, &[seen], Resolution::Replayed, report).await?,
            Some(PublishError::Denied(reason)) => {
                report.refused.push(Refused { id: seen.0, reason });
                publisher = connect(config).await?;
            }
            Some(error @ PublishError::Returned { .. }) => {
                report.refused.push(Refused { id: seen.0, reason: error.to_string() });
            }
            Some(error) => return Err(error.into()),
        }
    }
    Ok(publisher)
}

/// Publishes, then marks the dead letters as replayed: after a crash in between they are replayed again rather than
/// lost. If the broker refuses a message, returns it and all that follow.
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
    let published = publisher.publish(&messages).await;
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

async fn discard(args: &DiscardArgs, session: &Session, work: &Work) -> Result<Report, Failure> {
    let client = &session.client;
    let ids = (!args.ids.is_empty()).then_some(&args.ids[..]);
    let selection = Selection { ids, reason: args.reason.as_deref(), resolved: false };
    let mut report = Report::new(args.dry_run, &args.ids);
    let mut after = 0;
    let last = dead_letter::list(client, selection, i64::MAX, 1).await?.first().map_or(0, |newest| newest.id);
    while after < last {
        let chunk = dead_letter::load(client, selection, after, CHUNK).await?;
        let Some(newest) = chunk.last() else { break };
        after = newest.row.id;
        report.missing.retain(|id| chunk.iter().all(|letter| letter.row.id != *id));
        let seen: Vec<(i64, i32)> = chunk.iter().map(|letter| (letter.row.id, letter.row.attempts)).collect();
        if args.dry_run {
            report.done.extend(seen.iter().map(|(id, _)| id));
        } else {
            mark(client, &seen, Resolution::Discarded, &mut report).await?;
        }
        if !work.goes_on(seen.len(), &mut report) {
            break;
        }
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

/// Returns the original message, for the exchange it was published to, unless that is the dead-letter exchange.
fn outgoing(letter: StoredDeadLetter, broker: &BrokerSettings) -> Outgoing {
    let StoredDeadLetter { body, properties, .. } = letter;
    // If the key was not stored, or says nothing about the task's type, it is derived from the body.
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

/// Returns the properties that are not published again.
fn left_out(properties: &Properties, user: &str) -> Vec<&'static str> {
    let evidence = properties.evidence.as_deref();
    [
        ("expiration", evidence.is_some_and(|evidence| evidence.expiration.is_some())),
        ("user_id", properties.user_id.as_deref().is_some_and(|name| name != user)),
        ("headers", evidence.is_some_and(|evidence| !evidence.cut.is_empty())),
    ]
    .into_iter()
    .filter_map(|(name, is_left_out)| is_left_out.then_some(name))
    .collect()
}
