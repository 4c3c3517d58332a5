//! What all runs do: open accounts, subscribe, and collect the evidence.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, bail};
use settled_testkit::seed;
use tokio::time::{Instant, sleep};

use super::{Order, Outcome, Subscriber};
use crate::broker::{self, DEAD_QUEUE, TASKS_QUEUE};
use crate::judge::books::{self, Run};
use crate::judge::{Evidence, Left};
use crate::load::clock::now_micros;
use crate::load::{self, Flights, Generator, Script};
use crate::plan::{Mark, Plan, Tally};
use crate::progress::{Step, grouped, say};
use crate::rig::{Fleet, FleetEnd, Rig};
use crate::sink::Sink;
use crate::watch::Seen;

/// How often it is asked how far something is.
pub(crate) const POLL: Duration = Duration::from_millis(50);
/// The same for a question that costs the database something.
pub(crate) const COSTLY_POLL: Duration = Duration::from_millis(500);
/// How long a run may make no progress at all, unless something waits for its time.
pub(crate) const STALLED: Duration = Duration::from_secs(30);

pub(crate) struct Case<'a> {
    pub(super) rig: &'a Rig,
    pub(super) order: &'a Order,
    pub(crate) script: Arc<Script>,
    pub(crate) run: Run,
    /// How many messages open the accounts: the load's ids come after theirs.
    pub(crate) opening: usize,
    pub(super) stuck: Option<String>,
}

/// What is known when a load is done.
pub(super) struct Done {
    pub(super) flights: Flights,
    pub(super) counted: Option<Tally>,
    pub(super) sink: Option<Sink>,
    pub(super) seen: Seen,
    pub(super) fleet: FleetEnd,
    pub(super) outbox_empty_at: Option<i64>,
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
        let uri = self.rig.amqp_uri();
        let counts = match fleet {
            Some(fleet) if fleet.is_ours() => {
                let before = fleet.outcomes().await?.unwrap_or_default();
                load::open_accounts(uri, &self.script).await?;
                reach(goal, POLL, async || Ok((fleet.outcomes().await?.unwrap_or_default() - before).total())).await?
            }
            _ => {
                load::open_accounts(uri, &self.script).await?;
                let database = self.rig.database().await?;
                reach(goal, COSTLY_POLL, async || self.run.outcomes(&database).await).await?
            }
        };
        if let Some(stuck) = counts {
            bail!("accounts are not opened: {stuck}");
        }
        if let Some(opener) = opener {
            opener.stop().await?;
        }
        step.done(&format!("{} accounts open", grouped(goal)));
        Ok(())
    }

    /// Gives the accounts a past, if they are to have one.
    pub(super) async fn fill_ledger(&self) -> Result<()> {
        let Some(payments) = self.order.ledger else { return Ok(()) };
        let step = Step::begin();
        let mut database = self.rig.database().await?;
        seed::payments(&mut database, payments).await?;
        seed::settle(&database).await?;
        step.done(&format!("{} payments in the ledger", grouped(payments as u64)));
        Ok(())
    }

    /// A queue for the events, if anybody is to receive any.
    pub(super) async fn subscribe(&self) -> Result<Option<Sink>> {
        if self.order.subscriber == Subscriber::None {
            return Ok(None);
        }
        let mark = self.script.mark();
        let mut sink = Sink::bind(self.rig.amqp_uri(), self.order.event_queue, mark, self.opening).await?;
        if self.order.subscriber == Subscriber::Live {
            sink.consume();
        }
        Ok(Some(sink))
    }

    pub(super) async fn generator(&self) -> Result<Generator> {
        let Order { pace, limit, publishers, .. } = *self.order;
        Generator::connect(
            self.rig.amqp_uri(),
            Arc::clone(&self.script),
            publishers,
            (pace, limit, self.order.shape.seed),
        )
        .await
    }

    /// Waits until the events of the whole load have come.
    pub(super) async fn follow_events(&mut self, sink: &Sink) -> Result<()> {
        let step = Step::begin();
        let (decided, called_off) = self.script.with(|lines| (lines.plan.decided(), lines.plan.called_off()));
        let waiting = self.run.waiting_events(&self.rig.database().await?).await?;
        let expected = (decided - called_off) as u64 + waiting;
        let stuck = reach_within(self.order.patience, expected, POLL, async || Ok(sink.unique())).await?;
        self.note(stuck.map(|stuck| format!("events received: {stuck}")));
        step.done(&format!("{} events received", grouped(sink.unique())));
        Ok(())
    }

    /// Waits until the daemon knows that its events are published. Of servers that others use it
    /// is not known whose events wait.
    pub(super) async fn follow_outbox(&mut self) -> Result<()> {
        if self.rig.is_private() {
            let (database, patience) = (self.rig.database().await?, self.order.patience);
            let empty = async || Ok(u64::from(books::outbox_events(&database).await? == 0));
            let stuck = reach_within(patience, 1, POLL, empty).await?;
            self.note(stuck.map(|_| format!("the outbox did not become empty within {patience:?}")));
        }
        Ok(())
    }

    /// Remembers what did not come to its end.
    pub(super) fn note(&mut self, stuck: Option<String>) {
        self.stuck = self.stuck.take().or(stuck);
    }

    /// Collects the evidence, when the load is done.
    pub(super) async fn finish(self, done: Done) -> Result<Outcome> {
        let step = Step::begin();
        let database = self.rig.database().await?;
        let left = if self.rig.is_private() { Some(left(self.rig).await?) } else { None };
        let received = match done.sink {
            Some(sink) => Some(sink.finish().await?),
            None => None,
        };
        let books = self.run.read(&database).await?;
        if !books.exact_times {
            say(
                "  the server keeps no commit times (track_commit_timestamp): settled_at stands for them, which is early",
            );
        }
        let audit = self.rig.audit().await;
        let any_order = !self.rig.keeps_order() || self.order.publishers > 1 || self.order.kills > 0;
        let script = Arc::into_inner(self.script);
        let Some(script) = script else { bail!("somebody still publishes") };
        step.done("books read and audited");
        let evidence = Evidence {
            lines: script.into_lines(),
            flights: done.flights,
            counted: done.counted,
            books,
            received,
            audit,
            fleet: done.fleet,
            left,
            any_order,
            stuck: self.stuck,
        };
        Ok(Outcome { evidence, seen: done.seen, outbox_empty_at: done.outbox_empty_at })
    }
}

/// What waits on servers that nobody else uses.
pub(crate) async fn left(rig: &Rig) -> Result<Left> {
    let connection = broker::connect(rig.amqp_uri(), "settled-loadtest").await?;
    let channel = connection.create_channel().await?;
    let tasks = broker::waiting(&channel, TASKS_QUEUE).await?;
    Ok(Left { tasks, given_up: broker::waiting(&channel, DEAD_QUEUE).await? })
}

/// Waits until `position` has come to `goal`. If it does not move for too long, returns where it
/// stands.
pub(crate) async fn reach(
    goal: u64,
    every: Duration,
    position: impl AsyncFnMut() -> Result<u64>,
) -> Result<Option<String>> {
    reach_within(STALLED, goal, every, position).await
}

/// The same, with another idea of what is too long.
pub(crate) async fn reach_within(
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
            return Ok(Some(format!("{} of {}, for {patience:?}", grouped(now), grouped(goal))));
        }
        sleep(every).await;
    }
}
