//! The first round trip: lock the accounts, then read which ids are already known.

use std::collections::HashMap;
use std::time::Duration;

use deadpool_postgres::ClientWrapper;
use jiff::Timestamp;
use tokio_postgres::Row;
use tokio_postgres::types::ToSql;
use uuid::Uuid;

use super::super::StoreError;
use super::timed;
use crate::contract::{Currency, Fingerprint};
use crate::ledger::{Account, AccountStatus, Known};

/// In id order, whatever the plan: two batches never wait for each other.
const LOCK: &str = "
    SELECT id, posted, held, version, min_balance, status::text, currency
      FROM account WHERE id = ANY($1::bigint[]) ORDER BY id FOR NO KEY UPDATE";

/// After the locks: the wait for them is what makes a concurrent duplicate visible.
/// One more row, without an id, tells the time: a statement of its own would cost as much as either.
const KNOWN: &str = "
    SELECT id, fingerprint, NULL FROM payment WHERE id = ANY($1::uuid[])
     UNION ALL SELECT NULL, NULL, clock_timestamp()";

/// What the ledger needs to know.
pub(super) struct Locked {
    /// In the order of the ids that were asked for.
    pub(super) accounts: Vec<Account>,
    pub(super) known: HashMap<Uuid, Known>,
    /// The database's clock, once the locks were had.
    pub(super) now: Timestamp,
}

/// Begins a transaction; `account_ids` are sorted and without repetition.
pub(super) async fn begin_and_lock(
    client: &ClientWrapper,
    account_ids: &[i64],
    task_ids: &[Uuid],
    limit: Duration,
) -> Result<Locked, StoreError> {
    let failed = |error: tokio_postgres::Error| StoreError::before_commit(&error);
    let prepare = async { futures_util::try_join!(client.prepare_cached(LOCK), client.prepare_cached(KNOWN)) };
    let (lock, known) = timed(limit, prepare).await?.map_err(failed)?;
    // Polled together, they travel together.
    let (account_ids_param, task_ids_param): ([&(dyn ToSql + Sync); 1], [&(dyn ToSql + Sync); 1]) =
        ([&account_ids], [&task_ids]);
    let (begun, locked, known) = timed(limit, async {
        futures_util::join!(
            client.batch_execute("BEGIN"),
            client.query(&lock, &account_ids_param),
            client.query(&known, &task_ids_param),
        )
    })
    .await?;
    begun.map_err(failed)?;
    let accounts = locked.map_err(failed)?.iter().map(account).collect::<Result<Vec<_>, _>>()?;
    if accounts.len() != account_ids.len() {
        return Err(StoreError::Broken("an account that was given an id is gone".into()));
    }
    let (rows, mut known, mut now) = (known.map_err(failed)?, HashMap::new(), None);
    for row in &rows {
        match row.get(0) {
            Some(id) => drop(known.insert(id, known_task(row)?)),
            None => now = row.get(2),
        }
    }
    let now = now.ok_or_else(|| StoreError::Broken("the database doesn't tell the time".into()))?;
    Ok(Locked { accounts, known, now })
}

fn account(row: &Row) -> Result<Account, StoreError> {
    let status: &str = row.get(5);
    let currency: Option<&str> = row.get(6);
    Ok(Account {
        id: row.get(0),
        posted: row.get(1),
        held: row.get(2),
        version: row.get(3),
        min_balance: row.get(4),
        status: AccountStatus::from_name(status)
            .ok_or_else(|| StoreError::Broken(format!("an account has the status {status:?}")))?,
        currency: currency.and_then(Currency::parse),
    })
}

fn known_task(row: &Row) -> Result<Known, StoreError> {
    let fingerprint = Fingerprint::from_slice(row.get(1))
        .ok_or_else(|| StoreError::Broken("a payment has a fingerprint of another length".into()))?;
    Ok(Known { fingerprint, task: None })
}
