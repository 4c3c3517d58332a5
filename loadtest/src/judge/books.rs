//! What the database says in the end, read without a word of the daemon's code.

use std::collections::{BTreeMap, HashMap};
use std::pin::pin;

use anyhow::{Context, Result};
use futures_util::TryStreamExt;
use settled_core::contract::PaymentState;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, Row};
use uuid::Uuid;

use crate::plan::{Mark, Stamp};

#[derive(Debug, Default)]
pub(crate) struct Books {
    /// What became of each number of the run's ids.
    pub(crate) payments: Vec<Option<Payment>>,
    /// How many payments have one of the run's ids.
    pub(crate) count: usize,
    pub(crate) dead_letters: Vec<DeadLetter>,
    /// The balance of every open account of the run.
    pub(crate) balances: HashMap<String, i64>,
    /// Tasks that wait for their time or for another task.
    pub(crate) waiting: u64,
    /// What is held, in minor units.
    pub(crate) held: i64,
    /// How often a task waited, by what for: it is `scheduled` or `parked`.
    pub(crate) waits: BTreeMap<String, u64>,
    /// The account and the task of each entry, in the order of the accounts and of their entries; only if the order of
    /// events is judged.
    pub(crate) entries: Vec<(i64, usize)>,
    /// Events that are still to be published, whoever's.
    pub(crate) outbox_events: i64,
    /// Payments that are applied more than once, or not as they say.
    pub(crate) doubled: u64,
    /// Whether times are those of the commits. If not, they are those at which the daemon made up
    /// its mind, a little earlier.
    pub(crate) exact_times: bool,
}

#[derive(Clone, Debug)]
pub(crate) struct Payment {
    pub(crate) state: PaymentState,
    /// Why it was declined; `None` if it was not.
    pub(crate) rejection: Option<String>,
    /// In minor units; 0 for an account that was opened.
    pub(crate) amount: i64,
    /// What was posted, what has gone back, and what was taken back from outside, in minor units.
    pub(crate) progress: [i64; 3],
    /// How often it waited before it was decided.
    pub(crate) waits: u8,
    /// When its transaction was committed, in microseconds since 1970.
    pub(crate) committed_at: i64,
}

#[derive(Debug)]
pub(crate) struct DeadLetter {
    /// Which of the run's ids the messages had.
    pub(crate) number: Option<usize>,
    pub(crate) reason: String,
    pub(crate) field: Option<String>,
    pub(crate) attempts: u64,
    /// When the first came, in microseconds since 1970.
    pub(crate) first_seen: i64,
}

/// The rows of a run: those whose ids have its mark. `$1` is an id before all of them, so that
/// an index leads to them; `$2` is the mark.
fn ours(id: &str) -> String {
    format!("{id} >= $1 AND substring(uuid_send({id}) FROM 9 FOR 4) = $2")
}

/// The transitions out of a state in which a task waits.
const WAITED: &str = "from_state IN ('scheduled', 'parked')";

#[derive(Clone, Copy, Debug)]
pub(crate) struct Run {
    mark: Mark,
    first: Uuid,
}

impl Run {
    /// The run with that mark, whose ids were all made after `since`, in microseconds since 1970.
    pub(crate) fn new(mark: Mark, since: i64) -> Self {
        // A millisecond earlier: below it the mark decides, not the time.
        Self { mark, first: mark.id(Stamp { number: 0, scheduled: since - 1000 }) }
    }

    pub(crate) async fn read(&self, client: &Client) -> Result<Books> {
        let mut books = Books { exact_times: has_commit_times(client).await?, ..Books::default() };
        self.payments(client, &mut books).await?;
        self.waits(client, &mut books).await?;
        (books.waiting, books.held) = self.left(client).await?;
        books.dead_letters = self.dead_letters(client).await?;
        books.balances = self.balances(client).await?;
        books.doubled = self.doubled(client).await?;
        books.outbox_events = outbox_events(client).await?;
        Ok(books)
    }

    /// Reads only what has an outcome by now.
    pub(crate) async fn read_outcomes(&self, client: &Client) -> Result<Books> {
        let mut books = Books::default();
        self.payments(client, &mut books).await?;
        books.dead_letters = self.dead_letters(client).await?;
        Ok(books)
    }

    /// How many messages have an outcome of their own by now: payments that do not wait, the opening
    /// of accounts too, and dead letters.
    pub(crate) async fn outcomes(&self, client: &Client) -> Result<u64> {
        let query = format!(
            "SELECT (SELECT count(*) FROM payment WHERE {} AND state NOT IN ('scheduled', 'parked'))
                  + (SELECT count(*) FROM dead_letter WHERE {})",
            ours("id"),
            own_dead_letters()
        );
        let row = client.query_one(&query, &[&self.first, &self.mark.bytes(), &self.mark.to_string()]).await?;
        Ok(row.get::<_, i64>(0).cast_unsigned())
    }

