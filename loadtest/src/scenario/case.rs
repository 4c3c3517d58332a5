//! What all runs do: open accounts, subscribe, and collect the evidence.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use settled_testkit::seed;
use tokio::time::{Instant, sleep};

use super::follow::Followed;
use super::{Order, Outcome, Subscriber};
use crate::broker::{self, DEAD_QUEUE, TASKS_QUEUE};
use crate::judge::books::{self, Run};
use crate::judge::{Evidence, Left};
use crate::load::clock::now_micros;
use crate::load::{self, Flights, Generator, STALLED, Script};
use crate::plan::{Mark, Plan, Tally};
use crate::progress::{Step, say};
use crate::report::numbers::count;
use crate::rig::{Fleet, FleetEnd, Rig};
use crate::sink::{Sink, Source};
use crate::watch::Seen;

/// How often it is asked how far something is.
pub(crate) const POLL: Duration = Duration::from_millis(50);
/// The same for a question that costs the database something.
pub(crate) const COSTLY_POLL: Duration = Duration::from_millis(500);

pub(crate) struct Case<'a> {
    pub(crate) rig: &'a Rig,
    pub(crate) order: &'a Order,
    pub(crate) script: Arc<Script>,
    pub(crate) run: Run,
    /// How many messages open the accounts: the load's ids come after theirs.
    pub(crate) opening: usize,
    pub(super) stuck: Option<String>,
}

/// What is known when a load is done, beside what the servers say.
pub(crate) struct Done {
    pub(crate) flights: Flights,
    pub(crate) counted: Option<Tally>,
    pub(crate) sink: Option<Sink>,
    pub(crate) fleet: FleetEnd,
    /// What waits on the servers; `None` where others use them too.
    pub(crate) left: Option<Left>,
    pub(crate) any_order: bool,
}

impl<'a> Case<'a> {
    /// A load of its own: new ids, new accounts.
    pub(crate) fn new(rig: &'a Rig, order: &'a Order) -> Self {
        let mark = Mark::random();
        let plan = Plan::new(&order.shape, &mark.to_string());
        let opening = plan.opening.len();
        let script = Arc::new(Script::new(plan, mark));
        Self { rig, order, script, run: Run::new(mark, now_micros()), opening, stuck: None }
    }

    /// Has a daemon open the accounts: one of its own, or those that run already.
    pub(crate) async fn open_accounts(&self, running: Option<&mut Fleet>) -> Result<()> {
        let step = Step::begin();
        let mut opener = match running {
            Some(_) => None,
            None => self.rig.opener().await?,
        };
        let fleet = opener.as_mut().or(running);
        let goal = self.opening as u64;
        let uri = &self.rig.amqp_uri;
        let counts = match fleet {
            Some(fleet) if fleet.is_ours() => {
                let before = fleet.outcomes().await?.unwrap_or_default();
                load::open_accounts(uri, &self.script).await?;
                reach(STALLED, goal, POLL, async || Ok((fleet.outcomes().await?.unwrap_or_default() - before).total()))
                    .await?
            }
            _ => {
                load::open_accounts(uri, &self.script).await?;
                let database = self.rig.database().await?;
                reach(STALLED, goal, COSTLY_POLL, async || self.run.outcomes(&database).await).await?
            }
        };
        if let Some(stuck) = counts {
            bail!("accounts are not opened: {stuck}");
        }
        if let Some(opener) = opener {
            opener.stop().await?;
        }
        step.done(&format!("{} accounts open", count(goal)));
        Ok(())
    }

    /// Gives the accounts a past, if they are to have one.
    pub(super) async fn fill_ledger(&self) -> Result<()> {
        let Some(payments) = self.order.ledger else { return Ok(()) };
        let step = Step::begin();
        let mut database = self.rig.database().await?;
        seed::payments(&mut database, payments).await?;
        seed::settle(&database).await?;
        step.done(&format!("{} payments in the ledger", count(payments as u64)));
        Ok(())
    }

    /// Somebody who receives the events, if anybody is to.
    pub(super) async fn subscribe(&self) -> Result<Option<Sink>> {
        if self.order.subscriber == Subscriber::None {
            return Ok(None);
        }
        let mut sink = self.sink().await?;
        if self.order.subscriber.is_live() {
            sink.consume();
        }
        Ok(Some(sink))
    }

    /// Binds a queue for the events, or names the stream that the daemons append them to.
    pub(crate) async fn sink(&self) -> Result<Sink> {
        let mark = self.script.mark();
        let source = match &self.rig.stream {
            Some(stream) => Source::Stream { name: stream.name.clone() },
            None => Source::Queue { name: format!("{mark}.events"), kind: self.order.event_queue },
        };
        Sink::bind(&self.rig.amqp_uri, source, mark, self.opening).await
    }

