//! Stays with a load until every message has its outcome: watches, shows, kills daemons.

use std::time::Duration;

use anyhow::Result;
use settled_pipeline::labels::Outcome;
use tokio::time::{Instant, sleep};
use tokio_postgres::Client;

use super::Order;
use super::case::{COSTLY_POLL, Case, POLL};
use super::publishing::Feed;
use crate::load::schedule::Limit;
use crate::load::{Flights, Pace};
use crate::plan::Tally;
use crate::progress::grouped;
use crate::report::live::{Goal, View};
use crate::report::model::{Quantiles, Snapshot};
use crate::rig::Fleet;
use crate::sink::Sink;
use crate::watch::Watch;

/// How often people are shown where it stands.
const SHOWN: Duration = Duration::from_secs(1);

/// Those who know how far a load is.
pub(super) struct Witnesses<'a> {
    pub(super) fleet: &'a mut Fleet,
    pub(super) sink: Option<&'a Sink>,
    pub(super) watch: &'a Watch,
    /// What the daemons had counted before the load.
    pub(super) before: Option<Tally>,
}

/// What is known when every message has its outcome.
pub(super) struct Followed {
    pub(super) flights: Flights,
    /// What the daemons say came of the load; `None` if they cannot know.
    pub(super) counted: Option<Tally>,
}

#[derive(Clone, Copy, Debug)]
struct Position {
    published: u64,
    confirmed: u64,
    events: u64,
    counted: Option<Tally>,
}

impl Position {
    fn decided(&self) -> u64 {
        self.counted.map_or(0, |tally| tally.decided())
    }
}

struct Follower<'a, 'r> {
    case: &'a Case<'r>,
    feed: Feed,
    those: Witnesses<'a>,
    kills: u32,
    last: Snapshot,
    /// Asks the database, where the daemons cannot know.
    asked: Option<(Client, Instant)>,
}

impl Case<'_> {
    /// Waits until all is published and every message has its outcome, or nothing moves any more.
    /// To be called on the main thread: it starts daemons.
    pub(super) async fn follow(&mut self, feed: Feed, those: Witnesses<'_>) -> Result<Followed> {
        let mut view = View::new(self.goal(&feed));
        let last = Snapshot::default();
        let mut follower = Follower { case: self, feed, those, kills: 0, last, asked: None };
        let stuck = follower.stay(&mut view).await?;
        view.finish();
        let Follower { feed, those, kills, .. } = follower;
        let counted = match (kills, those.before, those.fleet.outcomes().await?) {
            (0, Some(before), Some(after)) => Some(after - before),
            _ => None,
        };
        self.note(stuck);
        Ok(Followed { flights: feed.finish().await?, counted })
    }

    fn goal(&self, feed: &Feed) -> Goal {
        match (feed, self.order.limit) {
            (Feed::Live(_), Limit::Time(time)) => Goal::Time(time),
            (_, Limit::Count(count)) => Goal::Outcomes(count as u64),
            (Feed::Backlog(..), Limit::Time(_)) => Goal::Outcomes(feed.counts().1),
        }
    }
}

impl Follower<'_, '_> {
    /// Until all is done, or nothing has moved for too long: then it returns where it stands.
    async fn stay(&mut self, view: &mut View) -> Result<Option<String>> {
        let mut shown = Instant::now();
        let (mut best, mut moved) = (0, Instant::now());
        let patience = self.case.order.patience + self.case.order.shape.life.scheduled.within;
        loop {
            let position = self.position().await?;
            if shown.elapsed() >= SHOWN {
                self.last = self.snapshot(&position, shown.elapsed().as_secs_f64());
                view.update(&self.last);
                shown = Instant::now();
            }
            if self.kills < self.case.order.kills && self.is_time_to_kill(&position) {
                self.those.fleet.kill_one().await?;
                self.kills += 1;
                moved = Instant::now();
            }
            let published = self.feed.is_done().await?;
            if published && self.kills == self.case.order.kills && self.is_decided(&position).await? {
                return Ok(None);
            }
            let sum = position.published + position.confirmed + position.events + position.decided();
            if sum > best || self.is_within_its_schedule() {
                (best, moved) = (sum, Instant::now());
            } else if moved.elapsed() > patience {
                let (decided, published) = (grouped(position.decided()), grouped(position.published));
                return Ok(Some(format!("{decided} of {published} messages have an outcome, for {patience:?}")));
            }
            sleep(POLL).await;
        }
    }

