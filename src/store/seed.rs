//! A ledger with a history, written at once: for benchmarks and load tests.
//!
//! Beside the batch path, this alone writes the ledger. What it writes is what the daemon would
//! have written, so that an audit passes; how fast anything else is on top of it can be measured.

use tokio_postgres::Client;

use super::queries::Error;

/// The accounts `account:0` …: open, in USD, without a limit.
const ACCOUNTS: &str = "
    WITH opened AS (
        INSERT INTO account (opened_at, status, currency, name)
        SELECT now(), 'open', 'USD', 'account:' || n FROM generate_series(0, $1::bigint - 1) AS n
        RETURNING id
    )
    INSERT INTO payment (id, debit_account, received_at, settled_at, type, state, currency, fingerprint)
    SELECT ('01910000-0000-7000-8000-' || lpad(to_hex(id), 12, '0'))::uuid, id, now(), now(), 'open_account', 'settled',
           'USD', decode(lpad(to_hex(id), 32, '0'), 'hex')
      FROM opened";

/// All open accounts in a ring: each pays the next one, the last one the first. That one pays
/// before it is paid, the others after, so it is the one that may be overdrawn most.
const RING: &str = "
    CREATE TEMP TABLE ring ON COMMIT DROP AS
    SELECT id, version, posted, currency, place, count(*) OVER () AS size,
           coalesce(lead(id) OVER way, first_value(id) OVER way) AS next_id,
           coalesce(lead(version) OVER way, first_value(version) OVER way) AS next_version
      FROM (SELECT *, row_number() OVER (ORDER BY min_balance NULLS FIRST, id) AS place
              FROM account WHERE status = 'open' AND currency = 'USD') AS opened
    WINDOW way AS (ORDER BY place)";

/// $1: how many times everyone pays. In the order in which they would have been made: that of the
/// ids.
const PAYMENTS: &str = "
    INSERT INTO payment (id, debit_account, credit_account, amount, debit_seq, credit_seq, received_at, settled_at,
                         type, state, currency, fingerprint, publisher, reference)
    SELECT ('01920000-0000-7000-8000-' || lpad(to_hex(nth), 12, '0'))::uuid, id, next_id, 100,
           version + 2 * round + CASE place WHEN 1 THEN 1 ELSE 2 END,
           next_version + 2 * round + CASE place WHEN size THEN 2 ELSE 1 END,
           now(), now(), 'transfer', 'settled', currency, decode(lpad(to_hex(nth), 32, '0'), 'hex'), 'shop', 'order-123'
      FROM (SELECT round * size + place AS nth, round, ring.*
              FROM generate_series(0, $1::bigint - 1) AS round, ring) AS p
     ORDER BY nth";

/// Two for each account and round: the payment that it made, and the one to it.
const ENTRIES: &str = "
    INSERT INTO entry (account, seq, amount, balance_after, payment_id)
    SELECT id, version + 2 * round + step, amount, CASE step WHEN 1 THEN posted + amount ELSE posted END,
           ('01920000-0000-7000-8000-' || lpad(to_hex(round * size + payer), 12, '0'))::uuid
      FROM generate_series(0, $1::bigint - 1) AS round, ring,
           LATERAL (VALUES (CASE place WHEN 1 THEN 1 ELSE 2 END, -100, place),
                           (CASE place WHEN 1 THEN 2 ELSE 1 END, 100, CASE place WHEN 1 THEN size ELSE place - 1 END))
             AS side (step, amount, payer)
     ORDER BY round, place, step";

const VERSIONS: &str = "
    UPDATE account SET version = account.version + 2 * $1::bigint FROM ring WHERE ring.id = account.id";

/// Opens `count` accounts, `account:0` … in USD, without a limit. Once for a database.
///
/// # Errors
///
/// PostgreSQL's.
pub async fn accounts(client: &Client, count: usize) -> Result<(), Error> {
    client.batch_execute("SET statement_timeout = 0").await?;
    client.execute(ACCOUNTS, &[&number(count)]).await?;
    Ok(())
}

/// Adds at least `count` payments between all open accounts in USD: as many of each, and such that
/// no balance is another in the end. Once for a database, and while nobody else works on it. There
/// have to be two such accounts, one of which can be overdrawn by 100.
///
/// # Errors
///
/// PostgreSQL's; then nothing is added.
pub async fn payments(client: &mut Client, count: usize) -> Result<(), Error> {
    let transaction = client.transaction().await?;
    // Whole ledgers are written at once.
    transaction.batch_execute("SET LOCAL statement_timeout = 0").await?;
    transaction.batch_execute(RING).await?;
    let size: i64 = transaction.query_one("SELECT count(*) FROM ring", &[]).await?.get(0);
    let rounds = number(count.div_ceil(size.max(1).unsigned_abs() as usize));
    for statement in [PAYMENTS, ENTRIES, VERSIONS] {
        transaction.execute(statement, &[&rounds]).await?;
    }
    Ok(transaction.commit().await?)
}

/// Vacuums the database and writes it to disk, so that neither is done while somebody measures.
///
/// # Errors
///
/// PostgreSQL's.
pub async fn settle(client: &Client) -> Result<(), Error> {
    client.batch_execute("SET statement_timeout = 0").await?;
    client.batch_execute("VACUUM ANALYZE").await?;
    Ok(client.batch_execute("CHECKPOINT").await?)
}

fn number(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}
