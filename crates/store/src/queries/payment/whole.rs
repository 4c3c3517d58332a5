//! Payments with their legs and what was captured, refunded and charged back, and the entries of movements.

use std::collections::HashMap;

use jiff::Timestamp;
use serde::Serialize;
use tokio_postgres::{GenericClient, Row};
use uuid::Uuid;

use super::{Error, read};
use crate::sql::named;
use settled_core::contract::{AccountName, Currency, LegView, PaymentState, PaymentView, TaskType};

/// A payment that follow-ups can act on.
#[derive(Clone, Debug)]
pub struct WholePayment {
    pub id: Uuid,
    pub task_type: TaskType,
    pub state: PaymentState,
    /// Number of states it has had.
    pub version: i32,
    /// When the hold runs out, or would have.
    pub expires_at: Option<Timestamp>,
    /// Whether the task has a list of legs.
    pub listed: bool,
    /// Whether it is a transfer without follow-ups: its event has all there is to say.
    pub is_plain: bool,
    /// Empty until it is applied.
    pub legs: Vec<WholeLeg>,
}

/// A leg of a payment. Amounts are in minor units.
#[derive(Clone, Debug)]
pub struct WholeLeg {
    pub debit_account: AccountName,
    pub credit_account: AccountName,
    pub currency: Currency,
    pub amount: i64,
    pub captured: i64,
    pub refunded: i64,
    pub charged_back: i64,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct StoredEntry {
    pub account: AccountName,
    /// The account's version after it.
    pub seq: i64,
    /// The amount that was added, in minor units.
    pub amount: i64,
    /// The account's posted balance after it, in minor units.
    pub balance_after: i64,
}

impl StoredEntry {
    /// Reads the entries of a movement, the debit first. There are none if it was not posted.
    pub(super) fn both(id: Uuid, row: &Row) -> Result<Vec<Self>, Error> {
        let debit = Self::read(id, row, ["debit_account", "debit_seq", "debit_amount", "debit_balance"])?;
        let credit = Self::read(id, row, ["credit_account", "credit_seq", "credit_amount", "credit_balance"])?;
        Ok(debit.into_iter().chain(credit).collect())
    }

    fn read(id: Uuid, row: &Row, columns: [&'static str; 4]) -> Result<Option<Self>, Error> {
        let [account, seq, amount, balance_after] = columns;
        let Some(seq) = row.get(seq) else { return Ok(None) };
        let account = read(id, account, row.get(account), AccountName::parse)?;
        Ok(Some(Self { account, seq, amount: row.get(amount), balance_after: row.get(balance_after) }))
    }
}

impl WholePayment {
    /// Returns the payment as events show it.
    pub fn view(&self) -> PaymentView<'_> {
        PaymentView {
            id: self.id,
            task_type: self.task_type,
            state: self.state,
            version: self.version,
            expires_at: self.expires_at.filter(|_| self.state.is_held()),
            listed: self.listed,
            legs: self.legs.iter().map(|leg| leg.view(self.state)).collect(),
        }
    }
}

impl WholeLeg {
    fn view(&self, state: PaymentState) -> LegView<'_> {
        let Self { debit_account, credit_account, currency, amount, captured, refunded, charged_back } = self;
        LegView {
            debit_account: debit_account.as_str(),
            credit_account: credit_account.as_str(),
            currency: *currency,
            amount: *amount,
            held: if state.is_held() { amount - captured } else { 0 },
            captured: *captured,
            refunded: *refunded,
            charged_back: *charged_back,
        }
    }
}

const PAYMENTS: &str = "
    SELECT id, type::text, state::text, version, expires_at, legs IS NOT NULL AS listed, debit_account, credit_account, currency,
           amount, captured, refunded, charged_back
      FROM payment_named WHERE id = ANY({ids}::uuid[]) AND type IN ('transfer', 'authorize')";

