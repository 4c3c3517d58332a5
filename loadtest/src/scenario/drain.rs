//! A backlog that was published while no daemon ran.

use anyhow::Result;
use tokio::time::sleep;

use super::case::{Case, POLL};
use super::{Order, Outcome};
use crate::load::Publishing;
use crate::plan::Tally;
use crate::progress::{Count, Step};
use crate::rig::Rig;
use crate::watch::Watch;

/// Publishes a backlog, then has daemons catch up.
pub(crate) async fn drain(rig: &Rig, order: &Order) -> Result<Outcome> {
    let mut case = Case::new(rig, order);
    case.open_accounts(None).await?;
    case.fill_ledger().await?;
    let sink = case.subscribe().await?;
    let mut backlog = publish(&case).await?;
    let step = Step::begin();
    let mut fleet = rig.crew().await?;
    step.done("daemon ready");
    let watch = Watch::start(rig, fleet.pids()).await?;
    backlog.as_backlog();
    let (followed, seen) = case.follow(backlog, &mut fleet, sink, watch, Some(Tally::default())).await?;
    let fleet = fleet.stop().await?;
    case.finish(followed, fleet, seen).await
}

pub(super) async fn publish(case: &Case<'_>) -> Result<Publishing> {
    let count = Count::new("published", case.order.limit.count().unwrap_or_default() as u64);
    let mut publishing = case.generator().await?.start();
    while !publishing.is_done().await? {
        count.at(publishing.counts().1);
        sleep(POLL).await;
    }
    count.at(publishing.counts().1);
    count.done();
    Ok(publishing)
}