    /// How many events there are of tasks that waited.
    pub(crate) async fn waiting_events(&self, client: &Client) -> Result<u64> {
        let query = format!("SELECT count(*) FROM transition WHERE {} AND {WAITED}", ours("payment_id"));
        let row = client.query_one(&query, &[&self.first, &self.mark.bytes()]).await?;
        Ok(row.get::<_, i64>(0).cast_unsigned())
    }

    /// The time of the commit itself, not of the transaction's begin, is what
    /// `track_commit_timestamp` is for. Of a row that was changed since by what acts on it, it is that
    /// of the change: then the time of the decision stands for it.
    async fn payments(&self, client: &Client, books: &mut Books) -> Result<()> {
        let time = match books.exact_times {
            true => {
                "CASE WHEN version = 1 OR parent_id IS NOT NULL
                      THEN coalesce(pg_xact_commit_timestamp(p.xmin), settled_at) ELSE settled_at END"
            }
            false => "settled_at",
        };
        let query = format!(
            "SELECT p.id, state::text, reason, coalesce(p.amount, l.amount, 0),
                    coalesce(p.captured, l.captured,
                             CASE WHEN type = 'transfer' AND state = 'settled' THEN p.amount END, 0),
                    coalesce(p.refunded, l.refunded, 0), coalesce(p.charged_back, l.charged_back, 0),
                    (extract(epoch FROM {time}) * 1000000)::bigint
               FROM payment p LEFT JOIN (
                    SELECT payment_id, sum(amount)::bigint AS amount, sum(captured)::bigint AS captured,
                           sum(refunded)::bigint AS refunded, sum(charged_back)::bigint AS charged_back
                      FROM leg WHERE {} GROUP BY payment_id) l ON l.payment_id = p.id
              WHERE {}",
            ours("payment_id"),
            ours("p.id")
        );
        let mark = self.mark.bytes();
        let params: [&(dyn ToSql + Sync); 2] = [&self.first, &mark];
        let mut rows = pin!(client.query_raw(&query, params).await?);
        while let Some(row) = rows.try_next().await? {
            books.count += 1;
            let Some(Stamp { number, .. }) = self.mark.read(row.get(0)) else { continue };
            if books.payments.len() <= number {
                books.payments.resize(number + 1, None);
            }
            let state: &str = row.get(1);
            books.payments[number] = Some(Payment {
                state: PaymentState::from_name(state).with_context(|| format!("a payment has the state {state}"))?,
                rejection: row.get(2),
                amount: row.get(3),
                progress: [row.get(4), row.get(5), row.get(6)],
                waits: 0,
                committed_at: row.get(7),
            });
        }
        Ok(())
    }

    /// Every state in which a task waited is one that it has left since.
    async fn waits(&self, client: &Client, books: &mut Books) -> Result<()> {
        let query =
            format!("SELECT payment_id, from_state::text FROM transition WHERE {} AND {WAITED}", ours("payment_id"));
        for row in client.query(&query, &[&self.first, &self.mark.bytes()]).await? {
            *books.waits.entry(row.get(1)).or_default() += 1;
            let number = self.mark.read(row.get(0)).map(|stamp| stamp.number);
            if let Some(Some(payment)) = number.and_then(|number| books.payments.get_mut(number)) {
                payment.waits += 1;
            }
        }
        Ok(())
    }

    /// How many tasks wait, and how much is held.
    async fn left(&self, client: &Client) -> Result<(u64, i64)> {
        let query = format!(
            "SELECT (SELECT count(*) FROM agenda WHERE {}),
                    (SELECT coalesce(sum(amount), 0)::bigint FROM hold WHERE {})",
            ours("task_id"),
            ours("payment_id")
        );
        let row = client.query_one(&query, &[&self.first, &self.mark.bytes()]).await?;
        Ok((row.get::<_, i64>(0).cast_unsigned(), row.get(1)))
    }

