//! What the database says in the end, read without a word of the daemon's code.

use std::collections::HashMap;

use anyhow::Result;
use tokio_postgres::Client;
use uuid::Uuid;

/// Everything a run is judged by.
#[derive(Debug, Default)]
pub(crate) struct Books {
    /// What became of each id.
    pub(crate) payments: HashMap<Uuid, Payment>,
    /// Messages that became no payment.
    pub(crate) dead_letters: Vec<DeadLetter>,
    /// The balance of every open account.
    pub(crate) balances: HashMap<String, i64>,
    /// Events that are still to be published.
    pub(crate) outbox_events: i64,
}

/// What became of a task.
#[derive(Debug, Default)]
pub(crate) struct Payment {
    /// Why it was declined; `None` if it settled.
    pub(crate) rejection: Option<String>,
    /// When its transaction was committed, in microseconds since 1970.
    pub(crate) committed_at: i64,
}

/// Equal messages that became no payment.
#[derive(Debug)]
pub(crate) struct DeadLetter {
    /// Its stable name.
    pub(crate) reason: String,
    /// The field at fault, if one is.
    pub(crate) field: Option<String>,
    /// How many messages.
    pub(crate) attempts: u64,
}

impl Books {
    /// Reads all of it.
    pub(crate) async fn read(client: &Client) -> Result<Self> {
        Ok(Self {
            payments: payments(client).await?,
            dead_letters: dead_letters(client).await?,
            balances: balances(client).await?,
            outbox_events: outbox_events(client).await?,
        })
    }
}

/// Events that are committed and not yet confirmed by the broker.
pub(crate) async fn outbox_events(client: &Client) -> Result<i64> {
    Ok(client.query_one("SELECT coalesce(sum(events), 0)::bigint FROM outbox", &[]).await?.get(0))
}

/// The time of the commit itself, not of the transaction's begin, is what
/// `track_commit_timestamp` is for.
async fn payments(client: &Client) -> Result<HashMap<Uuid, Payment>> {
    const QUERY: &str = "SELECT id, reason, state = 'rejected',
        (extract(epoch FROM pg_xact_commit_timestamp(xmin)) * 1000000)::bigint FROM payment";
    let rows = client.query(QUERY, &[]).await?;
    let payment = |row: tokio_postgres::Row| {
        let rejected: bool = row.get(2);
        let reason: Option<String> = row.get(1);
        let rejection = rejected.then(|| reason.unwrap_or_default());
        (row.get(0), Payment { rejection, committed_at: row.get(3) })
    };
    Ok(rows.into_iter().map(payment).collect())
}

async fn dead_letters(client: &Client) -> Result<Vec<DeadLetter>> {
    let rows = client.query("SELECT reason, field, attempts FROM dead_letter", &[]).await?;
    let letter = |row: tokio_postgres::Row| {
        let attempts: i32 = row.get(2);
        DeadLetter { reason: row.get(0), field: row.get(1), attempts: attempts.unsigned_abs().into() }
    };
    Ok(rows.into_iter().map(letter).collect())
}

async fn balances(client: &Client) -> Result<HashMap<String, i64>> {
    let rows = client.query("SELECT name, posted FROM account WHERE status = 'open'", &[]).await?;
    Ok(rows.into_iter().map(|row| (row.get(0), row.get(1))).collect())
}
