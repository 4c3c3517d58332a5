//! The replay: a ledger of one thread does all tasks again, in the order in which the database
//! recorded them, and has to come to the same states, balances and entries.
//!
//! It knows of the daemon only what stands in the tables. That is read by plain SQL, and the second
//! ledger (`model/`) is not the daemon's: both would have to be wrong in the same way.
//!
//! Whoever includes it has `contract` in scope, so that the load test can use it, too:
//!
//! ```ignore
//! use settled::contract;
//! #[path = "support/replay/mod.rs"]
//! mod replay;
//!
//! let replayed = replay::replay(&client, &replay::Settings::default()).await?;
//! ```
//!
//! # The recorded order
//!
//! What is decided is decided under the locks of its accounts, and its time is the database's clock
//! read under them, one for a batch. So steps that could meet are in the order of their times, and
//! those of one batch in the order in which they came. Where that leaves a choice (two batches in
//! one microsecond, two messages in one, what the agenda took up together), the records themselves
//! tell: a step has its turn when it comes to what is recorded of it, its entries at their places in
//! their accounts and its payment at its version. One that doesn't is tried again later, and what
//! never has its turn is what the replay complains of.
//!
//! A step that refers to another task may be behind: it has read the clock, and then what others have
//! committed of that task by a later time. What came after it in its batch and meets it is tried at its
//! own time first, and if that leads nowhere all is begun again, and it waits with it (`moment.rs`).
//!
//! Waiting is the exception. Whoever waits for a task that it can't see yet holds no lock that this
//! one holds: that it has read the clock already doesn't mean that it has committed. It changes
//! nothing, so it only has to be true at some moment shortly before its time (`waiting.rs`).
//!
//! One clock for daemons and database is assumed, or one that is not set back; and no payment that
//! was written by anybody else, as the load test's ledger with a past is.
#![allow(dead_code, unused_imports, reason = "not everyone asks for all of it")]

mod compare;
mod complaint;
#[path = "../model/mod.rs"]
pub(crate) mod model;
mod moment;
mod recorded;
mod run;
mod script;
mod waiting;

use tokio_postgres::Client;

pub(crate) use self::compare::{accounts, entries, payments};
pub(crate) use self::model::Settings;
use self::moment::Patience;
pub(crate) use self::recorded::Recorded;
use super::contract;

/// What was replayed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Replayed {
    pub(crate) tasks: usize,
    /// What happened to them: decisions, waiting, holds that ran out.
    pub(crate) steps: usize,
    pub(crate) entries: usize,
    pub(crate) accounts: usize,
}

/// Replays all that the database has recorded, by the settings of the daemons that did it.
///
/// # Errors
///
/// Says what is recorded, and what should be.
pub(crate) async fn replay(client: &Client, settings: &Settings) -> Result<Replayed, String> {
    let failed = |error: tokio_postgres::Error| format!("the records can't be read: {error:?}");
    // What commits meanwhile is not a part of it.
    client.batch_execute("BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY").await.map_err(failed)?;
    let recorded = Recorded::read(client).await;
    client.batch_execute("ROLLBACK").await.map_err(failed)?;
    of(&recorded?, settings)
}

/// Replays what was read.
///
/// # Errors
///
/// Says what is recorded, and what should be.
pub(crate) fn of(recorded: &Recorded, settings: &Settings) -> Result<Replayed, String> {
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
