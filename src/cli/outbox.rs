//! `settled outbox`: events that are held because no queue is bound for them or the broker refuses them.

use serde::Serialize;
use settled_store::queries::outbox::{self, HeldRow};

use super::human::{counted, time};
use super::output::Text;
use super::{Exit, Failure, Global, Session};

/// The reason of a row that the broker has returned.
const NO_QUEUE: &str = "no queue takes it";

#[derive(Clone, Debug, clap::Subcommand)]
pub(super) enum Command {
    /// Lists held events with the reason, the oldest first.
    List {
        /// Only those with a greater number: the last one of the page before.
        #[arg(long, value_name = "ID", default_value_t = 0, hide_default_value = true)]
        after: i64,
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

#[derive(Debug, Serialize)]
struct Report {
    done: Vec<i64>,
    /// Requested ids that are not held.
    missing: Vec<i64>,
}

pub(super) fn run(global: &Global, command: Command) -> Result<Exit, Failure> {
    global.with_database(async |session| execute(command, &session).await)
}

async fn execute(command: Command, session: &Session) -> Result<Exit, Failure> {
    let client = &session.client;
    let (verb, asked, done) = match command {
        Command::List { after, limit } => {
            let rows = outbox::list(client, after, limit).await?;
            let headings = ["ID", "COMMITTED", "KEY", ">EVENTS", ">BYTES", "NEXT TRY", "REASON"];
            return session.list(&rows, "no events are held", headings, |row| {
                [
                    row.id.to_string(),
                    time(row.created_at),
                    row.key.clone(),
                    row.events.to_string(),
                    row.bytes.to_string(),
                    time(row.retry_at),
                    reason(row).to_owned(),
                ]
            });
        }
        Command::Show { id } => return show(id, session).await,
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
    session.print(&report, || report.human(verb))?;
    Ok(if report.missing.is_empty() { Exit::Ok } else { Exit::Failure })
}

async fn show(id: i64, session: &Session) -> Result<Exit, Failure> {
    let Some((row, body)) = outbox::load(&session.client, id).await? else {
        return Err(anyhow::anyhow!("no row {id} of the outbox is held").into());
    };
    let body = String::from_utf8_lossy(&body);
    let events: Vec<&str> = body.lines().collect();
    session.print(&serde_json::json!({ "row": row, "events": events }), || {
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
    })
}

fn reason(row: &HeldRow) -> &str {
    row.reason.as_deref().unwrap_or(NO_QUEUE)
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
