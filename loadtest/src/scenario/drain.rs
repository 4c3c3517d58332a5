//! A backlog that was published while no daemon ran.

use anyhow::Result;

use super::case::{Case, Done};
use super::follow::Witnesses;
use super::publishing::{Feed, Publishing};
use super::{Order, Outcome, Subscriber};
use crate::load::clock::now_micros;
use crate::plan::Tally;
use crate::progress::{Count, Step};
use crate::rig::Rig;
use crate::watch::Watch;

/// Publishes a backlog, then has daemons catch up.
pub(crate) async fn drain(rig: &Rig, order: &Order) -> Result<Outcome> {
    let mut case = Case::new(rig, order);
    case.open_accounts(None).await?;
    case.fill_ledger().await?;
    let mut sink = case.subscribe().await?;
    let flights = publish(&case).await?;
    let step = Step::begin();
    let mut fleet = rig.crew().await?;
    step.done("daemon ready");
    let watch = Watch::start(rig, fleet.pids()).await?;
    let witnesses = Witnesses { fleet: &mut fleet, sink: sink.as_ref(), watch: &watch, before: Some(Tally::default()) };
    let followed = case.follow(Feed::backlog(flights), witnesses).await?;
    case.follow_outbox().await?;
    let outbox_empty_at = Some(now_micros()).filter(|_| order.subscriber == Subscriber::Late);
    if let Some(sink) = &mut sink {
        if order.subscriber == Subscriber::Late {
            sink.consume();
        }
        case.follow_events(sink).await?;
        case.follow_outbox().await?;
    }
    let seen = watch.finish().await;
    let (flights, counted, fleet) = (followed.flights, followed.counted, fleet.stop().await?);
    case.finish(Done { flights, counted, sink, seen, fleet, outbox_empty_at }).await
}

pub(super) async fn publish(case: &Case<'_>) -> Result<crate::load::Flights> {
    let generator = case.generator().await?;
    let count = Count::new("published", case.order.limit.count().unwrap_or_default() as u64);
    let mut publishing = Publishing::start(generator, &case.script).await?;
    while !publishing.is_done().await? {
        count.at(publishing.counts().1);
        tokio::time::sleep(super::case::POLL).await;
    }
    count.at(publishing.counts().1);
    count.done();
    publishing.finish().await
}
