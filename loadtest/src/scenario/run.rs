//! A load for daemons that take it as it comes.

use anyhow::Result;

use super::case::Case;
use super::follow::Followed;
use super::{Order, Outcome};
use crate::progress::Step;
use crate::rig::{Crew, Fleet, FleetEnd, Rig};
use crate::sink::Sink;
use crate::watch::{Seen, Watch};

/// Publishes a load to daemons that are started for it, and stopped in the end.
pub(crate) async fn run(rig: &Rig, order: &Order) -> Result<Outcome> {
    if matches!(rig.blueprint.crew, Crew::Theirs(_)) {
        let mut fleet = rig.crew().await?;
        return step(rig, order, &mut fleet).await;
    }
    let mut case = Case::new(rig, order);
    case.open_accounts(None).await?;
    let sink = case.subscribe().await?;
    let ready = Step::begin();
    let mut fleet = rig.crew().await?;
    ready.done("daemon ready");
    let (followed, seen) = load(&mut case, sink, &mut fleet).await?;
    let fleet = fleet.stop().await?;
    case.finish(followed, fleet, seen).await
}

/// Publishes a load to daemons that run already, and go on to do so.
pub(super) async fn step(rig: &Rig, order: &Order, fleet: &mut Fleet) -> Result<Outcome> {
    let mut case = Case::new(rig, order);
    // First: of the opening of accounts, too, there are events.
    let sink = case.subscribe().await?;
    case.open_accounts(Some(&mut *fleet)).await?;
    let (followed, seen) = load(&mut case, sink, fleet).await?;
    case.finish(followed, FleetEnd::default(), seen).await
}

async fn load(case: &mut Case<'_>, sink: Option<Sink>, fleet: &mut Fleet) -> Result<(Followed, Seen)> {
    let generator = case.generator().await?;
    let watch = Watch::start(case.rig, fleet.pids()).await?;
    let before = fleet.outcomes().await?;
    case.follow(generator.start(), fleet, sink, watch, before).await
}
