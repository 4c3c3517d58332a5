//! The task queue: deliveries with tags, acknowledgements on the wire, and what comes back when a
//! session ends.

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::sync::Notify;

use super::judge;
use super::world::{Life, World};
use crate::broker::inbound::Held;
use crate::intake::{Ack, Acks, Next, OpenError, Session, SessionError, Source};

/// Deliveries after which the broker gives a message up.
const DELIVERY_LIMIT: u32 = 50;

/// Tags of different sessions differ, so that one that leaves its session is seen.
const TAGS: u64 = 1_000_000;

/// A message in the queue, by its place in the load.
#[derive(Clone, Copy, Debug)]
struct Queued {
    number: usize,
    deliveries: u32,
}

/// A session, as the broker sees it.
#[derive(Debug)]
struct Consumer {
    prefetch: usize,
    next_tag: u64,
    out: BTreeMap<u64, Queued>,
    is_muted: bool,
}

/// The queue.
#[derive(Debug, Default)]
pub(super) struct Queue {
    /// In the order in which they were published, redeliveries at their old places.
    ready: BTreeMap<usize, Queued>,
    consumers: BTreeMap<u64, Consumer>,
    sessions: u64,
    /// What it gave up.
    pub(super) dead: Vec<usize>,
    changed: Arc<Notify>,
}

impl Queue {
    pub(super) fn publish(&mut self, number: usize) {
        self.ready.insert(number, Queued { number, deliveries: 0 });
        self.changed.notify_waiters();
    }

    /// Messages that are not acknowledged.
    pub(super) fn left(&self) -> usize {
        self.ready.len() + self.consumers.values().map(|consumer| consumer.out.len()).sum::<usize>()
    }

    fn open(&mut self, prefetch: u16) -> u64 {
        self.sessions += 1;
        let consumer = Consumer {
            prefetch: prefetch.into(),
            next_tag: self.sessions * TAGS + 1,
            out: BTreeMap::new(),
            is_muted: false,
        };
        self.consumers.insert(self.sessions, consumer);
        self.sessions
    }

    /// What was out comes again.
    fn close(&mut self, session: u64) {
        let Some(consumer) = self.consumers.remove(&session) else { return };
        for mut queued in consumer.out.into_values() {
            queued.deliveries += 1;
            if queued.deliveries > DELIVERY_LIMIT {
                self.dead.push(queued.number);
            } else {
                self.ready.insert(queued.number, queued);
            }
        }
        self.changed.notify_waiters();
    }

    pub(super) fn close_all(&mut self) {
        for session in self.consumers.keys().copied().collect::<Vec<_>>() {
            self.close(session);
        }
    }

    /// Acknowledgements fail, deliveries go on.
    pub(super) fn mute(&mut self) {
        self.consumers.values_mut().for_each(|consumer| consumer.is_muted = true);
    }

    /// Whether there is something for this session; `None` if it is over.
    fn has_next(&self, session: u64) -> Option<bool> {
        let consumer = self.consumers.get(&session)?;
        Some(consumer.out.len() < consumer.prefetch && !self.ready.is_empty())
    }

    fn deliver(&mut self, session: u64) -> Option<(u64, usize)> {
        let consumer = self.consumers.get_mut(&session)?;
        if consumer.out.len() >= consumer.prefetch {
            return None;
        }
        let (number, queued) = self.ready.pop_first()?;
        let tag = consumer.next_tag;
        consumer.next_tag += 1;
        consumer.out.insert(tag, queued);
        Some((tag, number))
    }

    /// Takes what an acknowledgement covers out of the queue.
    fn acknowledge(&mut self, session: u64, ack: Ack) -> Result<Vec<usize>, String> {
        // Of a session that is over: lost on the way.
        let Some(consumer) = self.consumers.get_mut(&session) else { return Ok(Vec::new()) };
        let (tag, multiple) = match ack {
            Ack::Multiple(tag) => (tag, true),
            Ack::Single(tag) => (tag, false),
        };
        if !consumer.out.contains_key(&tag) {
            return Err(format!("{ack:?} of a tag that is not out in session {session}"));
        }
        let rest = consumer.out.split_off(&(tag + 1));
        let mut covered = std::mem::replace(&mut consumer.out, rest);
        let last = covered.remove(&tag);
        let mut done: Vec<usize> = last.iter().map(|queued| queued.number).collect();
        if multiple {
            done.extend(covered.values().map(|queued| queued.number));
        } else {
            consumer.out.append(&mut covered);
        }
        self.changed.notify_waiters();
        Ok(done)
    }
}

