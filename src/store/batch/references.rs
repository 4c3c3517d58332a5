//! The payments that tasks refer to: which they act on, which they come after, which of them are
//! stored and wait.

use std::collections::HashMap;

use deadpool_postgres::ClientWrapper;
use smallvec::SmallVec;
use tokio_postgres::{Error, Row, Statement};
use uuid::Uuid;

use super::super::StoreError;
use crate::contract::{AccountName, Currency, PaymentState, TaskType};
use crate::ledger::{AccountIx, Payment, PaymentLeg};

/// Before the transaction: a payment's accounts never change, and have to be locked first.
const ACCOUNTS: &str = "
    SELECT id, name FROM account
     WHERE id = ANY (ARRAY(SELECT unnest(ARRAY[debit_account, credit_account]) FROM payment WHERE id = ANY($1::uuid[])
                            UNION ALL
                           SELECT unnest(ARRAY[debit_account, credit_account]) FROM leg WHERE payment_id = ANY($1::uuid[])))";

const PAYMENTS: &str = "
    SELECT p.id, p.type::text, p.state::text, p.version, p.expires_at, a.deadline, p.legs IS NOT NULL,
           p.debit_account, p.credit_account, p.currency, p.amount, p.captured, p.refunded, p.charged_back, a.woken,
           p.publisher
      FROM payment p LEFT JOIN agenda a ON a.task_id = p.id
     WHERE p.id = ANY($1::uuid[])";

/// Of payments only, not of their follow-ups.
const LEGS: &str = "
    SELECT payment_id, debit_account, credit_account, currency, amount, captured, refunded, charged_back
      FROM leg WHERE payment_id = ANY($1::uuid[]) AND captured IS NOT NULL ORDER BY payment_id, leg";

/// The statements, where there is anything to ask.
pub(super) struct References {
    payments: Statement,
    legs: Statement,
}

impl References {
    pub(super) async fn prepare(client: &ClientWrapper, referred: &[Uuid]) -> Result<Option<Self>, Error> {
        if referred.is_empty() {
            return Ok(None);
        }
        let (payments, legs) = (client.prepare_cached(PAYMENTS).await?, client.prepare_cached(LEGS).await?);
        Ok(Some(Self { payments, legs }))
    }
}

/// Payments, and their legs.
pub(super) type Rows = (Vec<Row>, Vec<Row>);

/// Reads what is known of the payments; sent at once.
pub(super) async fn read(
    client: &ClientWrapper,
    statements: Option<&References>,
    referred: &[Uuid],
) -> Result<Rows, Error> {
    let Some(statements) = statements else { return Ok((Vec::new(), Vec::new())) };
    let ids: [&(dyn tokio_postgres::types::ToSql + Sync); 1] = [&referred];
    let (payments, legs) =
        futures_util::join!(client.query(&statements.payments, &ids), client.query(&statements.legs, &ids));
    Ok((payments?, legs?))
}

/// The accounts of the payments.
pub(super) async fn accounts(client: &ClientWrapper, referred: &[Uuid]) -> Result<Vec<(i64, AccountName)>, StoreError> {
    if referred.is_empty() {
        return Ok(Vec::new());
    }
    let failed = |error: Error| StoreError::before_commit(&error);
    let statement = client.prepare_cached(ACCOUNTS).await.map_err(failed)?;
    let rows = client.query(&statement, &[&referred]).await.map_err(failed)?;
    rows.iter().map(|row| Ok((row.get(0), name(row.get(1))?))).collect()
}

fn name(name: &str) -> Result<AccountName, StoreError> {
    AccountName::parse(name).ok_or_else(|| StoreError::Broken(format!("an account has the name {name:?}")))
}

/// The payments, with the places of their accounts among `account_ids`; and those whose accounts
/// were not known when the accounts were locked: it is as if they came later.
pub(super) fn payments(
    (rows, legs): &Rows,
    account_ids: &[i64],
) -> Result<(HashMap<Uuid, Payment>, Vec<Uuid>), StoreError> {
    let mut legs_of: HashMap<Uuid, Vec<&Row>> = HashMap::new();
    for row in legs {
        legs_of.entry(row.get(0)).or_default().push(row);
    }
    let (mut payments, mut too_late) = (HashMap::with_capacity(rows.len()), Vec::new());
    for row in rows {
        let mut payment = payment(row)?;
        let moves = payment.moves_money() && !payment.state.is_pending() && !payment.state.is_failed();
        let own: SmallVec<[Option<PaymentLeg>; 1]> = match (moves, payment.listed) {
            (false, _) => SmallVec::new(),
            (true, false) => std::iter::once(leg(row, 7, account_ids, payment.task_type)?).collect(),
            (true, true) => legs_of
                .remove(&payment.id)
                .unwrap_or_default()
                .into_iter()
                .map(|row| leg(row, 1, account_ids, payment.task_type))
                .collect::<Result<_, _>>()?,
        };
        match own.into_iter().collect() {
            Some(legs) => {
                payment.legs = legs;
                payments.insert(payment.id, payment);
            }
            None => too_late.push(payment.id),
        }
    }
    Ok((payments, too_late))
}

/// How often those that wait have been woken.
pub(super) fn woken((rows, _): &Rows) -> HashMap<Uuid, i32> {
    rows.iter().filter_map(|row| row.get::<_, Option<i32>>(14).map(|woken| (row.get(0), woken))).collect()
}

fn payment(row: &Row) -> Result<Payment, StoreError> {
    let unreadable = |what: &str| StoreError::Broken(format!("a payment has the {what}"));
    let (task_type, state): (&str, &str) = (row.get(1), row.get(2));
    Ok(Payment {
        id: row.get(0),
        task_type: TaskType::from_name(task_type).ok_or_else(|| unreadable(&format!("type {task_type:?}")))?,
        state: PaymentState::from_name(state).ok_or_else(|| unreadable(&format!("state {state:?}")))?,
        version: row.get(3),
        expires_at: row.get(4),
        deadline: row.get(5),
        listed: row.get(6),
        legs: SmallVec::new(),
        publisher: row.get::<_, Option<&str>>(15).map(Into::into),
    })
}

/// The columns from `first` on: accounts, currency, amount, and what has become of it.
fn leg(row: &Row, first: usize, account_ids: &[i64], task: TaskType) -> Result<Option<PaymentLeg>, StoreError> {
    let place = |account: i64| account_ids.binary_search(&account).ok().map(AccountIx);
    let (Some(debit), Some(credit)) = (place(row.get(first)), place(row.get(first + 1))) else { return Ok(None) };
    let currency: &str = row.get(first + 2);
    let amount: i64 = row.get(first + 3);
    // All of a transfer is posted at once.
    let posted = if task == TaskType::Transfer { amount } else { 0 };
    Ok(Some(PaymentLeg {
        debit,
        credit,
        currency: Currency::parse(currency)
            .ok_or_else(|| StoreError::Broken(format!("a payment has the currency {currency:?}")))?,
        amount,
        captured: row.get::<_, Option<i64>>(first + 4).unwrap_or(posted),
        refunded: row.get::<_, Option<i64>>(first + 5).unwrap_or(0),
        charged_back: row.get::<_, Option<i64>>(first + 6).unwrap_or(0),
    }))
}
