//! `settled outbox`: events that are held, because no queue takes them or the broker refuses them.

use serde::Serialize;

use super::human::{counted, time};
use super::output::{self, Table, Text};
use super::{Exit, Failure, Global, block_on};
use crate::store::queries::outbox::{self, HeldRow};
use crate::store::{self, Client};

/// What the reason is of a row that the broker has not refused.
const NO_QUEUE: &str = "no queue takes it";

/// Looks at events that are held, and deals with them.
#[derive(Clone, Debug, clap::Subcommand)]
pub(super) enum Command {
    /// Lists held events with the reason, the oldest first.
    List {
        /// At most this many rows.
        #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(i64).range(1..=100_000))]
        limit: i64,
    },
    /// Shows the events of a held row.
    Show {
        /// Its number.
        id: i64,
    },
    /// Has held events tried again at once, instead of after events.retry_held.
    Retry(RetryArgs),
    /// Gives held events up: they are never published, and kept with the reason in the table
    /// outbox_discarded.
    Discard {
        /// Their numbers.
        #[arg(value_name = "ID", required = true)]
        ids: Vec<i64>,
        /// Why, for whoever asks later.
        #[arg(long, value_name = "TEXT")]
        reason: String,
    },
}

/// Which events to try again.
#[derive(Clone, Debug, clap::Args)]
#[command(group = clap::ArgGroup::new("which").required(true).args(["ids", "all"]))]
pub(super) struct RetryArgs {
    /// Their numbers.
    #[arg(value_name = "ID")]
    ids: Vec<i64>,
    /// All that are held.
    #[arg(long)]
    all: bool,
}

/// What was done.
#[derive(Debug, Serialize)]
struct Report {
    done: Vec<i64>,
    /// Asked for by number, and not held (any more).
    missing: Vec<i64>,
}

pub(super) fn run(global: &Global, command: Command) -> Result<Exit, Failure> {
    let config = global.load()?;
    block_on(async {
        let client = store::connect(&config.postgres).await?;
        carry_out(command, &client, global.json).await
    })
}

async fn carry_out(command: Command, client: &Client, json: bool) -> Result<Exit, Failure> {
    let (verb, asked, done) = match command {
        Command::List { limit } => {
            let rows = outbox::list(client, limit).await?;
            output::print(json, &rows, || table(&rows))?;
            return Ok(Exit::Ok);
        }
        Command::Show { id } => return show(id, client, json).await,
        Command::Retry(RetryArgs { ids, .. }) => {
            let done = outbox::retry(client, (!ids.is_empty()).then_some(&ids[..])).await?;
            ("due", ids, done)
        }
        Command::Discard { ids, reason } => {
            let done = outbox::discard(client, &ids, &reason).await?;
            ("discarded", ids, done)
        }
    };
    let report = Report { missing: asked.into_iter().filter(|id| !done.contains(id)).collect(), done };
    output::print(json, &report, || report.human(verb))?;
    Ok(if report.missing.is_empty() { Exit::Ok } else { Exit::Failure })
}

async fn show(id: i64, client: &Client, json: bool) -> Result<Exit, Failure> {
    let Some((row, body)) = outbox::load(client, id).await? else {
        return Err(Failure::new(Exit::Failure, anyhow::anyhow!("no row {id} of the outbox is held")));
    };
    let body = String::from_utf8_lossy(&body);
    if json {
        let events: Vec<&str> = body.lines().collect();
        output::print(true, &serde_json::json!({ "row": row, "events": events }), Text::default)?;
        return Ok(Exit::Ok);
    }
    output::print(false, &(), || {
        let mut text = Text::default();
        text.pairs([
            ("row", row.id.to_string()),
            ("key", row.key.clone()),
            ("reason", reason(&row).to_owned()),
            ("committed", time(row.created_at)),
            ("next try", time(row.retry_at)),
        ]);
        text.line("events:");
        text.quote(&body);
        text
    })?;
    Ok(Exit::Ok)
}

fn reason(row: &HeldRow) -> &str {
    row.reason.as_deref().unwrap_or(NO_QUEUE)
}

fn table(rows: &[HeldRow]) -> Text {
    if rows.is_empty() {
        return Text::of("no events are held");
    }
    let mut list = Table::new(["ID", "COMMITTED", "KEY", "EVENTS", "BYTES", "NEXT TRY", "REASON"]);
    for row in rows {
        list.row([
            row.id.to_string(),
            time(row.created_at),
            row.key.clone(),
            row.events.to_string(),
            row.bytes.to_string(),
            time(row.retry_at),
            reason(row).to_owned(),
        ]);
    }
    list.align_right(&[3, 4]);
    list.into()
}

impl Report {
    fn human(&self, verb: &str) -> Text {
        let mut text = Text::of(format!("{} {verb}", counted(self.done.len(), "row")));
        if !self.missing.is_empty() {
            let ids: Vec<String> = self.missing.iter().map(ToString::to_string).collect();
            text.line(format!("not held, or not any more: {}", ids.join(", ")));
        }
        text
    }
}
