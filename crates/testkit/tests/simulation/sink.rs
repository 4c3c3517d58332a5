//! A daemon's simulated connection to the exchange for events.

use std::sync::Arc;

use futures_util::future::{BoxFuture, FutureExt, TryFutureExt};
use settled_pipeline::health::Outage;
use settled_pipeline::outbox::{Channel, Confirmation, Publication, Refusal, RelayError, Session, Sink};
use settled_testkit::memory::event_ids;
use tokio::sync::oneshot;

use super::world::{Life, World, until};

/// Opens sessions on the simulated exchange.
#[derive(Clone)]
pub(super) struct SimSink {
    pub(super) world: Arc<World>,
    pub(super) life: Life,
    pub(super) publishers: usize,
}

pub(super) struct SimPublishing {
    channels: Vec<SimChannel>,
}

#[derive(Clone)]
pub(super) struct SimChannel {
    world: Arc<World>,
    life: Life,
    session: u64,
}

/// A message on its way to the exchange, with its pending confirm.
struct OnTheWire {
    id: String,
    events: Vec<String>,
    confirm: oneshot::Sender<Confirmation>,
}

impl Sink for SimSink {
    type Session = SimPublishing;

    async fn open(&self) -> Result<SimPublishing, Outage> {
        let world = &self.world;
        let session = self.life.outside(async {
            world.answer_takes().await;
            if world.broker_away.is_on() {
                return Err(Outage::from("the broker is away"));
            }
            let mut exchange = world.exchange.lock();
            exchange.sessions += 1;
            let session = exchange.sessions;
            exchange.open.insert(session);
            Ok(session)
        });
        let channel = SimChannel { world: Arc::clone(world), life: self.life.clone(), session: session.await? };
        Ok(SimPublishing { channels: vec![channel; self.publishers] })
    }
}

impl Session for SimPublishing {
    type Channel = SimChannel;

    fn channels(&self) -> &[SimChannel] {
        &self.channels
    }

    /// Never needed: the simulation refuses no message.
    async fn reopen(&self, _: &SimChannel, refusal: &Refusal) -> Result<(), RelayError> {
        Err(RelayError::Broker(refusal.text.clone()))
    }

    /// Every second session notices its loss only when it publishes.
    async fn watch(&self, tell: impl Fn(Option<String>) + Send + Sync) -> RelayError {
        let SimChannel { world, life, session } = &self.channels[0];
        let alarms = async {
            loop {
                world.blocked.becomes(true).await;
                tell(Some("an alarm".to_owned()));
                world.blocked.becomes(false).await;
                tell(None);
            }
        };
        let lost = async {
            let changed = Arc::clone(&world.exchange.lock().closed);
            until(&changed, || (session % 2 == 0 && !self.channels[0].is_open()).then(closed)).await
        };
        life.outside(async {
            tokio::select! {
                biased;
                error = alarms => error,
                error = lost => error,
            }
        })
        .await
    }

    async fn close(self) {}
}

impl Drop for SimPublishing {
    fn drop(&mut self) {
        let SimChannel { world, session, .. } = &self.channels[0];
        world.exchange.lock().open.remove(session);
    }
}

impl SimChannel {
    fn is_open(&self) -> bool {
        !self.life.ended.is_cancelled() && self.world.exchange.lock().open.contains(&self.session)
    }

    /// Delivers messages to the exchange, then sends the confirms. If the session ends, no more confirms are sent.
    async fn carry(self, messages: Vec<OnTheWire>) {
        let world = &self.world;
        world.answer_takes().await;
        world.blocked.becomes(false).await;
        if !self.is_open() {
            return;
        }
        let is_unbound = world.unbound.is_on();
        let (mut returned, mut confirms) = (Vec::new(), Vec::new());
        for OnTheWire { id, events, confirm } in messages {
            let taken = is_unbound || !world.mishap(world.weather.nack);
            if is_unbound {
                returned.push(id);
            } else if taken {
                world.journal.note(|| format!("event {id} received"));
                let mut exchange = world.exchange.lock();
                events.into_iter().for_each(|event| *exchange.received.entry(event).or_default() += 1);
            }
            confirms.push((confirm, taken));
        }
        world.answer_takes().await;
        if !self.is_open() {
            return;
        }
        // A returned message may be reported with any confirm of the same frame.
        for (confirm, taken) in confirms {
            let returned = (!returned.is_empty()).then(|| returned.swap_remove(world.below(returned.len())));
            // Fails if nobody waits for the confirm any more.
            let _ = confirm.send(Confirmation { taken, returned });
        }
    }
}

impl Channel for SimChannel {
    type Confirm = BoxFuture<'static, Result<Confirmation, RelayError>>;

    async fn send_all(
        &self,
        messages: &[&Publication<'_>],
        confirms: &mut Vec<Self::Confirm>,
    ) -> Result<(), RelayError> {
        self.life.goes_on().await;
        if !self.is_open() {
            return Err(closed());
        }
        let on_the_wire = messages.iter().map(|message| {
            let (confirm, confirmed) = oneshot::channel();
            confirms.push(confirmed.map_err(|_| closed()).boxed());
            OnTheWire { id: message.id_on_the_wire().into_owned(), events: event_ids(&message.lines), confirm }
        });
        tokio::spawn(self.clone().carry(on_the_wire.collect()));
        Ok(())
    }
}

fn closed() -> RelayError {
    RelayError::Broker("the connection is closed".into())
}
