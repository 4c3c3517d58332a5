//! Writes a ledger with a history, for benchmarks and load tests.
//!
//! Besides the batch path, only this code writes to a ledger. It writes what the daemon would have written, so an
//! audit passes, and the speed of everything else can be measured on it.

use settled_store::queries::Error;
use tokio_postgres::Client;

/// Creates the accounts `account:0` …: open, in USD, without a limit.
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

/// Arranges all open accounts in a ring, in which each account pays the next. The last account pays the first. The
/// first account pays before it is paid, so it is the account with the lowest limit.
const RING: &str = "
    CREATE TEMP TABLE ring ON COMMIT DROP AS
    SELECT id, version, posted, currency, place, count(*) OVER () AS size,
           coalesce(lead(id) OVER way, first_value(id) OVER way) AS next_id,
           coalesce(lead(version) OVER way, first_value(version) OVER way) AS next_version
      FROM (SELECT *, row_number() OVER (ORDER BY min_balance NULLS FIRST, id) AS place
              FROM account WHERE status = 'open' AND currency = 'USD') AS opened
    WINDOW way AS (ORDER BY place)";

/// $1: number of rounds in which each account pays once. Payments are inserted in the order of their ids, as the
/// daemon would have.
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

/// Two entries for each account and round: for the payment it made and for the one it received.
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

/// Opens `count` accounts, `account:0` … in USD, without a limit. Can be called once per database.
pub async fn accounts(client: &Client, count: usize) -> Result<(), Error> {
    client.batch_execute("SET statement_timeout = 0").await?;
    client.execute(ACCOUNTS, &[&number(count)]).await?;
    Ok(())
}

/// Adds at least `count` payments between all open accounts in USD, the same number for each account, after which all
/// balances are unchanged. Can be called once per database, while nothing else uses it. There must be at least two
/// such accounts, and one of them must be able to be overdrawn by 100. If PostgreSQL fails, nothing is added.
pub async fn payments(client: &mut Client, count: usize) -> Result<(), Error> {
    let transaction = client.transaction().await?;
    // Writing a large ledger takes longer than the usual timeout.
    transaction.batch_execute("SET LOCAL statement_timeout = 0").await?;
    transaction.batch_execute(RING).await?;
    let size: i64 = transaction.query_one("SELECT count(*) FROM ring", &[]).await?.get(0);
    let rounds = number(count.div_ceil(size.max(1).unsigned_abs() as usize));
    for statement in [PAYMENTS, ENTRIES, VERSIONS] {
        transaction.execute(statement, &[&rounds]).await?;
    }
    Ok(transaction.commit().await?)
}

/// Vacuums the database and flushes it to disk, so that neither happens during a measurement.
pub async fn settle(client: &Client) -> Result<(), Error> {
    client.batch_execute("SET statement_timeout = 0").await?;
    client.batch_execute("VACUUM ANALYZE").await?;
    Ok(client.batch_execute("CHECKPOINT").await?)
}

fn number(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}
