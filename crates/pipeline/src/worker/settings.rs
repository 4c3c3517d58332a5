//! `[pipeline]`: numbers of threads, lanes and workers, and the sizes of batches and buffers.

use std::time::Duration;

use crate::section;

section! {
    /// Limits on the work in progress between the broker and the database.
    PipelineSettings = "pipeline", "How much is done at once. Nothing in the process is unbounded." {
        threads: usize = 1, Whole(1..=256),
            "Threads that do the work, besides one for each of the two connections to the broker. More pay off where cores are idle; on two cores shared with PostgreSQL and RabbitMQ one is faster.";
        lanes: usize = 1, Whole(1..=256),
            "Queues inside the process, chosen by debit account. With 1 everything is applied strictly in the order of arrival; more pay off where cores are idle and payments share few accounts.";
        lane_capacity: usize = 2000, Whole(1..=100_000),
            "Tasks a lane holds before intake waits; at least max_batch.";
        workers: usize = 1, Whole(1..=256),
            "Workers that apply batches, one at a time on each lane; at most lanes.";
        max_batch: usize = 1000, Whole(1..=2000),
            "The most tasks in one transaction. A batch is whatever is waiting: nothing waits for a batch to fill.";
        max_transactions: usize = 4, Whole(1..=256),
            "Transactions open at the same time.";
        account_cache: usize = 100_000, Whole(1..=10_000_000),
            "Account names whose ids are remembered, about 200 bytes each.";
        drain_timeout: Duration = Duration::from_secs(10), Span(Duration::from_millis(100)..=Duration::from_secs(300)),
            "What a stop may take; what is not acknowledged by then is left to redelivery. Keep it below systemd's TimeoutStopSec.";
    }
}
