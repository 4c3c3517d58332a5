//! A batch as one transaction in two round trips: begin, lock, read; write, commit. Between
//! them the pure ledger decides.
//!
//! | file | responsibility |
//! |---|---|
//! | `plan` | from submissions to accounts in the order in which they are locked: pure |
//! | `lock`, `references` | the first round trip |
//! | `decided`, `life`, `events` | from the ledger's outcomes to rows and events: pure |
//! | `rows`, `statements`, `life_statements` | the rows, and what writes them |
//! | `write`, `commit` | the second round trip, and the proof that it is durable |
//! | `postgres` | all of it together, on a connection of the pool |

// An arm for whatever there is would take a new state or task type without anybody having thought of it.
#![cfg_attr(not(test), deny(clippy::wildcard_enum_match_arm, clippy::match_wildcard_for_single_variants))]

mod commit;
mod decided;
mod events;
mod life;
mod life_statements;
mod lock;
mod plan;
mod postgres;
mod references;
mod rows;
mod statements;
mod write;

pub use self::postgres::PostgresStore;

pub mod decision {
    //! How a batch is decided, step by step, for whoever keeps its rows elsewhere or measures a step alone.
    //!
    //! [`Plan`] says what to read, [`Locked`] is what was read, [`DecidedBatch`] makes [`Rows`] and [`Events`] of it.
    //! [`begin_and_lock`] and [`write_and_commit`] are the two round trips to PostgreSQL.

    pub use super::decided::DecidedBatch;
    pub use super::events::Events;
    pub use super::lock::{Locked, begin_and_lock};
    pub use super::plan::{Layout, Plan};
    pub use super::rows::{Life, Rows};
    pub use super::write::{Outboxes, Written, write_and_commit};
}
