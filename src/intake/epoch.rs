//! An epoch: the life of one consuming channel. A delivery tag means something within its
//! epoch only, so a delivery knows its epoch, and what is settled after the epoch's end is
//! dropped: the broker delivers it again, and its id is then known.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;

use super::ack_window::{Ack, AckWindow};
use super::session::{Acks, SessionError};
use crate::broker::inbound::Held;
use crate::sabotage::{self, Defect};
use crate::store::Proof;
use crate::telemetry::labels::AckKind;
use crate::telemetry::metrics::Metrics;
use crate::worker;

/// How long an acknowledgement waits for those of the same batch.
const COALESCE: Duration = Duration::from_millis(1);

/// One epoch.
#[derive(Debug)]
pub struct Epoch {
    window: Mutex<AckWindow>,
    settled: Notify,
    draining: AtomicBool,
    over: AtomicBool,
}

/// A delivery of an epoch, to be settled once.
#[derive(Debug)]
pub struct Delivery {
    epoch: Arc<Epoch>,
    tag: u64,
    /// Goes with the message, whatever becomes of the epoch.
    _held: Held,
}

impl worker::Delivery for Delivery {
    fn settle(self, _: &Proof) {
        #[cfg(feature = "sabotage")]
        if sabotage::has(Defect::StaleEpochAcked) && self.epoch.over.load(Ordering::SeqCst) {
            sabotage::late(Some(self.tag));
        }
        self.epoch.window.lock().settle(self.tag);
        self.epoch.settled.notify_one();
    }

    #[cfg(feature = "sabotage")]
    fn settle_early(&self, forged: &Proof) {
        Self { epoch: Arc::clone(&self.epoch), tag: self.tag, _held: Held::default() }.settle(forged);
    }
}

impl Epoch {
    /// Begins; up to `straggler_limit` settled deliveries wait behind one that isn't.
    pub fn begin(straggler_limit: usize) -> Arc<Self> {
        let window = Mutex::new(AckWindow::new(straggler_limit));
        Arc::new(Self { window, settled: Notify::new(), draining: AtomicBool::default(), over: AtomicBool::default() })
    }

    /// Enters a delivery, which takes this memory until it is settled.
    pub fn deliver(self: &Arc<Self>, tag: u64, held: Held) -> Delivery {
        self.window.lock().deliver(tag);
        Delivery { epoch: Arc::clone(self), tag, _held: held }
    }

    /// Nothing more is acknowledged by itself, but all that is settled still can be.
    pub fn drain(&self) {
        self.draining.store(true, Ordering::SeqCst);
        self.settled.notify_one();
    }

    /// Nothing more is acknowledged.
    pub fn end(&self) {
        self.over.store(true, Ordering::SeqCst);
        self.settled.notify_one();
    }

    /// Settled and not acknowledged.
    pub fn lag(&self) -> usize {
        self.window.lock().lag()
    }

    /// Sends acknowledgements as deliveries are settled, in the epoch's own session, until the
    /// epoch is drained or ends, or the session ends.
    ///
    /// # Errors
    ///
    /// The session's: this epoch acknowledges nothing more.
    pub async fn acknowledge(self: Arc<Self>, acks: impl Acks, metrics: Arc<Metrics>) -> Result<(), SessionError> {
        let mut due = Vec::new();
        while !self.over.load(Ordering::SeqCst) && !self.draining.load(Ordering::SeqCst) {
            self.settled.notified().await;
            // A batch is settled delivery by delivery: one ack for all of it.
            tokio::time::sleep(COALESCE).await;
            self.window.lock().flush(&mut due);
            #[cfg(feature = "sabotage")]
            due.extend(sabotage::late(None).into_iter().map(Ack::Single));
            let sent = send(&acks, &metrics, &mut due).await;
            if !sabotage::has(Defect::AckFailureIgnored) {
                sent?;
            }
            metrics.ack_lag.set(self.lag() as f64);
        }
        Ok(())
    }

    /// Acknowledges what is settled with nothing unsettled before it, in one.
    ///
    /// # Errors
    ///
    /// The session's.
    pub async fn acknowledge_prefix(&self, acks: &impl Acks, metrics: &Metrics) -> Result<(), SessionError> {
        let mut due = Vec::from_iter(self.window.lock().flush_prefix());
        send(acks, metrics, &mut due).await
    }

    /// Acknowledges all that is settled: before the session is closed.
    ///
    /// # Errors
    ///
    /// The session's.
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
