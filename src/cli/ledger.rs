//! `settled ledger`: the ledger's incarnation, and its renewal after a restore.

use anyhow::anyhow;
use serde::Serialize;
use settled_store::queries::ledger::{self, Incarnation};
use uuid::Uuid;

use super::human::{or_dash, time};
use super::output::{self, Text};
use super::{Exit, Failure, Global, Session};

#[derive(Clone, Debug, clap::Subcommand)]
pub(super) enum Command {
    /// Print the ledger's incarnation, which is the end of its events' source
    Show,
    /// Give a ledger that was restored from a backup a new incarnation
    ///
    /// To be done once after each restore, before the daemons are started: tasks that were lost with the
    /// backup may come again and come to something else, under the same event ids. Repeating it with the
    /// same incarnation changes nothing.
    Renew {
        /// The incarnation that is replaced, as `settled ledger show` prints it.
        #[arg(long, value_name = "UUID")]
        instead_of: Uuid,
    },
}

#[derive(Serialize)]
struct Report {
    #[serde(flatten)]
    now: Incarnation,
    /// Whether `renew` changed it, or an earlier one did.
    #[serde(skip_serializing_if = "Option::is_none")]
    renewed: Option<bool>,
}

pub(super) fn run(global: &Global, command: Command) -> Result<Exit, Failure> {
    let report = global.with_database(async |Session { client, .. }| {
        if let Command::Renew { instead_of } = command
            && let Some(now) = ledger::renew(&client, instead_of).await?
        {
            return Ok(Report { now, renewed: Some(true) });
        }
        let found = ledger::incarnation(&client).await?;
        let now = found.ok_or_else(|| anyhow!(ledger::NO_ROW))?;
        match command {
            Command::Show => Ok(Report { now, renewed: None }),
            Command::Renew { instead_of } if now.previous == Some(instead_of) => {
                Ok(Report { now, renewed: Some(false) })
            }
            Command::Renew { instead_of } => {
                let error =
                    anyhow!("nothing changed: the ledger's incarnation is {}, not {instead_of}", now.incarnation);
                Err(Failure::from(error).hint("is it the right database? See `settled ledger show`"))
            }
        }
    })?;
    output::print(global.json, &report, || human(&report))
}

fn human(report: &Report) -> Text {
    let Report { now, renewed } = report;
    let mut text = match renewed {
        Some(true) => Text::of("renewed; events name the new incarnation from now on"),
        Some(false) => Text::of("it was renewed before; nothing changed"),
        None => Text::default(),
    };
    text.pairs([
        ("incarnation", now.incarnation.to_string()),
        ("since", time(now.since)),
        ("previous", or_dash(now.previous)),
    ]);
    text
}