const LEGS: &str = "
    SELECT l.payment_id, d.name AS debit_account, c.name AS credit_account, l.currency, l.amount, l.captured,
           l.refunded, l.charged_back,
           ed.seq AS debit_seq, ed.amount AS debit_amount, ed.balance_after AS debit_balance,
           ec.seq AS credit_seq, ec.amount AS credit_amount, ec.balance_after AS credit_balance
      FROM leg l JOIN account d ON d.id = l.debit_account JOIN account c ON c.id = l.credit_account
      LEFT JOIN entry ed ON ed.account = l.debit_account  AND ed.seq = l.debit_seq  AND ed.payment_id = l.payment_id
      LEFT JOIN entry ec ON ec.account = l.credit_account AND ec.seq = l.credit_seq AND ec.payment_id = l.payment_id
     WHERE l.payment_id = ANY({ids}::uuid[]) ORDER BY l.payment_id, l.leg";

/// The legs of payments and follow-ups, and their entries.
#[derive(Default)]
pub(super) struct Legs {
    pub(super) whole: HashMap<Uuid, Vec<WholeLeg>>,
    pub(super) entries: HashMap<Uuid, Vec<StoredEntry>>,
}

impl Legs {
    pub(super) async fn load(client: &impl GenericClient, ids: &[Uuid]) -> Result<Self, Error> {
        let mut legs = Self::default();
        if ids.is_empty() {
            return Ok(legs);
        }
        for row in named!(client.query(LEGS, ids = ids))? {
            let id: Uuid = row.get("payment_id");
            legs.entries.entry(id).or_default().extend(StoredEntry::both(id, &row)?);
            if row.get::<_, Option<i64>>("captured").is_some() {
                legs.whole.entry(id).or_default().push(leg(id, &row, 0)?);
            }
        }
        Ok(legs)
    }
}

pub(super) async fn load(
    client: &impl GenericClient,
    ids: &[Uuid],
    legs: &mut Legs,
) -> Result<HashMap<Uuid, WholePayment>, Error> {
    if ids.is_empty() {
        return Ok(HashMap::new());
    }
    let rows = named!(client.query(PAYMENTS, ids = ids))?;
    rows.iter().map(|row| payment(row, legs).map(|payment| (payment.id, payment))).collect()
}

fn payment(row: &Row, legs: &mut Legs) -> Result<WholePayment, Error> {
    let id: Uuid = row.get("id");
    let task_type = read(id, "type", row.get("type"), TaskType::from_name)?;
    let state = read(id, "state", row.get("state"), PaymentState::from_name)?;
    let listed = row.get("listed");
    let own = match (listed, state.is_pending() || state.is_failed()) {
        (_, true) => Vec::new(),
        (true, _) => legs.whole.remove(&id).unwrap_or_default(),
        (false, _) => {
            let posted = if task_type == TaskType::Transfer { row.get("amount") } else { 0 };
            vec![leg(id, row, posted)?]
        }
    };
    let is_plain = !listed && task_type == TaskType::Transfer && row.get::<_, Option<i64>>("captured").is_none();
    let (version, expires_at) = (row.get("version"), row.get("expires_at"));
    Ok(WholePayment { id, task_type, state, version, expires_at, listed, is_plain, legs: own })
}

/// Reads the movement of a row. `posted` is what was captured if the column is null.
fn leg(id: Uuid, row: &Row, posted: i64) -> Result<WholeLeg, Error> {
    Ok(WholeLeg {
        debit_account: read(id, "debit_account", row.get("debit_account"), AccountName::parse)?,
        credit_account: read(id, "credit_account", row.get("credit_account"), AccountName::parse)?,
        currency: read(id, "currency", row.get("currency"), Currency::parse)?,
        amount: row.get("amount"),
        captured: row.get::<_, Option<i64>>("captured").unwrap_or(posted),
        refunded: row.get::<_, Option<i64>>("refunded").unwrap_or(0),
        charged_back: row.get::<_, Option<i64>>("charged_back").unwrap_or(0),
    })
}
