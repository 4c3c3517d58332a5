//! Counts and sums over the ledger, for information.

use serde::Serialize;
use tokio_postgres::{GenericClient, Row};

use crate::queries::Error;
use crate::sql::row;

/// Counts and sums over the whole database.
#[derive(Clone, Debug, Serialize)]
pub struct Totals {
    /// Accounts that were opened.
    pub accounts: i64,
    /// Names that tasks have mentioned and that were never opened.
    pub unopened_accounts: i64,
    pub entries: i64,
    /// Legs of payments with a list of legs, and of their follow-ups.
    pub legs: i64,
    /// Changes of state after the first.
    pub transitions: i64,
    /// Live holds, one for each leg.
    pub holds: i64,
    /// Payments by type, state and reason.
    pub payments: Vec<PaymentCount>,
    pub currencies: Vec<CurrencyTotals>,
    pub outbox: OutboxTotals,
    /// Open dead letters by reason.
    pub dead_letters: Vec<DeadLetterCount>,
}

row! {
    #[derive(Clone, Debug, Serialize)]
    pub struct PaymentCount {
        #[serde(rename = "type")]
        pub task_type: String = "type",
        pub state: String,
        #[serde(skip_serializing_if = "Option::is_none")]
        pub reason: Option<String>,
        pub count: i64,
    }
}

/// The balances of one currency, in minor units.
#[derive(Clone, Debug, Serialize)]
pub struct CurrencyTotals {
    pub currency: String,
    /// Number of accounts.
    pub accounts: i64,
    /// The sum of the positive balances.
    pub credit: i128,
    /// The sum of the negative balances.
    pub debit: i128,
    pub held: i128,
    /// The sum of the shortfalls.
    pub shortfall: i128,
}

row! {
    #[derive(Clone, Debug, Serialize)]
    pub struct OutboxTotals {
        pub rows: i64,
        pub events: i64,
        /// Events without a queue, and events that the broker has refused.
        pub held_events: i64 = "held",
    }
}

row! {
    #[derive(Clone, Debug, Serialize)]
    pub struct DeadLetterCount {
        pub reason: String,
        pub count: i64,
    }
}

const ACCOUNTS: &str = "
    SELECT count(*) FILTER (WHERE status <> 'unopened') AS opened,
           count(*) FILTER (WHERE status = 'unopened') AS unopened, (SELECT count(*) FROM entry) AS entries,
           (SELECT count(*) FROM leg) AS legs, (SELECT count(*) FROM transition) AS transitions,
           (SELECT count(*) FROM hold) AS holds
      FROM account";
const PAYMENTS: &str = "SELECT type::text, state::text, reason, count(*) AS count FROM payment
                         GROUP BY type, state, reason ORDER BY type, state, count(*) DESC, reason";
// A sum of many balances may not fit into 64 bits.
const CURRENCIES: &str = "
    SELECT currency, count(*) AS accounts, coalesce(sum(posted) FILTER (WHERE posted > 0), 0)::text AS credit,
           coalesce(sum(posted) FILTER (WHERE posted < 0), 0)::text AS debit, sum(held)::text AS held,
           sum(shortfall)::text AS shortfall
      FROM account WHERE currency IS NOT NULL GROUP BY currency ORDER BY currency";
const OUTBOX: &str = "SELECT count(*) AS rows, coalesce(sum(events), 0) AS events,
                             coalesce(sum(events) FILTER (WHERE held_key IS NOT NULL), 0) AS held FROM outbox";
// An older schema has no stream.
const HAS_STREAM: &str = "SELECT to_regclass('stream_outbox') IS NOT NULL AS has_stream";
const OUTBOX_AND_STREAM: &str = "
    SELECT count(*) AS rows, coalesce(sum(events), 0) AS events,
           coalesce(sum(events) FILTER (WHERE held_key IS NOT NULL), 0) AS held
      FROM (SELECT events, held_key FROM outbox UNION ALL SELECT events, NULL FROM stream_outbox) AS waiting";
const DEAD_LETTERS: &str = "SELECT reason, count(*) AS count FROM dead_letter WHERE resolution IS NULL GROUP BY reason
                             ORDER BY reason";

impl Totals {
    pub(super) async fn read(client: &impl GenericClient) -> Result<Self, Error> {
        let accounts = client.query_one(ACCOUNTS, &[]).await?;
        let payments = client.query(PAYMENTS, &[]).await?;
        let currencies = client.query(CURRENCIES, &[]).await?;
        let has_stream: bool = client.query_one(HAS_STREAM, &[]).await?.get("has_stream");
        let outbox = client.query_one(if has_stream { OUTBOX_AND_STREAM } else { OUTBOX }, &[]).await?;
        let dead_letters = client.query(DEAD_LETTERS, &[]).await?;
        Ok(Self {
            accounts: accounts.get("opened"),
            unopened_accounts: accounts.get("unopened"),
            entries: accounts.get("entries"),
            legs: accounts.get("legs"),
            transitions: accounts.get("transitions"),
            holds: accounts.get("holds"),
            payments: payments.iter().map(PaymentCount::from).collect(),
            currencies: currencies.iter().map(currency_totals).collect(),
            outbox: OutboxTotals::from(&outbox),
            dead_letters: dead_letters.iter().map(DeadLetterCount::from).collect(),
        })
    }
}

fn currency_totals(row: &Row) -> CurrencyTotals {
    let sum = |column: &str| row.get::<_, &str>(column).parse().unwrap_or_default();
    CurrencyTotals {
        currency: row.get("currency"),
        accounts: row.get("accounts"),
        credit: sum("credit"),
        debit: sum("debit"),
        held: sum("held"),
        shortfall: sum("shortfall"),
    }
}
