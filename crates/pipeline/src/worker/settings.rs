//! `[pipeline]`: numbers of threads, lanes and workers, and the sizes of batches and buffers.

use std::time::Duration;

use crate::settings::{Field, Key, Section};

/// Limits on the work in progress between the broker and the database.
#[derive(Debug, Clone)]
pub struct PipelineSettings {
    /// Number of runtime threads, without those of the connections to the broker.
    pub threads: usize,
    /// Number of lanes. All tasks that debit one account are in the same lane.
    pub lanes: usize,
    /// Maximum number of tasks in a lane. Intake waits while the lane is full.
    pub lane_capacity: usize,
    /// Number of workers, each a tokio task.
    pub workers: usize,
    /// Maximum number of tasks in a transaction.
    pub max_batch: usize,
    /// Maximum number of open transactions.
    pub max_transactions: usize,
    /// Number of account names whose ids are cached.
    pub account_cache: usize,
    /// Time limit for draining on shutdown. Tasks not settled by then are redelivered.
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
