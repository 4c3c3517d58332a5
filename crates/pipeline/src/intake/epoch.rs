//! An epoch: the lifetime of one consuming channel. A delivery tag is valid only in its epoch, so a delivery holds a
//! reference to it. A delivery settled after the end of its epoch is not acknowledged: the broker redelivers the
//! message, and its task id is then found to be committed.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;

use super::ack_window::{Ack, AckWindow};
use super::source::{Acks, SessionError};
use crate::admission;
use crate::budget::Held;
use crate::labels::AckKind;
use crate::metrics::Metrics;
use crate::store::{Answer, Proof};

/// How long to wait before acknowledging, so that one acknowledgement covers a whole batch.
const COALESCE: Duration = Duration::from_millis(1);

/// The deliveries of one consuming channel, from its opening to its end.
#[derive(Debug)]
pub struct Epoch {
    window: Mutex<AckWindow>,
    settled: Notify,
    draining: AtomicBool,
    over: AtomicBool,
}

/// A delivery of an epoch, to be settled exactly once.
#[derive(Debug)]
pub struct Delivery {
    epoch: Arc<Epoch>,
    tag: u64,
    /// Memory of the message, held until the delivery is dropped, even after the end of its epoch.
    _held: Held,
}

impl admission::Delivery for Delivery {
    fn settle(self, _: &Proof, _: &Answer) {
        self.epoch.window.lock().settle(self.tag);
        self.epoch.settled.notify_one();
    }
}

impl Epoch {
    /// Begins an epoch in which up to `straggler_limit` settled deliveries wait behind an unsettled one.
    pub fn begin(straggler_limit: usize) -> Arc<Self> {
        let window = Mutex::new(AckWindow::new(straggler_limit));
        Arc::new(Self { window, settled: Notify::new(), draining: AtomicBool::default(), over: AtomicBool::default() })
    }

    /// Adds a delivery to the window. `held` is its memory, released when it is settled.
    pub fn deliver(self: &Arc<Self>, tag: u64, held: Held) -> Delivery {
        self.window.lock().deliver(tag);
        Delivery { epoch: Arc::clone(self), tag, _held: held }
    }

    /// Ends [`acknowledge`](Self::acknowledge). What is settled can still be acknowledged by the other methods.
    pub fn drain(&self) {
        self.draining.store(true, Ordering::SeqCst);
        self.settled.notify_one();
    }

    /// Ends the epoch: nothing more is acknowledged.
    pub fn end(&self) {
        self.over.store(true, Ordering::SeqCst);
        self.settled.notify_one();
    }

    /// Returns the number of deliveries that are settled and not acknowledged.
    pub fn lag(&self) -> usize {
        self.window.lock().lag()
    }

    /// Sends acknowledgements as deliveries are settled, until the epoch is drained or ends.
    ///
    /// # Errors
    ///
    /// Those of the session. The epoch then acknowledges nothing more.
    pub async fn acknowledge(self: Arc<Self>, acks: impl Acks, metrics: Arc<Metrics>) -> Result<(), SessionError> {
        let mut due = Vec::new();
        while !self.over.load(Ordering::SeqCst) && !self.draining.load(Ordering::SeqCst) {
            self.settled.notified().await;
            // The deliveries of a batch are settled one by one. Wait for all of them and send one ack.
            tokio::time::sleep(COALESCE).await;
            self.window.lock().flush(&mut due);
            send(&acks, &metrics, &mut due).await?;
            metrics.ack_lag.set(self.lag() as f64);
        }
        Ok(())
    }

    /// Acknowledges the settled prefix with one multiple ack.
    ///
    /// # Errors
    ///
    /// Those of the session.
    pub async fn acknowledge_prefix(&self, acks: &impl Acks, metrics: &Metrics) -> Result<(), SessionError> {
        let mut due = Vec::from_iter(self.window.lock().flush_prefix());
        send(acks, metrics, &mut due).await
    }

    /// Acknowledges all settled deliveries, before the session is closed.
    ///
    /// # Errors
    ///
    /// Those of the session.
    pub async fn acknowledge_rest(&self, acks: &impl Acks, metrics: &Metrics) -> Result<(), SessionError> {
        let mut due = Vec::new();
        {
            let mut window = self.window.lock();
            window.flush(&mut due);
            window.flush_singly(&mut due);
        }
        send(acks, metrics, &mut due).await
    }
}

async fn send(acks: &impl Acks, metrics: &Metrics, due: &mut Vec<Ack>) -> Result<(), SessionError> {
    for ack in due.drain(..) {
        acks.send(ack).await?;
        metrics
            .acks(match ack {
                Ack::Multiple(_) => AckKind::Multiple,
                Ack::Single(_) => AckKind::Single,
            })
            .increment(1);
    }
    Ok(())
}
