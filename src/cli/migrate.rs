//! `settled migrate`: brings the schema up to date.

use serde::Serialize;

use super::output::{self, Text};
use super::{Exit, Failure, Global, Session};

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
    let report = global.with_database(async |Session { mut client, .. }| {
        let missing = settled_store::missing(&mut client).await?;
        if args.dry_run {
            return Ok(Report { applied: Vec::new(), missing });
        }
        Ok(Report { applied: settled_store::migrate(&mut client).await?, missing: Vec::new() })
    })?;
    output::print(global.json, &report, || match (&report.applied[..], &report.missing[..]) {
        ([], []) => Text::of("the schema is up to date"),
        ([], missing) => Text::of(format!("missing: {}", missing.join(", "))),
        (applied, _) => Text::of(format!("applied: {}", applied.join(", "))),
    })
}
