//! The first round trip: begin, lock the accounts, then read which task ids are known already, and the payments that
//! the batch refers to.

use crate::error::before_commit;
use std::collections::HashMap;
use std::time::Duration;

use jiff::Timestamp;
use tokio_postgres::Row;
use uuid::Uuid;

use super::super::queries::ledger::NO_ROW;
use super::super::session::{LOST, Session};
use super::commit::timed;
use super::references::{self, References};
use crate::sql::query;
use settled_core::contract::{AccountName, Currency, Fingerprint};
use settled_core::ledger::{Account, AccountStatus, Known, Payment};
use settled_pipeline::store::StoreError;

query! {
    /// Locks in the order of the ids, so that two batches never wait for each other.
    LockAccounts(account_ids: &[i64]) {
        ids = account_ids,
    }
    "SELECT id, name, posted, held, version, min_balance, status::text, currency, max_balance, shortfall
       FROM account WHERE id = ANY({ids}::bigint[]) ORDER BY id FOR NO KEY UPDATE"
}

query! {
    /// Runs after the locks: a duplicate that another batch commits meanwhile is visible only then. One more row,
    /// without an id, has the time, whether any task waits for another one, the ledger's incarnation, and whether the
    /// session still has its settings. A statement of its own would cost as much as this one.
    ReadKnown(task_ids: &[Uuid], mark: &str) {
        ids = task_ids,
        mark = mark,
    }
    "SELECT id, fingerprint, NULL AS now, NULL AS someone_waits, NULL AS incarnation, NULL AS is_set_up
       FROM payment WHERE id = ANY({ids}::uuid[])
      UNION ALL
     SELECT NULL, NULL, clock_timestamp(), EXISTS (SELECT FROM agenda WHERE waits_for IS NOT NULL),
            (SELECT incarnation FROM ledger),
            current_setting('settled.session', true) = {mark}
            AND current_setting('synchronous_commit') NOT IN ('off', 'local')"
}

/// The state on which the ledger decides.
pub struct Locked {
    /// In the order of the ids given.
    pub accounts: Vec<Account>,
    pub known: HashMap<Uuid, Known>,
    /// The payments that the batch refers to and that exist.
    pub payments: HashMap<Uuid, Payment>,
    /// Payments that were committed while this batch waited for its locks. Their accounts are not locked, so they
    /// cannot be acted on now. A task that is parked on one has to be woken by this batch itself.
    pub too_late: Vec<Uuid>,
    /// How often each waiting payment has been woken.
    pub woken: HashMap<Uuid, i32>,
    /// The database's clock, read after the locks were granted.
    pub now: Timestamp,
    /// Whether any task waits for another one.
    pub someone_waits: bool,
    pub incarnation: Uuid,
}

/// Begins a transaction, locks the accounts and reads what the ledger needs. `account_ids` are sorted, each once, and
/// belong to `names`; `referred` are the ids of the payments to read.
///
/// # Errors
///
/// [`StoreError::Conflict`] if an id belongs to another name. The cached ids are of another ledger then, as after a
/// restored backup, and have to be looked up again.
pub async fn begin_and_lock(
    client: &Session,
    (account_ids, names): (&[i64], &[&AccountName]),
    task_ids: &[Uuid],
    referred: &[Uuid],
    limit: Duration,
) -> Result<Locked, StoreError> {
    let prepare = async {
        let (lock, known) = (LockAccounts::prepare(client), ReadKnown::prepare(client));
        futures_util::try_join!(lock, known, References::prepare(client, referred))
    };
    let (lock, known, references) = timed(limit, prepare).await?.map_err(before_commit)?;
    // Polled together, they are sent together.
    let (begun, locked, known, referred) = timed(limit, async {
        futures_util::join!(
            client.batch_execute("BEGIN"),
            lock.query(client, account_ids),
            known.query(client, task_ids, client.mark()),
            references::read(client, references.as_ref(), referred),
        )
    })
    .await?;
    begun.map_err(before_commit)?;
    let (locked, rows) = (locked.map_err(before_commit)?, known.map_err(before_commit)?);
    let (mut known, mut clock) = (HashMap::new(), None);
    for row in &rows {
        match row.get("id") {
            Some(id) => drop(known.insert(id, known_task(row)?)),
            None => clock = Some(row),
        }
    }
    let clock = clock.ok_or_else(|| StoreError::Broken("the database doesn't tell the time".into()))?;
    if clock.get::<_, Option<bool>>("is_set_up") != Some(true) {
        return Err(StoreError::Unavailable(LOST.to_owned()));
    }
    let incarnation: Option<Uuid> = clock.get("incarnation");
    let incarnation = incarnation.ok_or_else(|| StoreError::Unavailable(NO_ROW.into()))?;
    let are_named = names.iter().zip(&locked).all(|(name, row)| name.as_str() == row.get::<_, &str>("name"));
    if locked.len() != account_ids.len() || !are_named {
        return Err(StoreError::Conflict("an account has another id than before: is it another ledger?".into()));
    }
    let accounts = locked.iter().map(account).collect::<Result<Vec<_>, _>>()?;
    let referred = referred.map_err(before_commit)?;
    let (payments, too_late) = references::payments(&referred, account_ids)?;
    Ok(Locked {
        accounts,
        known,
        payments,
        too_late,
        woken: references::woken(&referred),
        now: clock.get("now"),
        someone_waits: clock.get("someone_waits"),
        incarnation,
    })
}

fn account(row: &Row) -> Result<Account, StoreError> {
    let status: &str = row.get("status");
    let currency: Option<&str> = row.get("currency");
    Ok(Account {
        id: row.get("id"),
        posted: row.get("posted"),
        held: row.get("held"),
        version: row.get("version"),
        min_balance: row.get("min_balance"),
        status: AccountStatus::from_name(status)
            .ok_or_else(|| StoreError::Broken(format!("an account has the status {status:?}")))?,
        currency: currency.and_then(Currency::parse),
        max_balance: row.get("max_balance"),
        shortfall: row.get("shortfall"),
    })
}

fn known_task(row: &Row) -> Result<Known, StoreError> {
    let fingerprint = Fingerprint::from_slice(row.get("fingerprint"))
        .ok_or_else(|| StoreError::Broken("a payment has a fingerprint of another length".into()))?;
    Ok(Known { fingerprint, task: None })
}