/// A daemon's way to the queue.
#[derive(Clone)]
pub(super) struct SimSource {
    pub(super) world: Arc<World>,
    pub(super) life: Life,
}

/// A session of it.
pub(super) struct SimSession {
    world: Arc<World>,
    life: Life,
    session: u64,
}

/// Its acknowledgements.
#[derive(Clone)]
pub(super) struct SimAcks {
    world: Arc<World>,
    life: Life,
    session: u64,
}

impl Source for SimSource {
    type Session = SimSession;

    async fn open(&self, prefetch: u16) -> Result<SimSession, OpenError> {
        let world = &self.world;
        let session = self.life.outside(async {
            world.answer_takes().await;
            if world.broker_away.is_on() {
                return Err(OpenError::Unavailable("the broker is away".into()));
            }
            Ok(world.queue.lock().open(prefetch))
        });
        let session = session.await?;
        world.journal.note(|| format!("session {session} with a prefetch of {prefetch}"));
        let session = SimSession { world: Arc::clone(world), life: self.life.clone(), session };
        // A process that has ended is noticed by its connections.
        let (world, ended, number) = (Arc::clone(world), self.life.ended.clone(), session.session);
        tokio::spawn(async move {
            ended.cancelled().await;
            world.queue.lock().close(number);
        });
        Ok(session)
    }
}

impl SimSession {
    /// Until there is something to deliver; `false` if the session is over.
    async fn wait(&self) -> bool {
        let changed = Arc::clone(&self.world.queue.lock().changed);
        loop {
            let mut woken = std::pin::pin!(changed.notified());
            woken.as_mut().enable();
            match self.world.queue.lock().has_next(self.session) {
                None => return false,
                Some(true) => return true,
                Some(false) => {}
            }
            woken.await;
        }
    }
}

impl Session for SimSession {
    type Acks = SimAcks;

    fn acks(&self) -> SimAcks {
        SimAcks { world: Arc::clone(&self.world), life: self.life.clone(), session: self.session }
    }

    async fn next(&mut self) -> Next {
        let (world, session) = (&self.world, self.session);
        let delivered = self.life.outside(async {
            while self.wait().await {
                if world.toss() {
                    world.answer_takes().await;
                }
                // The last step: whoever stops waiting for it has taken nothing.
                let delivered = world.queue.lock().deliver(session);
                if delivered.is_some() {
                    return delivered;
                }
            }
            None
        });
        let Some((tag, number)) = delivered.await else { return Next::Lost("the session is over".into()) };
        let sent = &world.load.messages[number];
        world.journal.note(|| format!("delivery {tag} of message {number}"));
        Next::Delivery(tag, sent.message(world.now()), Held::default())
    }

    async fn cancel(&mut self) {
        self.life.outside(self.world.answer_takes()).await;
        if let Some(consumer) = self.world.queue.lock().consumers.get_mut(&self.session) {
            consumer.prefetch = 0;
        }
    }

    async fn close(self) {
        self.life.outside(self.world.answer_takes()).await;
    }
}

impl Drop for SimSession {
    fn drop(&mut self) {
        self.world.queue.lock().close(self.session);
    }
}

impl Acks for SimAcks {
    async fn send(&self, ack: Ack) -> Result<(), SessionError> {
        self.life.goes_on().await;
        let (world, session) = (&self.world, self.session);
        match world.queue.lock().consumers.get(&session) {
            None => return Err(SessionError("the session is over".into())),
            Some(consumer) if consumer.is_muted => return Err(SessionError("the channel is closed".into())),
            Some(_) => {}
        }
        world.journal.note(|| format!("{ack:?} in session {session}"));
        let done = world.queue.lock().acknowledge(session, ack);
        match done {
            Ok(done) => done.into_iter().for_each(|number| judge::acknowledged(world, number)),
            Err(wrong) => world.journal.violation(wrong),
        }
        Ok(())
    }
}
