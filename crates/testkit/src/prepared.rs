//! A batch that is decided before its transaction begins, for measuring the time of PostgreSQL alone. The rows, the
//! statements and the two round trips are those of [`PostgresStore`].
//!
//! [`PostgresStore`]: settled_store::PostgresStore

use std::collections::HashMap;
use std::time::Duration;

use jiff::Timestamp;
use settled_core::contract::AccountName;
use settled_core::ledger::{Account, NonePending, Rules};
use settled_pipeline::store::{Answer, StoreError, Submission};
use settled_store::decision::{DecidedBatch, Events, Locked, Outboxes, Plan, Rows, begin_and_lock, write_and_commit};
use settled_store::{Object, Pool};
use uuid::Uuid;

/// Time limit for the server's replies. Also the lease of the events, which are never published.
const LIMIT: Duration = Duration::from_secs(3600);

/// A decided batch with all its rows.
pub struct Prepared<'a> {
    account_ids: Vec<i64>,
    task_ids: Vec<Uuid>,
    rows: Rows<'a>,
    events: Events,
}

impl<'a> Prepared<'a> {
    /// Decides `batch` on `accounts` and updates them to the state after its commit. The events name `source` as
    /// their origin.
    ///
    /// # Errors
    ///
    /// [`StoreError::Broken`] if an account is missing or a task isn't settled: only payments are to be measured.
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
            // A nil id has the length of a real one.
            incarnation: Uuid::nil(),
        };
        let what = (batch, &plan, &layout);
        let decided = DecidedBatch::by(&Rules::default(), what, &[], locked, HashMap::new(), &NonePending);
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

    /// Returns the number of payments.
    pub const fn payments(&self) -> usize {
        self.task_ids.len()
    }

    /// Commits the batch: locks the accounts, looks up the ids, writes the rows. The rows that it reads are ignored,
    /// but balances are written only if the accounts still have the versions on which the batch was decided.
    ///
    /// # Errors
    ///
    /// Those of PostgreSQL, and [`StoreError::Conflict`] if an account has changed.
    pub async fn commit(&self, pool: &Pool) -> Result<(), StoreError> {
        let client = pool.get().await.map_err(|error| StoreError::Unavailable(error.to_string()))?;
        let committed = async {
            let locked = begin_and_lock(&client, (&self.account_ids, &[]), &self.task_ids, &[], LIMIT).await?;
            write_and_commit(
                &client,
                &self.rows,
                locked.now,
                Outboxes { lease: LIMIT, has_stream: false },
                LIMIT,
                || &self.events,
            )
            .await
        };
        let result = committed.await.map(drop);
        if result.is_err() {
            // The transaction is in an unknown state, so the connection must not return to the pool.
            drop(Object::take(client));
        }
        result
    }
}