    async fn position(&mut self) -> Result<Position> {
        let events = self.those.sink.map_or(0, Sink::unique);
        let (published, confirmed) = self.feed.counts();
        let counted = self.those.fleet.outcomes().await?;
        let counted = counted.map(|counted| counted - self.those.before.unwrap_or_default());
        Ok(Position { published, confirmed, events, counted })
    }

    /// A slow schedule is no standstill.
    fn is_within_its_schedule(&self) -> bool {
        let Order { pace, limit, .. } = self.case.order;
        let (Feed::Live(_), Pace::Open { curve, .. }) = (&self.feed, pace) else { return false };
        let length = match limit {
            Limit::Time(time) => time.as_secs_f64(),
            Limit::Count(count) => curve.time_of(*count as f64),
        };
        self.feed.elapsed().as_secs_f64() < length
    }

    /// Whether a share of the load is done that is the next one to end with a kill: they are
    /// evenly spread.
    fn is_time_to_kill(&self, position: &Position) -> bool {
        let Order { limit, kills, .. } = self.case.order;
        let done = match (&self.feed, limit) {
            (Feed::Live(_), Limit::Time(time)) => self.feed.elapsed().as_secs_f64() / time.as_secs_f64(),
            (Feed::Live(_), Limit::Count(count)) => position.published as f64 / *count as f64,
            (Feed::Backlog(flights, _), _) => position.decided() as f64 / flights.sent.len().max(1) as f64,
        };
        done * f64::from(kills + 1) >= f64::from(self.kills + 1)
    }

    /// Whether every published message has an outcome. A daemon that was killed does not know what
    /// it had counted, and one that others use too knows more: then the database is asked, and
    /// that a repetition was settled is taken from the queue being empty.
    async fn is_decided(&mut self, position: &Position) -> Result<bool> {
        if self.those.fleet.is_ours() && self.kills == 0 {
            let called_off = self.case.script.with(|lines| lines.plan.called_off());
            return Ok(position.decided() + called_off as u64 >= position.published);
        }
        let (database, at) = match self.asked.take() {
            Some(asked) => asked,
            None => (self.case.rig.database().await?, Instant::now() - COSTLY_POLL),
        };
        if at.elapsed() < COSTLY_POLL {
            self.asked = Some((database, at));
            return Ok(false);
        }
        let expected =
            self.case.opening + self.case.script.with(|lines| lines.plan.decided() + lines.plan.dead_letters());
        let there = self.case.run.outcomes(&database).await?;
        let empty = self.those.watch.tasks_waiting().await? == 0;
        self.asked = Some((database, Instant::now()));
        Ok(there >= expected as u64 && empty)
    }

    /// Where it stands; rates are over the time since the last one.
    fn snapshot(&self, position: &Position, seconds: f64) -> Snapshot {
        let tick = self.those.watch.latest();
        let tally = position.counted.unwrap_or_default();
        let confirm = self.feed.take_confirm().and_then(|micros| Quantiles::of(&micros));
        let event = self.those.sink.and_then(|sink| Quantiles::of(&sink.take_latency()));
        let rate = |now: u64, before: u64| now.saturating_sub(before) as f64 / seconds;
        let last = &self.last;
        let elapsed = self.feed.elapsed();
        let target_rate = match (&self.feed, self.case.order.pace) {
            (Feed::Live(_), Pace::Open { curve, .. }) => Some(curve.rate_at(elapsed)),
            _ => None,
        };
        let decided = |snapshot: &Snapshot| snapshot.settled + snapshot.rejected;
        let now = Snapshot {
            elapsed,
            target_rate,
            published: position.published,
            confirmed: position.confirmed,
            settled: tally.get(Outcome::Settled),
            rejected: tally.named("rejected"),
            duplicates: tally.get(Outcome::Duplicate),
            dead_lettered: tally.named("dead_lettered"),
            events: position.events,
            queue_depth: tick.queue_depth,
            outbox_events: tick.outbox_events,
            rate_published: rate(position.published, last.published),
            rate_events: rate(position.events, last.events),
            confirm,
            event,
            ..Snapshot::default()
        };
        Snapshot { rate_committed: rate(decided(&now), decided(last)), ..now }
    }
}
