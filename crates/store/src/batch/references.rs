//! The payments that a batch refers to: those its tasks act on or wait for, and its own tasks that are stored already.

use crate::error::before_commit;
use std::collections::HashMap;

use deadpool_postgres::ClientWrapper;
use smallvec::SmallVec;
use tokio_postgres::{Error, Row};
use uuid::Uuid;

use crate::sql::query;
use settled_core::contract::{AccountName, Currency, PaymentState, TaskType};
use settled_core::ledger::state::Stage;
use settled_core::ledger::{AccountIx, Payment, PaymentLeg};
use settled_pipeline::store::StoreError;

query! {
    /// Runs before the transaction: the accounts of a payment never change, and have to be locked first.
    ReadAccounts(referred: &[Uuid]) {
        ids = referred,
    }
    "SELECT id, name FROM account
      WHERE id = ANY (ARRAY(SELECT unnest(ARRAY[debit_account, credit_account])
                              FROM payment WHERE id = ANY({ids}::uuid[])
                             UNION ALL
                            SELECT unnest(ARRAY[debit_account, credit_account])
                              FROM leg WHERE payment_id = ANY({ids}::uuid[])))"
}

query! {
    ReadPayments(referred: &[Uuid]) {
        ids = referred,
    }
    "SELECT p.id, p.type::text, p.state::text, p.version, p.expires_at, a.deadline, p.legs IS NOT NULL AS listed,
            p.debit_account, p.credit_account, p.currency, p.amount, p.captured, p.refunded, p.charged_back, a.woken,
            p.publisher
       FROM payment p LEFT JOIN agenda a ON a.task_id = p.id
      WHERE p.id = ANY({ids}::uuid[])"
}

query! {
    /// The legs of payments, without those of follow-ups.
    ReadLegs(referred: &[Uuid]) {
        ids = referred,
    }
    "SELECT payment_id, debit_account, credit_account, currency, amount, captured, refunded, charged_back
       FROM leg WHERE payment_id = ANY({ids}::uuid[]) AND captured IS NOT NULL ORDER BY payment_id, leg"
}

/// The statements, prepared only if the batch refers to payments.
pub(super) struct References {
    payments: ReadPayments,
    legs: ReadLegs,
}

impl References {
    pub(super) async fn prepare(client: &ClientWrapper, referred: &[Uuid]) -> Result<Option<Self>, Error> {
        if referred.is_empty() {
            return Ok(None);
        }
        let (payments, legs) = (ReadPayments::prepare(client).await?, ReadLegs::prepare(client).await?);
        Ok(Some(Self { payments, legs }))
    }
}

/// The rows of payments and of their legs.
pub(super) type Rows = (Vec<Row>, Vec<Row>);

/// Reads the payments. Sends the statements at the first poll.
pub(super) async fn read(
    client: &ClientWrapper,
    statements: Option<&References>,
    referred: &[Uuid],
) -> Result<Rows, Error> {
    let Some(statements) = statements else { return Ok((Vec::new(), Vec::new())) };
    let References { payments, legs } = statements;
    let (payments, legs) = futures_util::join!(payments.query(client, referred), legs.query(client, referred));
    Ok((payments?, legs?))
}

/// Returns the ids and names of the accounts between which the payments move money.
pub(super) async fn accounts(client: &ClientWrapper, referred: &[Uuid]) -> Result<Vec<(i64, AccountName)>, StoreError> {
    if referred.is_empty() {
        return Ok(Vec::new());
    }
    let accounts = ReadAccounts::prepare(client).await.map_err(before_commit)?;
    let rows = accounts.query(client, referred).await.map_err(before_commit)?;
    rows.iter().map(|row| Ok((row.get("id"), name(row.get("name"))?))).collect()
}

fn name(name: &str) -> Result<AccountName, StoreError> {
    AccountName::parse(name).ok_or_else(|| StoreError::Broken(format!("an account has the name {name:?}")))
}

/// Returns the payments, with each account as its place in `account_ids`, and the ids of those payments whose accounts
/// are not among them: these were committed after the accounts to lock had been determined.
pub(super) fn payments(
    (rows, legs): &Rows,
    account_ids: &[i64],
) -> Result<(HashMap<Uuid, Payment>, Vec<Uuid>), StoreError> {
    let mut legs_of: HashMap<Uuid, Vec<&Row>> = HashMap::new();
    for row in legs {
        legs_of.entry(row.get("payment_id")).or_default().push(row);
    }
    let (mut payments, mut too_late) = (HashMap::with_capacity(rows.len()), Vec::new());
    for row in rows {
        let mut payment = payment(row)?;
        let moves = payment.moves_money() && !payment.state().is_pending() && !payment.state().is_failed();
        let own: SmallVec<[Option<PaymentLeg>; 1]> = match (moves, payment.listed) {
            (false, _) => SmallVec::new(),
            (true, false) => std::iter::once(leg(row, account_ids, payment.task_type)?).collect(),
            (true, true) => legs_of
                .remove(&payment.id)
                .unwrap_or_default()
                .into_iter()
                .map(|row| leg(row, account_ids, payment.task_type))
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

/// Returns how often each waiting payment has been woken.
pub(super) fn woken((rows, _): &Rows) -> HashMap<Uuid, i32> {
    rows.iter().filter_map(|row| row.get::<_, Option<i32>>("woken").map(|woken| (row.get("id"), woken))).collect()
}

fn payment(row: &Row) -> Result<Payment, StoreError> {
    let unreadable = |what: &str| StoreError::Broken(format!("a payment has the {what}"));
    let (task_type, state): (&str, &str) = (row.get("type"), row.get("state"));
    Ok(Payment {
        id: row.get("id"),
        task_type: TaskType::from_name(task_type).ok_or_else(|| unreadable(&format!("type {task_type:?}")))?,
        stage: Stage::stored(
            PaymentState::from_name(state).ok_or_else(|| unreadable(&format!("state {state:?}")))?,
            row.get("version"),
        ),
        expires_at: row.get("expires_at"),
        deadline: row.get("deadline"),
        listed: row.get("listed"),
        legs: SmallVec::new(),
        publisher: row.get::<_, Option<&str>>("publisher").map(Into::into),
    })
}

/// The movement of a row of `payment` or of `leg`. Returns `None` if one of its accounts is not in `account_ids`.
fn leg(row: &Row, account_ids: &[i64], task: TaskType) -> Result<Option<PaymentLeg>, StoreError> {
    let place = |account: i64| account_ids.binary_search(&account).ok().map(AccountIx);
    let places = (place(row.get("debit_account")), place(row.get("credit_account")));
    let (Some(debit), Some(credit)) = places else { return Ok(None) };
    let currency: &str = row.get("currency");
    let amount: i64 = row.get("amount");
    // A transfer on which nothing has acted is captured in full.
    let posted = if task == TaskType::Transfer { amount } else { 0 };
    Ok(Some(PaymentLeg {
        debit,
        credit,
        currency: Currency::parse(currency)
            .ok_or_else(|| StoreError::Broken(format!("a payment has the currency {currency:?}")))?,
        amount,
        captured: row.get::<_, Option<i64>>("captured").unwrap_or(posted),
        refunded: row.get::<_, Option<i64>>("refunded").unwrap_or(0),
        charged_back: row.get::<_, Option<i64>>("charged_back").unwrap_or(0),
    }))
}
