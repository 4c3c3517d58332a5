//! `settled reflexes`: what daemons did by themselves.

use settled_store::queries::reflex;

use super::human::{or_dash, time};
use super::{Exit, Failure, Global};

#[derive(Clone, Debug, clap::Args)]
pub(super) struct Args {
    /// List at most this many, the last ones first.
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(i64).range(1..=100_000))]
    limit: i64,
}

pub(super) fn list(global: &Global, args: &Args) -> Result<Exit, Failure> {
    global.with_database(async |session| {
        let entries = reflex::list(&session.client, args.limit).await?;
        let headings = ["AT", "HOST", ">PID", "REFLEX", "ACTION", "PUBLISHER", "REASON"];
        session.list(&entries, "no reflex has done anything", headings, |found| {
            [
                time(found.at),
                found.host.clone(),
                found.pid.to_string(),
                found.reflex.clone(),
                found.action.clone(),
                or_dash(found.publisher.as_ref()),
                found.reason.clone(),
            ]
        })
    })
}
