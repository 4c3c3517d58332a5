//! An epoch: the life of one consuming channel. A delivery tag means something within its
//! epoch only, so a delivery knows its epoch, and what is settled after the epoch's end is
//! dropped: the broker delivers it again, and its id is then known.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use lapin::Channel;
use lapin::options::BasicAckOptions;
use parking_lot::Mutex;
use tokio::sync::Notify;

use super::ack_window::{Ack, AckWindow};
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
    over: AtomicBool,
}

/// A delivery of an epoch, to be settled once.
#[derive(Debug)]
pub struct Delivery {
    epoch: Arc<Epoch>,
    tag: u64,
}

impl worker::Delivery for Delivery {
    fn settle(self, _: &Proof) {
        self.epoch.window.lock().settle(self.tag);
        self.epoch.settled.notify_one();
    }

    #[cfg(feature = "sabotage")]
    fn settle_early(&self, forged: &Proof) {
        Self { epoch: Arc::clone(&self.epoch), tag: self.tag }.settle(forged);
    }
}

impl Epoch {
    /// Begins; up to `straggler_limit` settled deliveries wait behind one that isn't.
    pub fn begin(straggler_limit: usize) -> Arc<Self> {
        let window = Mutex::new(AckWindow::new(straggler_limit));
        Arc::new(Self { window, settled: Notify::new(), over: AtomicBool::new(false) })
    }

    /// Enters a delivery.
    pub fn deliver(self: &Arc<Self>, tag: u64) -> Delivery {
        self.window.lock().deliver(tag);
        Delivery { epoch: Arc::clone(self), tag }
    }

    /// Nothing more is acknowledged by itself.
    pub fn end(&self) {
        self.over.store(true, Ordering::SeqCst);
        self.settled.notify_one();
    }

    /// Settled and not acknowledged.
    pub fn lag(&self) -> usize {
        self.window.lock().lag()
    }

    /// Sends acknowledgements as deliveries are settled, on the epoch's own channel, until the
    /// epoch ends or the channel does.
    pub async fn acknowledge(self: Arc<Self>, channel: Channel, metrics: Arc<Metrics>) {
        let mut acks = Vec::new();
        while !self.over.load(Ordering::SeqCst) {
            self.settled.notified().await;
            // A batch is settled delivery by delivery: one ack for all of it.
            tokio::time::sleep(COALESCE).await;
            self.window.lock().flush(&mut acks);
            if send(&channel, &metrics, &mut acks).await.is_err() {
                return; // Whoever consumes hears of it too.
            }
            metrics.ack_lag.set(self.lag() as f64);
        }
    }

    /// Acknowledges all that is settled: before the connection is closed.
    ///
    /// # Errors
    ///
    /// The channel's.
    pub async fn acknowledge_rest(&self, channel: &Channel, metrics: &Metrics) -> lapin::Result<()> {
        let mut acks = Vec::new();
        {
            let mut window = self.window.lock();
            window.flush(&mut acks);
            window.flush_singly(&mut acks);
        }
        send(channel, metrics, &mut acks).await
    }
}

async fn send(channel: &Channel, metrics: &Metrics, acks: &mut Vec<Ack>) -> lapin::Result<()> {
    for ack in acks.drain(..) {
        let (tag, multiple, kind) = match ack {
            Ack::Multiple(tag) => (tag, true, AckKind::Multiple),
            Ack::Single(tag) => (tag, false, AckKind::Single),
        };
        channel.basic_ack(tag, BasicAckOptions { multiple }).await?;
        metrics.acks(kind).increment(1);
    }
    Ok(())
}
