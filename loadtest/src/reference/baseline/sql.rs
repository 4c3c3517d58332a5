//! The statements of the baseline, on the daemon's tables.
//!
//! A payment takes eight of them: BEGIN, two locks in one, a look for the id, two balances, the
//! payment, its two entries in one, COMMIT.

use std::collections::HashMap;

use anyhow::Result;
use tokio_postgres::{Client, Statement};

/// As the daemon's sessions begin: plans are made once, and good for tables that grow.
pub(super) const SESSION: &str = "SET jit = off; SET plan_cache_mode = force_generic_plan; SET enable_seqscan = off";

pub(super) const ID: &str = "SELECT id FROM account WHERE name = $1";

pub(super) const INTERN: &str = "INSERT INTO account (name) VALUES ($1) ON CONFLICT (name) DO NOTHING";

pub(super) const LOCK: &str = "
    SELECT id, posted, held, version, min_balance, status::text, currency
      FROM account WHERE id = $1 OR id = $2 ORDER BY id FOR NO KEY UPDATE";

pub(super) const KNOWN: &str = "SELECT fingerprint FROM payment WHERE id = $1";

pub(super) const BALANCE: &str = "UPDATE account SET posted = $2, version = $3 WHERE id = $1";

pub(super) const OPEN: &str = "
    UPDATE account SET status = 'open', currency = $2, min_balance = $3, opened_at = clock_timestamp() WHERE id = $1";

pub(super) const PAYMENT: &str = "
    INSERT INTO payment (id, debit_account, credit_account, amount, min_balance, debit_seq, credit_seq, received_at,
                         settled_at, type, state, currency, fingerprint, reason, publisher, reference, metadata)
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8, clock_timestamp(), $9::text::task_type, $10::text::payment_state, $11, $12,
            $13, $14, $15, $16::text::jsonb)";

pub(super) const ENTRIES: &str = "
    INSERT INTO entry (account, seq, amount, balance_after, payment_id)
    VALUES ($1, $2, $3, $4, $9), ($5, $6, $7, $8, $9)";

pub(super) const DEAD_LETTER: &str = "
    INSERT INTO dead_letter (digest, task_id, reason, field, detail, body, properties, first_seen, last_seen)
    VALUES ($1, $2, $3, $4, $5, $6, $7::text::jsonb, $8, $8)
    ON CONFLICT (digest) DO UPDATE SET attempts = dead_letter.attempts + 1, last_seen = excluded.last_seen";

const ALL: [&str; 9] = [ID, INTERN, LOCK, KNOWN, BALANCE, OPEN, PAYMENT, ENTRIES, DEAD_LETTER];

/// All of them, prepared on one connection.
pub(super) struct Statements(HashMap<&'static str, Statement>);

impl Statements {
    pub(super) async fn prepare(client: &Client) -> Result<Self> {
        let mut prepared = HashMap::new();
        for sql in ALL {
            prepared.insert(sql, client.prepare(sql).await?);
        }
        Ok(Self(prepared))
    }

    pub(super) fn get(&self, sql: &str) -> &Statement {
        &self.0[sql]
    }
}
