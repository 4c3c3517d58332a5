//! How soon a daemon is there, and how soon it goes on after it was killed.

use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};
use rustix::process::Signal;

use super::Order;
use super::case::{Case, POLL, reach};
use super::drain::publish;
use crate::judge::books;
use crate::load::STALLED;
use crate::load::clock::now_micros;
use crate::rig::Rig;

#[derive(Debug, Default)]
pub(crate) struct StartUp {
    /// From the start of the process to its readiness.
    pub(crate) ready: Vec<Duration>,
    /// From SIGKILL, amid a backlog, to the first commit of the daemon that was started at once.
    pub(crate) first_commit: Vec<Duration>,
}

/// Starts a daemon `starts` times on a migrated database, then kills one `kills` times while it
/// works on the backlog of `order`. To be called on the main thread.
///
/// # Errors
/// Also when the ledger is not in order after the kills.
pub(crate) async fn start_up(rig: &Rig, order: &Order, starts: usize, kills: usize) -> Result<StartUp> {
    let mut times = StartUp::default();
    let case = Case::new(rig, order);
    case.open_accounts(None).await?;
    for _ in 0..starts {
        let begun = Instant::now();
        let crew = rig.crew().await?;
        times.ready.push(begun.elapsed());
        crew.stop().await?;
    }
    publish(&case).await?.finish().await?;
    let mut begun = now_micros();
    let mut crew = rig.crew().await?;
    first_commit(rig, begun).await?;
    for _ in 0..kills {
        let killed = now_micros();
        for daemon in 0..crew.admins().len() {
            crew.end_one(daemon, Signal::KILL).await?;
        }
        // What the killed one received it may have committed to the last: that does not count.
        begun = now_micros();
        crew = rig.crew().await?;
        let committed = first_commit(rig, begun).await?;
        times.first_commit.push(Duration::from_micros(u64::try_from(committed - killed)?));
    }
    crew.stop().await?;
    let audit = rig.audit().await?;
    ensure!(audit["passed"] == true, "the audit finds fault with the ledger after the kills: {audit}");
    Ok(times)
}

/// When the first payment was committed of those received since `received`, in microseconds since
/// 1970, by the database's clock: that it is looked for only now and then does not make it later.
async fn first_commit(rig: &Rig, received: i64) -> Result<i64> {
    let database = rig.database().await?;
    let mut first = None;
    let stuck = reach(STALLED, 1, POLL, async || {
        first = books::first_commit(&database, received).await?;
        Ok(u64::from(first.is_some()))
    })
    .await?;
    match (first, stuck) {
        (Some(first), None) => Ok(first),
        _ => bail!("nothing is committed within {STALLED:?}: is the backlog used up?"),
    }
}
