//! Stays with a load until every message has its outcome: watches, shows, kills daemons.

use std::time::Duration;

use anyhow::Result;
use settled_pipeline::labels::Outcome;
use tokio::time::{Instant, sleep};
use tokio_postgres::Client;

use super::Order;
use super::case::{COSTLY_POLL, Case};
use crate::load::clock::now_micros;
use crate::load::schedule::Limit;
use crate::load::{Flights, Pace, Publishing};
use crate::plan::Tally;
use crate::report::live::{Goal, View};
use crate::report::model::{Quantiles, Snapshot};
use crate::report::numbers::count;
use crate::rig::Fleet;
use crate::sink::Sink;
use crate::watch::{Seen, Watch};

/// How often daemons are asked where they stand. It takes them milliseconds of processor time, which is measured with all
/// else.
const LOOK: Duration = Duration::from_millis(250);
/// How often people are shown where it stands.
const SHOWN: Duration = Duration::from_secs(1);

/// What is known when every message has its outcome and its event.
pub(super) struct Followed {
    pub(super) flights: Flights,
    /// What the daemons say came of the load; `None` if they cannot know.
    pub(super) counted: Option<Tally>,
    pub(super) sink: Option<Sink>,
    /// When a late subscriber's events were all confirmed to the daemon: see [`super::Outcome`].
    pub(super) outbox_empty_at: Option<i64>,
}

struct Follower<'a, 'r> {
    case: &'a Case<'r>,
    feed: Publishing,
    fleet: &'a mut Fleet,
    sink: Option<&'a Sink>,
    watch: &'a Watch,
    /// What the daemons had counted before the load.
    before: Option<Tally>,
    kills: u32,
    /// Asks the database, where the daemons cannot know.
    asked: Option<(Client, Instant)>,
}

impl Case<'_> {
    /// Waits until all is published and every message has its outcome and its event, or nothing moves
    /// any more. `before` is what the daemons had counted before the load. To be called on the main
    /// thread: it starts daemons.
    pub(super) async fn follow(
        &mut self,
        feed: Publishing,
        fleet: &mut Fleet,
        mut sink: Option<Sink>,
        watch: Watch,
        before: Option<Tally>,
    ) -> Result<(Followed, Seen)> {
        let is_live = feed.is_live();
        let mut view = View::new(match self.order.limit {
            Limit::Time(time) if is_live => Goal::Time(time),
            Limit::Time(_) => Goal::Outcomes(feed.counts().1),
            Limit::Count(count) => Goal::Outcomes(count as u64),
        });
        let (case, sink_so_far, asked) = (&*self, sink.as_ref(), None);
        let mut follower = Follower { case, feed, fleet, sink: sink_so_far, watch: &watch, before, kills: 0, asked };
        let stuck = follower.stay(&mut view).await?;
        drop(view);
        let counted = match (follower.kills, before, follower.fleet.outcomes().await?) {
            (0, Some(before), Some(after)) => Some(after - before),
            _ => None,
        };
        let flights = follower.feed.finish().await?;
        self.note(stuck);
        let is_late = self.order.subscriber.is_late();
        if !is_live || is_late {
            self.follow_outbox().await?;
        }
        let outbox_empty_at = is_late.then(now_micros);
        let seen = match &mut sink {
            Some(sink) if is_late => {
                let worked = watch.finish().await;
                let reading = Watch::start(self.rig, fleet.pids()).await?;
                sink.consume();
                self.hear_all(sink).await?;
                worked.and_later(reading.finish().await)
            }
            Some(sink) => {
                self.hear_all(sink).await?;
                watch.finish().await
            }
            None => watch.finish().await,
        };
        Ok((Followed { flights, counted, sink, outbox_empty_at }, seen))
    }

    /// Waits until all events have come, and the daemons know it.
    async fn hear_all(&mut self, sink: &Sink) -> Result<()> {
        self.follow_events(sink).await?;
        self.follow_outbox().await
    }
}

