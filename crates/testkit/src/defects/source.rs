//! Defects between the pipeline and the queue of tasks.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::atomic::Ordering;

use settled_core::contract::Fingerprint;
use settled_pipeline::intake::{Ack, Acks, Next, OpenError, Session, SessionError, Source};

use super::{Defect, Defective};

impl<I: Source> Source for Defective<I> {
    type Session = Defective<I::Session>;

    async fn open(&self, prefetch: u16) -> Result<Self::Session, OpenError> {
        Ok(Defective::new(self.inner.open(prefetch).await?, self.defect))
    }
}

impl<S: Session> Session for Defective<S> {
    type Acks = Defective<S::Acks>;

    fn acks(&self) -> Self::Acks {
        self.part(self.inner.acks())
    }

    async fn next(&mut self) -> Next {
        let (tag, mut message, held) = match self.inner.next().await {
            Next::Delivery(tag, message, held) => (tag, message, held),
            lost @ Next::Lost(_) => return lost,
        };
        self.seen.delivered.store(tag, Ordering::Relaxed);
        match (self.defect, &mut message.content) {
            (Some(Defect::DedupedByBytes), Ok(task)) => task.fingerprint = of_bytes(&message.body),
            // The error can be ignored: the session ends by itself.
            (Some(Defect::AckBeforeCommit), _) => drop(self.inner.acks().send(Ack::Single(tag)).await),
            _ => {}
        }
        Next::Delivery(tag, message, held)
    }

    async fn cancel(&mut self) {
        self.inner.cancel().await;
    }

    async fn close(self) {
        self.inner.close().await;
    }
}

impl<A: Acks> Acks for Defective<A> {
    async fn send(&self, ack: Ack) -> Result<(), SessionError> {
        match self.defect {
            // Already sent in `next`.
            Some(Defect::AckBeforeCommit) => Ok(()),
            Some(Defect::AckFailureIgnored) => {
                drop(self.inner.send(ack).await);
                Ok(())
            }
            Some(Defect::AckAcrossGap) => {
                let (Ack::Multiple(tag) | Ack::Single(tag)) = ack;
                let last = self.seen.delivered.load(Ordering::Relaxed);
                // Acknowledging a tag twice would close the channel.
                if tag <= self.seen.covered.fetch_max(last, Ordering::Relaxed) {
                    return Ok(());
                }
                self.inner.send(Ack::Multiple(last)).await
            }
            _ => self.inner.send(ack).await,
        }
    }
}

/// Returns a fingerprint that is equal only for equal bytes.
fn of_bytes(bytes: &[u8]) -> Fingerprint {
    let half = |salt: u8| {
        let mut hasher = DefaultHasher::new();
        (salt, bytes).hash(&mut hasher);
        hasher.finish().to_be_bytes()
    };
    Fingerprint::from_slice(&[half(0), half(1)].concat()).expect("16 bytes")
}
