//! A batch that is decided before its transaction begins: for measuring what PostgreSQL alone
//! takes. The rows, the statements and the two round trips are those of [`PostgresStore`].
//!
//! [`PostgresStore`]: super::PostgresStore

use std::collections::HashMap;
use std::time::Duration;

use jiff::Timestamp;
use uuid::Uuid;

use super::decided::Decided;
use super::events::Events;
use super::plan::Plan;
use super::read::Locked;
use super::write::Rows;
use super::{Answer, Submission, read, write};
use crate::contract::AccountName;
use crate::ledger::{Account, NonePending, Rules};
use crate::store::StoreError;
use crate::store::pool::{Object, Pool};

/// For the server's answers and for the events, which nobody publishes.
const LIMIT: Duration = Duration::from_secs(3600);

/// All rows of a batch, ready to be written.
pub struct Prepared<'a> {
    account_ids: Vec<i64>,
    task_ids: Vec<Uuid>,
    rows: Rows<'a>,
    events: Events,
}

impl<'a> Prepared<'a> {
    /// Decides `batch` on `accounts` as they will be when it is committed, and changes them to
    /// what they are afterwards; its events name `source`.
    ///
    /// # Errors
    ///
    /// [`StoreError::Broken`] for an account that is missing, and for a task that isn't settled:
    /// what is measured is to be payments.
    pub fn decide(
        batch: &[Submission<'a>],
        accounts: &mut HashMap<AccountName, Account>,
        source: &str,
    ) -> Result<Self, StoreError> {
        let plan = Plan::of(batch);
        let mut before = plan
            .names
            .iter()
            .map(|name| accounts.get(*name).cloned().ok_or_else(|| StoreError::Broken(format!("no account {name}"))))
            .collect::<Result<Vec<_>, _>>()?;
        let ids: Vec<i64> = before.iter().map(|account| account.id).collect();
        let layout = plan.layout(&ids, &[]);
        before.sort_unstable_by_key(|account| account.id);
        let locked = Locked {
            accounts: before,
            known: HashMap::new(),
            payments: HashMap::new(),
            too_late: Vec::new(),
            woken: HashMap::new(),
            now: Timestamp::now(),
            someone_waits: false,
            // As long as a real one.
            incarnation: Uuid::nil(),
        };
        let what = (batch, &plan, &layout);
        let decided = Decided::by(&Rules::default(), what, &[], locked, HashMap::new(), &NonePending);
        for (name, id) in plan.names.iter().zip(&ids) {
            if let Ok(place) = layout.account_ids.binary_search(id) {
                accounts.insert((*name).clone(), decided.accounts[place].clone());
            }
        }
        let (answers, rows) = decided.rows();
        let events = decided.events(source, &rows.dead_letters);
        match answers.iter().find(|answer| **answer != Answer::Settled) {
            Some(other) => Err(StoreError::Broken(format!("a task came to {other:?}"))),
            None => {
                let task_ids = layout.items.iter().map(|item| item.task.id).collect();
                Ok(Self { account_ids: layout.account_ids, task_ids, rows, events })
            }
        }
    }

    /// How many payments it has.
    pub const fn payments(&self) -> usize {
        self.task_ids.len()
    }

    /// Commits it: locks, looks for the ids, writes. What is read is not looked at, but the
    /// balances are written only onto the versions that they were decided on.
    ///
    /// # Errors
    ///
    /// PostgreSQL's, and [`StoreError::Conflict`] for accounts that are not as they were taken
    /// to be.
    pub async fn commit(&self, pool: &Pool) -> Result<(), StoreError> {
        let client = pool.get().await.map_err(|error| StoreError::pool(&error))?;
        let committed = async {
            let locked = read::begin_and_lock(&client, (&self.account_ids, &[]), &self.task_ids, &[], LIMIT).await?;
            write::write_and_commit(&client, &self.rows, locked.now, LIMIT, LIMIT, || &self.events).await
        };
        let result = committed.await.map(drop);
        if result.is_err() {
            // In an unknown state: never back into the pool.
            drop(Object::take(client));
        }
        result
    }
}
