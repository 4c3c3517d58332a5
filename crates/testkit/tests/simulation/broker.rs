//! A daemon's simulated connection to the task queue.

use std::sync::Arc;

use settled_pipeline::budget::Held;
use settled_pipeline::intake::{Ack, Acks, Next, OpenError, Session, SessionError, Source};

use super::judge;
use super::world::{Life, World, until};

/// Opens sessions on the simulated task queue.
#[derive(Clone)]
pub(super) struct SimSource {
    pub(super) world: Arc<World>,
    pub(super) life: Life,
}

/// A consuming session. It ends when this value is dropped, or the process ends.
pub(super) struct SimSession(SimAcks);

/// What acknowledges deliveries of a session.
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
        let acks = SimAcks { world: Arc::clone(world), life: self.life.clone(), session };
        // A process that ends loses its connections.
        let SimAcks { world, life, .. } = acks.clone();
        tokio::spawn(async move {
            life.ended.cancelled().await;
            world.queue.lock().close(session);
        });
        Ok(SimSession(acks))
    }
}

impl SimAcks {
    /// Waits until there is a message for this session. Returns false if the session is over.
    async fn wait(&self) -> bool {
        let changed = Arc::clone(&self.world.queue.lock().changed);
        until(&changed, || match self.world.queue.lock().has_next(self.session) {
            Some(false) => None,
            has_next => Some(has_next.is_some()),
        })
        .await
    }
}

impl Session for SimSession {
    type Acks = SimAcks;

    fn acks(&self) -> SimAcks {
        self.0.clone()
    }

    async fn next(&mut self) -> Next {
        let of = &self.0;
        let SimAcks { world, life, session } = of;
        let delivered = life.outside(async {
            while of.wait().await {
                if world.toss() {
                    world.answer_takes().await;
                }
                // Nothing is awaited after this, so a cancelled `next` has taken no message.
                let delivered = world.queue.lock().deliver(*session);
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
        let SimAcks { world, life, session } = &self.0;
        life.outside(world.answer_takes()).await;
        if let Some(consumer) = world.queue.lock().consumers.get_mut(session) {
            consumer.prefetch = 0;
        }
    }

    async fn close(self) {
        self.0.life.outside(self.0.world.answer_takes()).await;
    }
}

impl Drop for SimSession {
    fn drop(&mut self) {
        self.0.world.queue.lock().close(self.0.session);
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
