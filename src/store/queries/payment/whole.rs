//! Payments with all that has become of them.

use std::collections::HashMap;

use jiff::Timestamp;
use tokio_postgres::{GenericClient, Row};
use uuid::Uuid;

use super::{Error, StoredEntry, read};
use crate::contract::{AccountName, Currency, LegView, PaymentState, PaymentView, TaskType};

/// A payment that can be acted on, as it stands.
#[derive(Clone, Debug)]
pub struct WholePayment {
    /// The id of the task that it was.
    pub id: Uuid,
    /// The type of that task.
    pub task_type: TaskType,
    /// Where it stands.
    pub state: PaymentState,
    /// How many states it has had.
    pub version: i32,
    /// When what is held is, or was to be, released.
    pub expires_at: Option<Timestamp>,
    /// Whether its movements were written as a list.
    pub listed: bool,
    /// Whether it is a transfer on which nothing has acted: its event tells all of it already.
    pub is_plain: bool,
    /// Its movements; none before it is applied.
    pub legs: Vec<WholeLeg>,
}

/// One movement of a payment; amounts are in minor units.
#[derive(Clone, Debug)]
pub struct WholeLeg {
    /// Pays.
    pub debit_account: AccountName,
    /// Is paid.
    pub credit_account: AccountName,
    /// Of all amounts.
    pub currency: Currency,
    /// What was asked for.
    pub amount: i64,
    /// What was posted.
    pub captured: i64,
    /// What has gone back.
    pub refunded: i64,
    /// What was taken back from outside.
    pub charged_back: i64,
}

impl WholePayment {
    /// As events show it.
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
    SELECT id, type::text, state::text, version, expires_at, legs IS NOT NULL, debit_account, credit_account, currency,
           amount, captured, refunded, charged_back
      FROM payment_named WHERE id = ANY($1::uuid[]) AND type IN ('transfer', 'authorize')";

const LEGS: &str = "
    SELECT l.payment_id, d.name, c.name, l.currency, l.amount, l.captured, l.refunded, l.charged_back,
           ed.seq, ed.amount, ed.balance_after, ec.seq, ec.amount, ec.balance_after
      FROM leg l JOIN account d ON d.id = l.debit_account JOIN account c ON c.id = l.credit_account
      LEFT JOIN entry ed ON ed.account = l.debit_account  AND ed.seq = l.debit_seq  AND ed.payment_id = l.payment_id
      LEFT JOIN entry ec ON ec.account = l.credit_account AND ec.seq = l.credit_seq AND ec.payment_id = l.payment_id
     WHERE l.payment_id = ANY($1::uuid[]) ORDER BY l.payment_id, l.leg";

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
        for row in client.query(LEGS, &[&ids]).await? {
            let id: Uuid = row.get(0);
            for (account, first) in [(1, 8), (2, 11)] {
                legs.entries.entry(id).or_default().extend(StoredEntry::read(id, &row, account, first)?);
            }
            if row.get::<_, Option<i64>>(5).is_some() {
                legs.whole.entry(id).or_default().push(leg(id, &row, 1, 0)?);
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
    let rows = client.query(PAYMENTS, &[&ids]).await?;
    rows.iter().map(|row| payment(row, legs).map(|payment| (payment.id, payment))).collect()
}

fn payment(row: &Row, legs: &mut Legs) -> Result<WholePayment, Error> {
    let id: Uuid = row.get(0);
    let task_type = read(id, "type", row.get(1), TaskType::from_name)?;
    let state = read(id, "state", row.get(2), PaymentState::from_name)?;
    let listed = row.get(5);
    let own = match (listed, state.is_pending() || state.is_failed()) {
        (_, true) => Vec::new(),
        (true, _) => legs.whole.remove(&id).unwrap_or_default(),
        (false, _) => {
            let posted = if task_type == TaskType::Transfer { row.get(9) } else { 0 };
            vec![leg(id, row, 6, posted)?]
        }
    };
    let is_plain = !listed && task_type == TaskType::Transfer && row.get::<_, Option<i64>>(10).is_none();
    let (version, expires_at) = (row.get(3), row.get(4));
    Ok(WholePayment { id, task_type, state, version, expires_at, listed, is_plain, legs: own })
}

/// The columns from `first` on; `posted` is what was captured of a payment that doesn't say it.
fn leg(id: Uuid, row: &Row, first: usize, posted: i64) -> Result<WholeLeg, Error> {
    Ok(WholeLeg {
        debit_account: read(id, "debit_account", row.get(first), AccountName::parse)?,
        credit_account: read(id, "credit_account", row.get(first + 1), AccountName::parse)?,
        currency: read(id, "currency", row.get(first + 2), Currency::parse)?,
        amount: row.get(first + 3),
        captured: row.get::<_, Option<i64>>(first + 4).unwrap_or(posted),
        refunded: row.get::<_, Option<i64>>(first + 5).unwrap_or(0),
        charged_back: row.get::<_, Option<i64>>(first + 6).unwrap_or(0),
    })
}
