//! Defects between the relay and the exchange of events.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use futures_util::future::{self, BoxFuture, FutureExt, TryFutureExt};
use settled_pipeline::health::Outage;
use settled_pipeline::outbox::{Channel, Confirmation, Publication, Refusal, RelayError, Session, Sink};

use super::{Defect, Defective, INTERVAL};

pub struct DefectivePublishing<S> {
    inner: Arc<S>,
    channels: Vec<Defective<ChannelOf<S>>>,
}

/// A channel of a session, identified by its index.
pub struct ChannelOf<S> {
    session: Arc<S>,
    place: usize,
}

impl<S: Session> ChannelOf<S> {
    fn get(&self) -> &S::Channel {
        &self.session.channels()[self.place]
    }
}

impl<E: Sink> Sink for Defective<E> {
    type Session = DefectivePublishing<E::Session>;

    async fn open(&self) -> Result<Self::Session, Outage> {
        let inner = Arc::new(self.inner.open().await?);
        let channel = |place| self.part(ChannelOf { session: Arc::clone(&inner), place });
        let channels = (0..inner.channels().len()).map(channel).collect();
        Ok(DefectivePublishing { inner, channels })
    }
}

impl<S: Session> Session for DefectivePublishing<S> {
    type Channel = Defective<ChannelOf<S>>;

    fn channels(&self) -> &[Self::Channel] {
        &self.channels
    }

    async fn reopen(&self, channel: &Self::Channel, refusal: &Refusal) -> Result<(), RelayError> {
        self.inner.reopen(channel.inner.get(), refusal).await
    }

    async fn watch(&self, tell: impl Fn(Option<String>) + Send + Sync) -> RelayError {
        self.inner.watch(tell).await
    }

    async fn close(self) {
        drop(self.channels);
        if let Some(session) = Arc::into_inner(self.inner) {
            session.close().await;
        }
    }
}

impl<S> Defective<ChannelOf<S>> {
    /// Returns true for one in [`INTERVAL`] events of plain payments.
    fn is_dropped(&self, message: &Publication<'_>) -> bool {
        const PAYMENT: &[u8] = br#""type":"transfer""#;
        let is_payment = message.lines.windows(PAYMENT.len()).any(|window| window == PAYMENT);
        is_payment && (self.seen.payments.fetch_add(1, Ordering::Relaxed) + 1).is_multiple_of(INTERVAL)
    }
}

impl<S: Session> Channel for Defective<ChannelOf<S>> {
    type Confirm = BoxFuture<'static, Result<Confirmation, RelayError>>;

    async fn send_all(
        &self,
        messages: &[&Publication<'_>],
        confirms: &mut Vec<Self::Confirm>,
    ) -> Result<(), RelayError> {
        let drops = self.defect == Some(Defect::DroppedEvent);
        let dropped: Vec<bool> = messages.iter().map(|message| drops && self.is_dropped(message)).collect();
        let kept: Vec<&Publication<'_>> =
            messages.iter().zip(&dropped).filter(|(_, dropped)| !**dropped).map(|(message, _)| *message).collect();
        let mut honest = Vec::with_capacity(kept.len());
        let sent = if kept.is_empty() { Ok(()) } else { self.inner.get().send_all(&kept, &mut honest).await };
        let mut honest = honest.into_iter();
        for dropped in dropped {
            let confirm = if dropped { None } else { honest.next() };
            confirms.push(match (self.defect, confirm) {
                (Some(Defect::ReturnedEventCounted), Some(confirm)) => {
                    confirm.map_ok(|confirmation| Confirmation { returned: None, ..confirmation }).boxed()
                }
                (Some(Defect::ConfirmNotAwaited), _) | (_, None) => {
                    future::ok(Confirmation { taken: true, returned: None }).boxed()
                }
                (_, Some(confirm)) => confirm.boxed(),
            });
        }
        sent
    }
}
