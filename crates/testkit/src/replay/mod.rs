//! Replays a database: a single-threaded ledger repeats all tasks in the order in which the database has recorded
//! them. It must come to the same states, balances and entries.
//!
//! The replay knows of the daemon only what is in the tables, which it reads with plain SQL. Its ledger
//! (`model/`) was written independently of the daemon's, so that a bug would have to be in both to remain unnoticed.
//!
//! ```ignore
//! let replayed = replay::replay(&client, &replay::Settings::default()).await?;
//! ```
//!
//! # The recorded order
//!
//! A decision is made while the locks of its accounts are held, and its time is the database's clock read after
//! locking, one time per batch. So steps on the same accounts are in the order of their times, and those of one batch
//! in the order of arrival. Where this leaves a choice (two batches in one microsecond, two messages received in one,
//! tasks that the scheduler resumed together), the records decide: a step is done when its result equals what is
//! recorded, that is when its entries come next in their accounts and its payment has the recorded version. A step
//! with another result is tried again later. A step that never gives the recorded result is what the replay reports.
//!
//! A step that refers to another task may have to be done later than its time: it read the clock first, and after
//! that what others had committed of that task. Later steps of its batch that involve the same accounts are first
//! tried at their own time. If that leads nowhere, the replay starts again and delays them too (`moment.rs`).
//!
//! Waiting is an exception. A task that waits for one it can't see yet doesn't share a lock with it, so the awaited
//! task may have read the clock earlier and committed later. Waiting changes nothing else, so it only has to be
//! correct at some moment shortly before its recorded time (`waiting.rs`).
//!
//! The replay assumes that daemons and database have one clock, which is never set back, and that only the daemon has
//! written payments. The load test's prefilled ledger violates that.

mod compare;
mod complaint;
mod moment;
mod recorded;
mod run;
mod script;
mod waiting;

use tokio_postgres::Client;

pub use self::compare::{accounts, entries, payments};
pub use self::model::Settings;
use self::moment::Patience;
pub use self::recorded::Recorded;
use super::contract;
pub use super::model;

/// Counts of what was replayed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Replayed {
    pub tasks: usize,
    /// Number of decisions, waits and expired holds.
    pub steps: usize,
    pub entries: usize,
    pub accounts: usize,
}

/// Replays everything that the database has recorded, with the settings of the daemons that wrote it.
///
/// # Errors
///
/// Describes what is recorded, and what it should be.
pub async fn replay(client: &Client, settings: &Settings) -> Result<Replayed, String> {
    let failed = |error: tokio_postgres::Error| format!("the records can't be read: {error:?}");
    // The snapshot excludes transactions that commit during the reads.
    client.batch_execute("BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY").await.map_err(failed)?;
    let recorded = Recorded::read(client).await;
    client.batch_execute("ROLLBACK").await.map_err(failed)?;
    of(&recorded?, settings)
}

/// Replays records that have been read.
///
/// # Errors
///
/// Describes what is recorded, and what it should be.
pub fn of(recorded: &Recorded, settings: &Settings) -> Result<Replayed, String> {
    let script = script::Script::of(recorded)?;
    let run = |patience| run::Run::of(recorded, &script, settings, patience).all();
    let model = run(Patience::Less).or_else(|found| run(Patience::More).map_err(|_| found))?;
    payments(&model, recorded)?;
    accounts(&model, recorded)?;
    Ok(Replayed {
        tasks: recorded.payments.len(),
        steps: script.steps.len() + script.waits.len(),
        entries: recorded.entries.values().map(Vec::len).sum(),
        accounts: model.accounts.len(),
    })
}
