//! What the ledger holds, in numbers: information, not violations.

use serde::Serialize;
use tokio_postgres::{GenericClient, Row};

use crate::store::queries::Error;

/// Counts and sums over the whole database.
#[derive(Clone, Debug, Serialize)]
pub struct Totals {
    /// Accounts that were opened.
    pub accounts: i64,
    /// Names that a task mentioned and that nobody opened.
    pub unopened_accounts: i64,
    /// Entries.
    pub entries: i64,
    /// Legs of payments that have a list of them, and of their follow-ups.
    pub legs: i64,
    /// Changes of state after the first.
    pub transitions: i64,
    /// Live holds, one for each leg.
    pub holds: i64,
    /// Payments by type, state and reason.
    pub payments: Vec<PaymentCount>,
    /// The balances by currency.
    pub currencies: Vec<CurrencyTotals>,
    /// What is still to be published.
    pub outbox: OutboxTotals,
    /// Open dead letters by reason.
    pub dead_letters: Vec<DeadLetterCount>,
}

/// How many payments had one kind of outcome.
#[derive(Clone, Debug, Serialize)]
pub struct PaymentCount {
    /// The tasks' type.
    #[serde(rename = "type")]
    pub task_type: String,
    /// Where they stand.
    pub state: String,
    /// Why, if rejected.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// How many.
    pub count: i64,
}

/// The balances of one currency, in minor units.
#[derive(Clone, Debug, Serialize)]
pub struct CurrencyTotals {
    /// Which.
    pub currency: String,
    /// How many accounts are kept in it.
    pub accounts: i64,
    /// The sum of the balances above zero.
    pub credit: i128,
    /// The sum of the balances below zero.
    pub debit: i128,
    /// What is held.
    pub held: i128,
    /// How far accounts are below their limits because of chargebacks.
    pub shortfall: i128,
}

/// What is still to be published.
#[derive(Clone, Debug, Serialize)]
pub struct OutboxTotals {
    /// Rows.
    pub rows: i64,
    /// The events in them.
    pub events: i64,
    /// The events that are held: no queue takes them, or the broker refuses them.
    pub held_events: i64,
}

/// How many messages wait for a person.
#[derive(Clone, Debug, Serialize)]
pub struct DeadLetterCount {
    /// Why.
    pub reason: String,
    /// How many.
    pub count: i64,
}

const ACCOUNTS: &str = "
    SELECT count(*) FILTER (WHERE status <> 'unopened'), count(*) FILTER (WHERE status = 'unopened'),
           (SELECT count(*) FROM entry), (SELECT count(*) FROM leg), (SELECT count(*) FROM transition),
           (SELECT count(*) FROM hold)
      FROM account";
const PAYMENTS: &str = "SELECT type::text, state::text, reason, count(*) FROM payment
                         GROUP BY type, state, reason ORDER BY type, state, count(*) DESC, reason";
// A sum of many balances may not fit into 64 bits.
const CURRENCIES: &str = "
    SELECT currency, count(*), coalesce(sum(posted) FILTER (WHERE posted > 0), 0)::text,
           coalesce(sum(posted) FILTER (WHERE posted < 0), 0)::text, sum(held)::text, sum(shortfall)::text
      FROM account WHERE currency IS NOT NULL GROUP BY currency ORDER BY currency";
const OUTBOX: &str = "SELECT count(*), coalesce(sum(events), 0),
                             coalesce(sum(events) FILTER (WHERE held_key IS NOT NULL), 0) FROM outbox";
const DEAD_LETTERS: &str = "SELECT reason, count(*) FROM dead_letter WHERE resolution IS NULL GROUP BY reason
                             ORDER BY reason";

impl Totals {
    pub(super) async fn read(client: &impl GenericClient) -> Result<Self, Error> {
        let accounts = client.query_one(ACCOUNTS, &[]).await?;
        let payments = client.query(PAYMENTS, &[]).await?;
        let currencies = client.query(CURRENCIES, &[]).await?;
        let outbox = client.query_one(OUTBOX, &[]).await?;
        let dead_letters = client.query(DEAD_LETTERS, &[]).await?;
        Ok(Self {
            accounts: accounts.get(0),
            unopened_accounts: accounts.get(1),
            entries: accounts.get(2),
            legs: accounts.get(3),
            transitions: accounts.get(4),
            holds: accounts.get(5),
            payments: payments.iter().map(payment_count).collect(),
            currencies: currencies.iter().map(currency_totals).collect(),
            outbox: OutboxTotals { rows: outbox.get(0), events: outbox.get(1), held_events: outbox.get(2) },
            dead_letters: dead_letters
                .iter()
                .map(|row| DeadLetterCount { reason: row.get(0), count: row.get(1) })
                .collect(),
        })
    }
}

fn payment_count(row: &Row) -> PaymentCount {
    PaymentCount { task_type: row.get(0), state: row.get(1), reason: row.get(2), count: row.get(3) }
}

fn currency_totals(row: &Row) -> CurrencyTotals {
    let sum = |column| row.get::<_, &str>(column).parse().unwrap_or_default();
    CurrencyTotals {
        currency: row.get(0),
        accounts: row.get(1),
        credit: sum(2),
        debit: sum(3),
        held: sum(4),
        shortfall: sum(5),
    }
}