impl Follower<'_, '_> {
    /// Until all is done, or nothing has moved for too long: then it returns where it stands.
    async fn stay(&mut self, view: &mut View) -> Result<Option<String>> {
        let (mut last, mut shown) = (Snapshot::default(), Instant::now());
        let (mut best, mut moved) = (0, Instant::now());
        let patience = self.case.order.patience + self.case.order.shape.life.scheduled.within;
        loop {
            let now = self.position().await?;
            if shown.elapsed() >= SHOWN {
                last = self.since(&last, now.clone(), shown.elapsed().as_secs_f64());
                view.update(&last);
                shown = Instant::now();
            }
            if self.kills < self.case.order.kills && self.is_time_to_kill(&now) {
                self.fleet.kill_one().await?;
                self.kills += 1;
                moved = Instant::now();
            }
            let published = self.feed.is_done().await?;
            if published && self.kills == self.case.order.kills && self.is_decided(&now).await? {
                return Ok(None);
            }
            let sum = now.published + now.confirmed + now.events + now.decided();
            if sum > best || self.is_within_its_schedule() {
                (best, moved) = (sum, Instant::now());
            } else if moved.elapsed() > patience {
                let (decided, published) = (count(now.decided()), count(now.published));
                return Ok(Some(format!("{decided} of {published} messages have an outcome, for {patience:?}")));
            }
            sleep(LOOK).await;
        }
    }

    /// Where it stands, but for what is said of the time since it was last shown.
    async fn position(&mut self) -> Result<Snapshot> {
        let (published, confirmed) = self.feed.counts();
        let events = self.sink.map_or(0, Sink::unique);
        let counted = self.fleet.outcomes().await?.map(|counted| counted - self.before.unwrap_or_default());
        let tally = counted.unwrap_or_default();
        Ok(Snapshot {
            elapsed: self.feed.elapsed(),
            published,
            confirmed,
            settled: tally.get(Outcome::Settled),
            rejected: tally.named("rejected"),
            duplicates: tally.get(Outcome::Duplicate),
            dead_lettered: tally.named("dead_lettered"),
            events,
            ..Snapshot::default()
        })
    }

    /// Completes what is shown: rates and times are those since `last`, so many seconds ago.
    fn since(&self, last: &Snapshot, now: Snapshot, seconds: f64) -> Snapshot {
        let tick = self.watch.latest();
        let rate = |now: u64, before: u64| now.saturating_sub(before) as f64 / seconds;
        Snapshot {
            target_rate: match self.case.order.pace {
                Pace::Open { curve, .. } if self.feed.is_live() => Some(curve.rate_at(now.elapsed)),
                _ => None,
            },
            queue_depth: tick.queue_depth,
            outbox_events: tick.outbox_events,
            rate_published: rate(now.published, last.published),
            rate_committed: rate(now.settled + now.rejected, last.settled + last.rejected),
            rate_events: rate(now.events, last.events),
            confirm: self.feed.take_confirm().and_then(|micros| Quantiles::of(&micros)),
            event: self.sink.and_then(|sink| Quantiles::of(&sink.take_latency())),
            ..now
        }
    }

    /// A slow schedule is no standstill.
    fn is_within_its_schedule(&self) -> bool {
        let Order { pace: Pace::Open { curve, .. }, limit, .. } = self.case.order else { return false };
        let length = match limit {
            Limit::Time(time) => time.as_secs_f64(),
            Limit::Count(count) => curve.time_of(*count as f64),
        };
        self.feed.is_live() && self.feed.elapsed().as_secs_f64() < length
    }

    /// Whether a share of the load is done that is the next one to end with a kill: they are
    /// evenly spread.
    fn is_time_to_kill(&self, now: &Snapshot) -> bool {
        let Order { limit, kills, .. } = self.case.order;
        let done = match limit {
            _ if !self.feed.is_live() => now.decided() as f64 / now.published.max(1) as f64,
            Limit::Time(time) => self.feed.elapsed().as_secs_f64() / time.as_secs_f64(),
            Limit::Count(count) => now.published as f64 / *count as f64,
        };
        done * f64::from(kills + 1) >= f64::from(self.kills + 1)
    }

    /// Whether every published message has an outcome. A daemon that was killed does not know what
    /// it had counted, and one that others use too knows more: then the database is asked, and
    /// that a repetition was settled is taken from the queue being empty.
    async fn is_decided(&mut self, now: &Snapshot) -> Result<bool> {
        if self.fleet.is_ours() && self.kills == 0 {
            let called_off = self.case.script.with(|lines| lines.plan.called_off());
            return Ok(now.decided() + called_off as u64 >= now.published);
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
        let empty = self.watch.tasks_waiting().await? == 0;
        self.asked = Some((database, Instant::now()));
        Ok(there >= expected as u64 && empty)
    }
}