    pub(super) async fn generator(&self) -> Result<Generator> {
        let Order { pace, limit, publishers, sampled, .. } = *self.order;
        Generator::connect(
            &self.rig.amqp_uri,
            Arc::clone(&self.script),
            (publishers, sampled),
            (pace, limit, self.order.shape.seed),
        )
        .await
    }

    /// Waits until the events of the whole load have come.
    pub(super) async fn follow_events(&mut self, sink: &Sink) -> Result<()> {
        let step = Step::begin();
        let stuck = self.await_events(sink).await?;
        self.note(stuck);
        step.done(&format!("{} events received", count(sink.unique())));
        Ok(())
    }

    /// The same without a word; returns where it stands if nothing comes any more.
    pub(crate) async fn await_events(&self, sink: &Sink) -> Result<Option<String>> {
        let (decided, called_off) = self.script.with(|lines| (lines.plan.decided(), lines.plan.called_off()));
        let waiting = self.run.waiting_events(&self.rig.database().await?).await?;
        let expected = (decided - called_off) as u64 + waiting;
        let stuck = reach(self.order.patience, expected, POLL, async || Ok(sink.unique())).await?;
        Ok(stuck.map(|stuck| format!("events received: {stuck}")))
    }

    /// Waits until the daemon knows that its events are published. Of servers that others use it
    /// is not known whose events wait.
    pub(super) async fn follow_outbox(&mut self) -> Result<()> {
        if self.rig.is_private() {
            let stuck = self.await_outbox().await?;
            self.note(stuck);
        }
        Ok(())
    }

    /// Waits until no event is to be published; returns what did not come about.
    pub(crate) async fn await_outbox(&self) -> Result<Option<String>> {
        let (database, patience) = (self.rig.database().await?, self.order.patience);
        let empty = async || Ok(u64::from(books::outbox_events(&database).await? == 0));
        let stuck = reach(patience, 1, POLL, empty).await?;
        Ok(stuck.map(|_| format!("the outbox did not become empty within {patience:?}")))
    }

    /// Remembers what did not come to its end.
    pub(crate) fn note(&mut self, stuck: Option<String>) {
        self.stuck = self.stuck.take().or(stuck);
    }

    /// Draws up the outcome of a load that is done.
    pub(super) async fn finish(self, followed: Followed, fleet: FleetEnd, seen: Seen) -> Result<Outcome> {
        let Followed { flights, counted, sink, outbox_empty_at } = followed;
        let left = if self.rig.is_private() { Some(left(self.rig).await?) } else { None };
        let any_order = !self.rig.keeps_order() || self.order.publishers > 1 || self.order.kills > 0;
        let evidence = self.evidence(Done { flights, counted, sink, fleet, left, any_order }).await?;
        if !evidence.books.exact_times {
            say(
                "  the server keeps no commit times (track_commit_timestamp): settled_at stands for them, which is early",
            );
        }
        Ok(Outcome { evidence, seen, outbox_empty_at })
    }

    /// Collects the evidence, when the load is done.
    pub(crate) async fn evidence(self, done: Done) -> Result<Evidence> {
        let step = Step::begin();
        let received = match done.sink {
            Some(sink) => Some(sink.finish().await?),
            None => None,
        };
        let database = self.rig.database().await?;
        let mut books = self.run.read(&database).await?;
        if received.as_ref().is_some_and(|received| received.log.is_some()) {
            books.entries = self.run.entries(&database).await?;
        }
        let audit = self.rig.audit().await;
        let lines = Arc::into_inner(self.script).context("somebody still publishes")?.into_lines();
        step.done("books read and audited");
        let Done { flights, counted, fleet, left, any_order, .. } = done;
        Ok(Evidence { lines, flights, counted, books, received, audit, fleet, left, any_order, stuck: self.stuck })
    }
}

/// What waits on servers that nobody else uses.
pub(crate) async fn left(rig: &Rig) -> Result<Left> {
    let (_connection, channel) = broker::channel(&rig.amqp_uri, "settled-loadtest").await?;
    let tasks = broker::waiting(&channel, TASKS_QUEUE).await?;
    Ok(Left { tasks, given_up: broker::waiting(&channel, DEAD_QUEUE).await? })
}

/// Waits until `position` has come to `goal`. If it does not move for longer than `patience`, returns
/// where it stands.
pub(crate) async fn reach(
    patience: Duration,
    goal: u64,
    every: Duration,
    mut position: impl AsyncFnMut() -> Result<u64>,
) -> Result<Option<String>> {
    let (mut best, mut moved) = (0, Instant::now());
    loop {
        let now = position().await?;
        if now >= goal {
            return Ok(None);
        }
        if now > best {
            (best, moved) = (now, Instant::now());
        } else if moved.elapsed() > patience {
            return Ok(Some(format!("{} of {}, for {patience:?}", count(now), count(goal))));
        }
        sleep(every).await;
    }
}
