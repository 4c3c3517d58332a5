//! The two runs: tasks for a daemon that is there, and a backlog for one that was away.

use std::time::Duration;

use anyhow::{Result, bail};
use serde_json::Value;
use tokio::time::{sleep, timeout};

use crate::books::{self, Books};
use crate::broker::{DEAD_QUEUE, TASKS_QUEUE};
use crate::plan::{Message, Plan, Tally};
use crate::progress::{Count, Step};
use crate::publisher::{Publisher, Sent};
use crate::rig::{Daemon, Ended, Rig};
use crate::sink::{EventQueue, Received, Sink};

/// How often the daemon is asked how far it is.
const POLL: Duration = Duration::from_millis(100);
/// How long a run may make no progress at all.
const STALLED: Duration = Duration::from_secs(30);

/// Everything that a run is judged by.
#[derive(Debug)]
pub(crate) struct Evidence {
    /// What was published.
    pub(crate) sent: Sent,
    /// What the daemon says came of the load.
    pub(crate) counted: Tally,
    /// What the database says.
    pub(crate) books: Books,
    /// What the subscriber got.
    pub(crate) received: Received,
    /// What `settled audit` says, or why it says nothing.
    pub(crate) audit: Result<Value>,
    /// How each daemon ended, in order.
    pub(crate) daemons: Vec<Ended>,
    /// Tasks in the queue when all was done.
    pub(crate) waiting: u32,
    /// Messages that the broker gave up on.
    pub(crate) given_up: u32,
}

/// A run that goes on.
struct Run<'a> {
    rig: &'a Rig,
    plan: &'a Plan,
    sink: Sink,
    sent: Sent,
}

/// Publishes the load to a daemon that takes it as it comes.
pub(crate) async fn demo(rig: &Rig, plan: &Plan, queue: EventQueue) -> Result<Evidence> {
    let mut run = Run::start(rig, plan, queue).await?;
    let (daemon, mut publisher) = run.open().await?;
    let before = rig.outcomes().await?;
    run.publish_and_follow(&mut publisher, before).await?;
    run.follow_events().await?;
    let counted = rig.outcomes().await? - before;
    let ended = daemon.stop().await?;
    run.finish(publisher, counted, vec![ended]).await
}

/// Publishes the load while no daemon runs, then has one catch up.
pub(crate) async fn drain(rig: &Rig, plan: &Plan, queue: EventQueue) -> Result<Evidence> {
    let mut run = Run::start(rig, plan, queue).await?;
    let (daemon, mut publisher) = run.open().await?;
    let first = daemon.stop().await?;
    run.publish(&mut publisher).await?;
    let step = Step::begin();
    let daemon = rig.daemon().await?;
    step.done("daemon ready again");
    let count = Count::new("decided", plan.load.len() as u64);
    run.follow(Tally::default(), &count).await?;
    count.done();
    run.follow_events().await?;
    let counted = rig.outcomes().await?;
    let second = daemon.stop().await?;
    run.finish(publisher, counted, vec![first, second]).await
}

impl<'a> Run<'a> {
    /// Subscribes first: an event that no queue takes is held back.
    async fn start(rig: &'a Rig, plan: &'a Plan, queue: EventQueue) -> Result<Self> {
        Ok(Self { rig, plan, sink: Sink::start(rig.amqp_uri(), queue).await?, sent: Sent::new(plan) })
    }

    /// Starts a daemon and has it open and fund the accounts.
    async fn open(&mut self) -> Result<(Daemon, Publisher)> {
        let step = Step::begin();
        let daemon = self.rig.daemon().await?;
        step.done("daemon ready");
        let step = Step::begin();
        let mut publisher = Publisher::connect(self.rig.amqp_uri()).await?;
        let opening = &self.plan.opening;
        publisher.publish(self.plan, opening, &mut self.sent, |_| {}).await?;
        progress_to(opening.len() as u64, async || Ok(self.rig.outcomes().await?.total()), |_| {}).await?;
        step.done(&format!("{} accounts open and funded", self.plan.accounts.len()));
        Ok((daemon, publisher))
    }

    async fn publish(&mut self, publisher: &mut Publisher) -> Result<()> {
        let count = Count::new("published", self.plan.load.len() as u64);
        publisher.publish(self.plan, &self.plan.load, &mut self.sent, |more| count.add(more)).await?;
        count.done();
        Ok(())
    }

    async fn publish_and_follow(&mut self, publisher: &mut Publisher, before: Tally) -> Result<()> {
        let count = Count::new("decided", self.plan.load.len() as u64);
        let mut sent = std::mem::replace(&mut self.sent, Sent::new(self.plan));
        let publish = publisher.publish(self.plan, &self.plan.load, &mut sent, |_| {});
        tokio::try_join!(publish, self.follow(before, &count))?;
        self.sent = sent;
        count.done();
        Ok(())
    }

    /// Waits until every message of the load has an outcome.
    async fn follow(&self, before: Tally, count: &Count) -> Result<()> {
        let decided = async || Ok((self.rig.outcomes().await? - before).total());
        progress_to(self.plan.load.len() as u64, decided, |position| count.at(position)).await
    }

    /// Waits until every event has come, and until the daemon knows that it has.
    async fn follow_events(&self) -> Result<()> {
        let step = Step::begin();
        let expected = self.plan.messages().filter(|message| message.is_decided()).count() as u64;
        let stalled = timeout(STALLED, self.sink.wait_for(expected)).await;
        match stalled {
            Ok(done) => done?,
            Err(_) => bail!("{} of {expected} events within {STALLED:?}", self.sink.unique()),
        }
        let database = self.rig.database().await?;
        let remaining = async || Ok(u64::from(books::outbox_events(&database).await? == 0));
        progress_to(1, remaining, |_| {}).await?;
        step.done("every event received, and confirmed to the daemon");
        Ok(())
    }

    /// Collects the evidence, when the daemon has ended.
    async fn finish(self, publisher: Publisher, counted: Tally, daemons: Vec<Ended>) -> Result<Evidence> {
        let step = Step::begin();
        let evidence = Evidence {
            sent: self.sent,
            counted,
            books: Books::read(&self.rig.database().await?).await?,
            received: self.sink.finish(),
            audit: self.rig.audit().await,
            daemons,
            waiting: publisher.waiting(TASKS_QUEUE).await?,
            given_up: publisher.waiting(DEAD_QUEUE).await?,
        };
        step.done("books read and audited");
        Ok(evidence)
    }
}

impl Evidence {
    /// When the first and the last of `messages` were committed, in microseconds since 1970.
    pub(crate) fn committed(&self, messages: &[Message]) -> Option<(i64, i64)> {
        let payments = messages.iter().filter_map(|message| self.books.payments.get(&self.sent.id(message)?));
        let times = payments.map(|payment| payment.committed_at);
        times.fold(None, |span, at| span.map_or(Some((at, at)), |(first, last)| Some((at.min(first), at.max(last)))))
    }
}

/// Waits until `position` has come to `goal`, and not for ever when it does not move.
async fn progress_to(goal: u64, position: impl AsyncFn() -> Result<u64>, seen: impl Fn(u64)) -> Result<()> {
    let mut best = 0;
    let mut moved = tokio::time::Instant::now();
    loop {
        let now = position().await?;
        seen(now);
        if now >= goal {
            return Ok(());
        }
        if now > best {
            best = now;
            moved = tokio::time::Instant::now();
        } else if moved.elapsed() > STALLED {
            bail!("stuck at {now} of {goal} for {STALLED:?}");
        }
        sleep(POLL).await;
    }
}
