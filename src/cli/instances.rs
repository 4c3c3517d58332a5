//! `settled instances`, `settled drain`, `settled resume`: the daemons that use the database.

use std::time::{Duration, Instant};

use serde::Serialize;
use settled_store::Client;
use settled_store::queries::instance::{self, GONE, Instance, Which};

use super::human::{age, counted, duration, or_dash};
use super::output::Text;
use super::{Exit, Failure, Global, Session};

/// Interval between two looks at daemons that are waited for.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// How long a daemon that was not waited for may take until it begins to drain: the interval of its lease.
const SOON: &str = "they begin within 2 seconds";

#[derive(Clone, Debug, clap::Args)]
#[command(group = clap::ArgGroup::new("which").required(true).args(["ids", "all"]))]
pub(super) struct Selection {
    /// Their numbers, as `settled instances` lists them.
    #[arg(value_name = "INSTANCE")]
    ids: Vec<i64>,
    /// All that run now. A daemon that starts later is not meant.
    #[arg(long)]
    all: bool,
}

#[derive(Clone, Debug, clap::Args)]
pub(super) struct DrainArgs {
    #[command(flatten)]
    which: Selection,
    /// Wait until they have nothing in hand any more, or have ended.
    #[arg(long)]
    wait: bool,
    /// How long to wait.
    #[arg(long, value_name = "DURATION", default_value = "60s", value_parser = duration, requires = "wait")]
    timeout: Duration,
}

/// What became of a request.
#[derive(Debug, Serialize)]
struct Report {
    /// Daemons that were asked.
    asked: Vec<i64>,
    /// Requested daemons that are not there, or are gone.
    missing: Vec<i64>,
    /// After a wait: daemons that still have something in hand.
    #[serde(skip_serializing_if = "Option::is_none")]
    pending: Option<Vec<Instance>>,
}

pub(super) fn list(global: &Global) -> Result<Exit, Failure> {
    global.with_database(async |session| {
        let instances = instance::list(&session.client).await?;
        let headings = [">ID", "HOST", ">PID", "VERSION", ">AGE", "STATE", ">IN HAND", "ADMIN", ">SEEN", "REASON"];
        session.list(&instances, "no daemon uses this database", headings, |found| {
            [
                found.id.to_string(),
                found.host.clone(),
                found.pid.to_string(),
                found.version.clone(),
                age(found.age_seconds),
                found.state.clone(),
                found.in_flight.to_string(),
                found.admin.clone(),
                age(found.seen_seconds),
                or_dash(found.reason.as_ref()),
            ]
        })
    })
}

pub(super) fn drain(global: &Global, args: DrainArgs) -> Result<Exit, Failure> {
    let DrainArgs { which, wait, timeout } = args;
    global.with_database(async |session| {
        let asked = instance::drain(&session.client, &which.clone().into()).await?;
        let mut report = which.report(asked);
        if wait {
            report.pending = Some(wait_until_drained(&session.client, &report.asked, timeout).await?);
        }
        end(&session, &report, |report| match &report.pending {
            None => format!("{} to drain; {SOON}", counted(report.asked.len(), "daemon")),
            Some(pending) => format!("{} drained", counted(report.asked.len() - pending.len(), "daemon")),
        })
    })
}

pub(super) fn resume(global: &Global, which: Selection) -> Result<Exit, Failure> {
    global.with_database(async |session| {
        let asked = instance::resume(&session.client, &which.clone().into()).await?;
        end(&session, &which.report(asked), |report| {
            format!("{} to take tasks again; {SOON}", counted(report.asked.len(), "daemon"))
        })
    })
}

/// Waits until daemons have drained or ended. Returns those that have not within `timeout`.
async fn wait_until_drained(client: &Client, asked: &[i64], timeout: Duration) -> Result<Vec<Instance>, Failure> {
    let began = Instant::now();
    loop {
        let mut pending = instance::list(client).await?;
        pending.retain(|found| asked.contains(&found.id) && found.state != "drained" && found.state != GONE);
        if pending.is_empty() || began.elapsed() >= timeout {
            return Ok(pending);
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// Prints a report. All is well if every daemon was there and none is pending.
fn end(session: &Session, report: &Report, done: impl FnOnce(&Report) -> String) -> Result<Exit, Failure> {
    session.print(report, || {
        let mut text = Text::of(done(report));
        if !report.missing.is_empty() {
            let ids: Vec<String> = report.missing.iter().map(ToString::to_string).collect();
            text.line(format!("not there, or gone: {}", ids.join(", ")));
        }
        for found in report.pending.iter().flatten() {
            let (id, in_flight) = (found.id, counted(found.in_flight, "task"));
            text.line(format!("still {}: {id}, {in_flight} in hand, {}", found.state, or_dash(found.reason.as_ref())));
        }
        text
    })?;
    let is_done = report.missing.is_empty() && report.pending.as_ref().is_none_or(Vec::is_empty);
    Ok(if is_done { Exit::Ok } else { Exit::Failure })
}

impl Selection {
    fn report(self, asked: Vec<i64>) -> Report {
        let missing = self.ids.into_iter().filter(|id| !asked.contains(id)).collect();
        Report { asked, missing, pending: None }
    }
}

impl From<Selection> for Which {
    fn from(Selection { ids, all }: Selection) -> Self {
        if all { Self::All } else { Self::Ids(ids) }
    }
}
