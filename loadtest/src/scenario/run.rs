//! A load for daemons that take it as it comes.

use anyhow::Result;

use super::case::{Case, Done};
use super::follow::Witnesses;
use super::publishing::{Feed, Publishing};
use super::{Order, Outcome};
use crate::progress::Step;
use crate::rig::{Fleet, FleetEnd, Rig};
use crate::watch::Watch;

/// Publishes a load to daemons that are started for it, and stopped in the end.
pub(crate) async fn run(rig: &Rig, order: &Order) -> Result<Outcome> {
    if rig.daemons().is_none() {
        let mut fleet = rig.crew().await?;
        return step(rig, order, &mut fleet).await;
    }
    let mut case = Case::new(rig, order);
    case.open_accounts(None).await?;
    let sink = case.subscribe().await?;
    let ready = Step::begin();
    let mut fleet = rig.crew().await?;
    ready.done("daemon ready");
    let mut done = load(&mut case, sink, &mut fleet).await?;
    done.fleet = fleet.stop().await?;
    case.finish(done).await
}

/// Publishes a load to daemons that run already, and go on to do so.
pub(super) async fn step(rig: &Rig, order: &Order, fleet: &mut Fleet) -> Result<Outcome> {
    let mut case = Case::new(rig, order);
    // First: of the opening of accounts, too, there are events.
    let sink = case.subscribe().await?;
    case.open_accounts(Some(&mut *fleet)).await?;
    let done = load(&mut case, sink, fleet).await?;
    case.finish(done).await
}

async fn load(case: &mut Case<'_>, sink: Option<crate::sink::Sink>, fleet: &mut Fleet) -> Result<Done> {
    let generator = case.generator().await?;
    let watch = Watch::start(case.rig, fleet.pids()).await?;
    let before = fleet.outcomes().await?;
    let feed = Feed::Live(Publishing::start(generator, &case.script).await?);
    let followed = case.follow(feed, Witnesses { fleet, sink: sink.as_ref(), watch: &watch, before }).await?;
    if let Some(sink) = &sink {
        case.follow_events(sink).await?;
        case.follow_outbox().await?;
    }
    let seen = watch.finish().await;
    let (flights, counted, fleet) = (followed.flights, followed.counted, FleetEnd::default());
    Ok(Done { flights, counted, sink, seen, fleet, outbox_empty_at: None })
}
