//! The first round trip: lock the accounts, then read which ids are already known, and the payments
//! that tasks of the batch refer to.

use std::collections::HashMap;
use std::time::Duration;

use jiff::Timestamp;
use tokio_postgres::Row;
use tokio_postgres::types::ToSql;
use uuid::Uuid;

use super::super::StoreError;
use super::super::queries::ledger::NO_ROW;
use super::super::session::{LOST, Session};
use super::references::{self, References};
use super::timed;
use crate::contract::{AccountName, Currency, Fingerprint};
use crate::ledger::{Account, AccountStatus, Known, Payment};
use crate::sabotage::{self, Defect};

/// In id order, whatever the plan: two batches never wait for each other.
const LOCK: &str = "
    SELECT id, posted, held, version, min_balance, status::text, currency, max_balance, shortfall, name
      FROM account WHERE id = ANY($1::bigint[]) ORDER BY id FOR NO KEY UPDATE";

/// Not in id order.
const LOCK_UNORDERED: &str = "
    SELECT id, posted, held, version, min_balance, status::text, currency, max_balance, shortfall, name
      FROM account WHERE id = ANY($1::bigint[]) ORDER BY random() FOR NO KEY UPDATE";

/// After the locks: the wait for them is what makes a concurrent duplicate visible.
/// One more row, without an id, tells the time, whether any task waits for another one, which ledger
/// this is, and whether the session still has its settings: a statement of its own would cost as much
/// as all of them.
const KNOWN: &str = "
    SELECT id, fingerprint, NULL, NULL, NULL, NULL FROM payment WHERE id = ANY($1::uuid[])
     UNION ALL
    SELECT NULL, NULL, clock_timestamp(), EXISTS (SELECT FROM agenda WHERE waits_for IS NOT NULL),
           (SELECT incarnation FROM ledger),
           current_setting('settled.session', true) = $2
           AND current_setting('synchronous_commit') NOT IN ('off', 'local')";

/// What the ledger needs to know.
pub(super) struct Locked {
    /// In the order of the ids that were asked for.
    pub(super) accounts: Vec<Account>,
    pub(super) known: HashMap<Uuid, Known>,
    /// The payments that were asked for and are known.
    pub(super) payments: HashMap<Uuid, Payment>,
    /// Those that came while the locks were waited for, and are to be acted on another time: nobody
    /// will wake who parks on them.
    pub(super) too_late: Vec<Uuid>,
    /// How often those of them that wait have been woken.
    pub(super) woken: HashMap<Uuid, i32>,
    /// The database's clock, once the locks were had.
    pub(super) now: Timestamp,
    /// Whether any task waits for another one.
    pub(super) someone_waits: bool,
    /// The ledger's incarnation.
    pub(super) incarnation: Uuid,
}

/// Begins a transaction; `account_ids` are sorted and without repetition, and belong to `names`.
/// `referred` are the ids whose payments matter.
///
/// # Errors
///
/// [`StoreError::Conflict`] if an id isn't that name's: it was of another ledger, and has to be asked for
/// again.
pub(super) async fn begin_and_lock(
    client: &Session,
    (account_ids, names): (&[i64], &[&AccountName]),
    task_ids: &[Uuid],
    referred: &[Uuid],
    limit: Duration,
) -> Result<Locked, StoreError> {
    let failed = |error: tokio_postgres::Error| StoreError::before_commit(&error);
    let is_unordered = sabotage::has(Defect::UnorderedLocks);
    let prepare = async {
        futures_util::try_join!(
            client.prepare_cached(if is_unordered { LOCK_UNORDERED } else { LOCK }),
            client.prepare_cached(KNOWN),
            References::prepare(client, referred)
        )
    };
    let (lock, known, references) = timed(limit, prepare).await?.map_err(failed)?;
    // Polled together, they travel together.
    let (account_ids_param, task_ids_param): ([&(dyn ToSql + Sync); 1], [&(dyn ToSql + Sync); 2]) =
        ([&account_ids], [&task_ids, client.mark()]);
    let (begun, locked, known, referred) = timed(limit, async {
        futures_util::join!(
            client.batch_execute("BEGIN"),
            client.query(&lock, &account_ids_param),
            client.query(&known, &task_ids_param),
            references::read(client, references.as_ref(), referred),
        )
    })
    .await?;
    begun.map_err(failed)?;
    let (mut locked, rows) = (locked.map_err(failed)?, known.map_err(failed)?);
    let (mut known, mut clock) = (HashMap::new(), None);
    for row in &rows {
        match row.get(0) {
            Some(id) => drop(known.insert(id, known_task(row)?)),
            None => {
                clock = Some((row.get(2), row.get(3), row.get::<_, Option<Uuid>>(4), row.get::<_, Option<bool>>(5)))
            }
        }
    }
    let clock = clock.ok_or_else(|| StoreError::Broken("the database doesn't tell the time".into()))?;
    let (now, someone_waits, incarnation, Some(true)) = clock else {
        return Err(StoreError::Unavailable(LOST.to_owned()));
    };
    let incarnation = incarnation.ok_or_else(|| StoreError::Unavailable(NO_ROW.into()))?;
    if is_unordered {
        locked.sort_by_key(|row| row.get::<_, i64>(0));
    }
    let are_named = names.iter().zip(&locked).all(|(name, row)| name.as_str() == row.get::<_, &str>(9));
    if locked.len() != account_ids.len() || !are_named {
        return Err(StoreError::Conflict("an account has another id than before: is it another ledger?".into()));
    }
    let accounts = locked.iter().map(account).collect::<Result<Vec<_>, _>>()?;
    let referred = referred.map_err(failed)?;
    let (payments, too_late) = references::payments(&referred, account_ids)?;
    Ok(Locked {
        accounts,
        known,
        payments,
        too_late,
        woken: references::woken(&referred),
        now,
        someone_waits,
        incarnation,
    })
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
        max_balance: row.get(7),
        shortfall: row.get(8),
    })
}

fn known_task(row: &Row) -> Result<Known, StoreError> {
    let fingerprint = Fingerprint::from_slice(row.get(1))
        .ok_or_else(|| StoreError::Broken("a payment has a fingerprint of another length".into()))?;
    Ok(Known { fingerprint, task: None })
}