    async fn dead_letters(&self, client: &Client) -> Result<Vec<DeadLetter>> {
        let query = format!(
            "SELECT task_id, properties->>'message_id', reason, field, attempts,
                    (extract(epoch FROM first_seen) * 1000000)::bigint
               FROM dead_letter WHERE {}",
            own_dead_letters()
        );
        let rows = client.query(&query, &[&self.first, &self.mark.bytes(), &self.mark.to_string()]).await?;
        let number = |row: &Row| {
            let message_id: Option<String> = row.get(1);
            let id = row.get::<_, Option<Uuid>>(0).or_else(|| message_id?.parse().ok());
            Some(self.mark.read(id?)?.number)
        };
        let letter = |row: Row| DeadLetter {
            number: number(&row),
            reason: row.get(2),
            field: row.get(3),
            attempts: row.get::<_, i32>(4).unsigned_abs().into(),
            first_seen: row.get(5),
        };
        Ok(rows.into_iter().map(letter).collect())
    }

    async fn balances(&self, client: &Client) -> Result<HashMap<String, i64>> {
        const QUERY: &str = "SELECT name, posted FROM account WHERE status = 'open' AND starts_with(name, $1)";
        let rows = client.query(QUERY, &[&format!("{}:", self.mark)]).await?;
        Ok(rows.into_iter().map(|row| (row.get(0), row.get(1))).collect())
    }

    /// The account of each entry, and the number of the id of the task that made it, in the order in which accounts have
    /// their entries.
    pub(crate) async fn entries(&self, client: &Client) -> Result<Vec<(i64, usize)>> {
        let query = format!("SELECT account, payment_id FROM entry WHERE {} ORDER BY account, seq", ours("payment_id"));
        let mark = self.mark.bytes();
        let params: [&(dyn ToSql + Sync); 2] = [&self.first, &mark];
        let mut rows = pin!(client.query_raw(&query, params).await?);
        let mut entries = Vec::new();
        while let Some(row) = rows.try_next().await? {
            entries.extend(self.mark.read(row.get(1)).map(|stamp| (row.get(0), stamp.number)));
        }
        Ok(entries)
    }

    /// Payments that moved money without having exactly their entries, two for each movement, and
    /// entries that belong to no payment that did.
    async fn doubled(&self, client: &Client) -> Result<u64> {
        let query = format!(
            "WITH ours AS (
                 SELECT id, debit_account, credit_account, amount, legs FROM payment
                  WHERE {}
                    AND (type = 'transfer' AND state IN ('settled', 'partially_refunded', 'refunded', 'charged_back')
                      OR type IN ('capture', 'refund', 'chargeback', 'chargeback_reversal') AND state = 'settled')
             ), moved AS (
                 SELECT id, debit_account, credit_account, amount FROM ours WHERE legs IS NULL
                 UNION ALL
                 SELECT id, leg.debit_account, leg.credit_account, leg.amount
                   FROM ours JOIN leg ON leg.payment_id = id WHERE legs IS NOT NULL
             ), posted AS (
                 SELECT id, debit_account AS account, -amount AS amount, 1 AS due FROM moved
                 UNION ALL
                 SELECT id, credit_account, amount, 1 FROM moved
                 UNION ALL
                 SELECT payment_id, account, amount, -1 FROM entry WHERE {}
             ), wrong AS (
                 SELECT id FROM posted GROUP BY id, account, amount HAVING sum(due) <> 0)
             SELECT count(DISTINCT id) FROM wrong",
            ours("id"),
            ours("payment_id")
        );
        let row = client.query_one(&query, &[&self.first, &self.mark.bytes()]).await?;
        Ok(row.get::<_, i64>(0).cast_unsigned())
    }
}

/// By the id where there is one, else by the publisher. `$3` is the mark as text.
fn own_dead_letters() -> String {
    format!("({}) OR properties->>'publisher' = $3", ours("task_id"))
}

/// Events that are committed and not yet confirmed by the broker, for the exchange and for the stream.
pub(crate) async fn outbox_events(client: &Client) -> Result<i64> {
    const QUERY: &str = "
        SELECT coalesce((SELECT sum(events) FROM outbox), 0)::bigint
             + coalesce((SELECT sum(events) FROM stream_outbox), 0)::bigint";
    Ok(client.query_one(QUERY, &[]).await?.get(0))
}

/// When the first payment was committed of those that were received after `received`, both in
/// microseconds since 1970; `None` if there is none yet.
pub(crate) async fn first_commit(client: &Client, received: i64) -> Result<Option<i64>> {
    const QUERY: &str = "
        SELECT (extract(epoch FROM min(pg_xact_commit_timestamp(xmin))) * 1000000)::bigint
          FROM payment WHERE received_at > timestamptz 'epoch' + $1::bigint * interval '1 microsecond'";
    Ok(client.query_one(QUERY, &[&received]).await?.get(0))
}

async fn has_commit_times(client: &Client) -> Result<bool> {
    let setting: String = client.query_one("SHOW track_commit_timestamp", &[]).await?.get(0);
    Ok(setting == "on")
}
