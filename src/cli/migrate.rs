//! `settled migrate`: brings the schema up to date.

use anyhow::anyhow;
use serde::Serialize;

use super::output::{self, Text};
use super::progress::Progress;
use super::{Exit, Failure, Global, Session};
use crate::lifecycle;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Only say what is missing
    #[arg(long)]
    dry_run: bool,
}

#[derive(Debug, Serialize)]
struct Report {
    applied: Vec<String>,
    missing: Vec<String>,
}

pub(super) fn run(global: &Global, args: &Args) -> Result<Exit, Failure> {
    let stop = lifecycle::interruptible()?;
    let report = global.with_database(async |Session { mut client, .. }| {
        let missing = settled_store::missing(&mut client).await?;
        if args.dry_run {
            return Ok(Report { applied: Vec::new(), missing });
        }
        let progress = Progress::begin(global.json, "migrations", Some(missing.len() as u64));
        let applying = settled_store::migrate_each(&mut client, |name| {
            progress.say(&format!("applied {name}"));
            progress.advance(1);
        });
        let applied = tokio::select! {
            biased;
            applied = applying => applied?,
            () = stop.cancelled() => return Err(interrupted()),
        };
        Ok(Report { applied, missing: Vec::new() })
    })?;
    output::print(global.json, &report, || match (&report.applied[..], &report.missing[..]) {
        ([], []) => Text::of("the schema is up to date"),
        ([], missing) => Text::of(format!("missing: {}", missing.join(", "))),
        (applied, _) => Text::of(format!("applied: {}", applied.join(", "))),
    })
}

fn interrupted() -> Failure {
    let error = anyhow!("interrupted: each migration that was not applied as a whole is rolled back");
    Failure::new(Exit::Interrupted, error).hint("`settled migrate` goes on with those that are missing")
}
