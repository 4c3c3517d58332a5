//! `[pipeline]`: how much is done at once.

use std::time::Duration;

use crate::config::{Field, Key, Section};

/// The bounds of everything between the broker and the database.
#[derive(Debug, Clone)]
pub struct PipelineSettings {
    /// Threads that carry out all of it, besides those of the connections to the broker.
    pub threads: usize,
    /// Queues inside the process; a debit account belongs to one of them.
    pub lanes: usize,
    /// Tasks a lane holds before intake waits.
    pub lane_capacity: usize,
    /// Tasks (in tokio's sense) that work on the lanes.
    pub workers: usize,
    /// The most payment tasks in a transaction.
    pub max_batch: usize,
    /// Transactions open at the same time.
    pub max_transactions: usize,
    /// Account names whose ids are remembered.
    pub account_cache: usize,
    /// What a stop may take before the rest is left to redelivery.
    pub drain_timeout: Duration,
}

impl Default for PipelineSettings {
    fn default() -> Self {
        Self {
            threads: 1,
            lanes: 1,
            lane_capacity: 2000,
            workers: 1,
            max_batch: 1000,
            max_transactions: 4,
            account_cache: 100_000,
            drain_timeout: Duration::from_secs(10),
        }
    }
}

impl Section for PipelineSettings {
    const NAME: &'static str = "pipeline";
    const ABOUT: &'static str = "How much is done at once. Nothing in the process is unbounded.";

    #[rustfmt::skip]
    fn keys(&mut self) -> Vec<Key<'_>> {
        vec![
            Key::new("threads", Field::Whole(&mut self.threads, 1..=256), "Threads that do the work, besides one for each of the two connections to the broker. More pay off where cores are idle; on two cores shared with PostgreSQL and RabbitMQ one is faster."),
            Key::new("lanes", Field::Whole(&mut self.lanes, 1..=256), "Queues inside the process, chosen by debit account. With 1 everything is applied strictly in the order of arrival; more pay off where cores are idle and payments share few accounts."),
            Key::new("lane_capacity", Field::Whole(&mut self.lane_capacity, 1..=100_000), "Tasks a lane holds before intake waits; at least max_batch."),
            Key::new("workers", Field::Whole(&mut self.workers, 1..=256), "Workers that apply batches, one at a time on each lane; at most lanes."),
            Key::new("max_batch", Field::Whole(&mut self.max_batch, 1..=2000), "The most tasks in one transaction. A batch is whatever is waiting: nothing waits for a batch to fill."),
            Key::new("max_transactions", Field::Whole(&mut self.max_transactions, 1..=256), "Transactions open at the same time."),
            Key::new("account_cache", Field::Whole(&mut self.account_cache, 1..=10_000_000), "Account names whose ids are remembered, about 200 bytes each."),
            Key::new("drain_timeout", Field::Span(&mut self.drain_timeout, Duration::from_millis(100)..=Duration::from_secs(300)), "What a stop may take; what is not acknowledged by then is left to redelivery. Keep it below systemd's TimeoutStopSec."),
        ]
    }
}
