//! Defects between the relay and the exchange of events.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};

use settled_pipeline::outbox::{Channel, Confirmation, Publication, Refusal, RelayError, Session, Sink};

use super::{Defect, INTERVAL};

/// Wraps a sink and adds the defect.
pub struct DefectiveSink<E> {
    inner: E,
    defect: Option<Defect>,
    /// Number of events of plain payments so far.
    payments: Arc<AtomicU64>,
}

pub struct DefectivePublishing<S> {
    inner: Arc<S>,
    channels: Vec<DefectiveChannel<S>>,
}

/// A channel of the session, identified by its index.
pub struct DefectiveChannel<S> {
    session: Arc<S>,
    place: usize,
    defect: Option<Defect>,
    payments: Arc<AtomicU64>,
}

/// The confirm of a message, as the defective daemon gets it.
pub enum DefectiveConfirm<C> {
    /// The broker's confirm.
    Honest(Pin<Box<C>>),
    /// The broker's confirm, without the information that the message was returned.
    NeverReturned(Pin<Box<C>>),
    /// A positive confirm, whatever the broker sends.
    Taken,
}

impl<E> DefectiveSink<E> {
    pub(super) fn new(inner: E, defect: Option<Defect>) -> Self {
        Self { inner, defect, payments: Arc::default() }
    }
}

impl<E: Sink> Sink for DefectiveSink<E> {
    type Session = DefectivePublishing<E::Session>;

    async fn open(&self) -> Result<Self::Session, String> {
        let inner = Arc::new(self.inner.open().await?);
        let channel = |place| DefectiveChannel {
            session: Arc::clone(&inner),
            place,
            defect: self.defect,
            payments: Arc::clone(&self.payments),
        };
        let channels = (0..inner.channels().len()).map(channel).collect();
        Ok(DefectivePublishing { inner, channels })
    }
}

impl<S: Session> Session for DefectivePublishing<S> {
    type Channel = DefectiveChannel<S>;

    fn channels(&self) -> &[Self::Channel] {
        &self.channels
    }

    async fn reopen(&self, channel: &Self::Channel, refusal: &Refusal) -> Result<(), RelayError> {
        self.inner.reopen(channel.inner(), refusal).await
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

impl<S: Session> DefectiveChannel<S> {
    fn inner(&self) -> &S::Channel {
        &self.session.channels()[self.place]
    }

    /// Returns true for one in [`INTERVAL`] events of plain payments.
    fn is_dropped(&self, message: &Publication<'_>) -> bool {
        const PAYMENT: &[u8] = br#""type":"transfer""#;
        let is_payment = message.lines.windows(PAYMENT.len()).any(|window| window == PAYMENT);
        is_payment && (self.payments.fetch_add(1, Ordering::Relaxed) + 1).is_multiple_of(INTERVAL)
    }
}

impl<S: Session> Channel for DefectiveChannel<S> {
    type Confirm = DefectiveConfirm<<S::Channel as Channel>::Confirm>;

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
        let sent = if kept.is_empty() { Ok(()) } else { self.inner().send_all(&kept, &mut honest).await };
        let mut honest = honest.into_iter();
        for dropped in dropped {
            let confirm = if dropped { None } else { honest.next() };
            confirms.push(match (self.defect, confirm) {
                (Some(Defect::ReturnedEventCounted), Some(confirm)) => {
                    DefectiveConfirm::NeverReturned(Box::pin(confirm))
                }
                (Some(Defect::ConfirmNotAwaited), _) | (_, None) => DefectiveConfirm::Taken,
                (_, Some(confirm)) => DefectiveConfirm::Honest(Box::pin(confirm)),
            });
        }
        sent
    }
}

impl<C: Future<Output = Result<Confirmation, RelayError>>> Future for DefectiveConfirm<C> {
    type Output = Result<Confirmation, RelayError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        match &mut *self {
            Self::Honest(confirm) => confirm.as_mut().poll(context),
            Self::NeverReturned(confirm) => {
                let confirmed = ready!(confirm.as_mut().poll(context));
                Poll::Ready(confirmed.map(|confirmation| Confirmation { returned: None, ..confirmation }))
            }
            Self::Taken => Poll::Ready(Ok(Confirmation { taken: true, returned: None })),
        }
    }
}
