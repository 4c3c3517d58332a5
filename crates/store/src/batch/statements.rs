//! The statements that write what most batches have: plain tasks, entries, balances, dead letters.
//!
//! Each statement's list is the one place that says which value goes into which column.

use std::time::Duration;

use jiff::Timestamp;

use super::events::Lines;
use super::rows::{BalanceRow, DeadLetterRow, EntryRow, OpenedRow, TaskRow};
use crate::sql::{query, statement};

statement! {
    /// Another instance that committed the same id first shows as a violation of the key.
    pub(super) InsertPayments(row: TaskRow<'_>, now: Timestamp) {
        id: uuid = row.id,
        debit_account: bigint = row.movement.debit,
        credit_account: bigint = row.movement.credit,
        amount: bigint = row.movement.amount,
        min_balance: bigint = row.min_balance,
        debit_seq: bigint = row.movement.debit_seq,
        credit_seq: bigint = row.movement.credit_seq,
        received_at: timestamptz = row.received_at,
        type: text as task_type = row.task_type,
        state: text as payment_state = row.state,
        currency: text = row.movement.code(),
        fingerprint: bytea = row.fingerprint.as_slice(),
        reason: text = row.reason,
        publisher: text = row.publisher,
        reference: text = row.reference,
        metadata: text as jsonb = row.metadata,
    }
    "INSERT INTO payment ({columns}, settled_at) SELECT {values}, {now}::timestamptz FROM {rows}"
}

statement! {
    pub(super) InsertEntries(row: EntryRow) {
        account: bigint = row.account,
        seq: bigint = row.seq,
        amount: bigint = row.amount,
        balance_after: bigint = row.balance_after,
        payment_id: uuid = row.payment,
    }
    "INSERT INTO entry ({columns}) SELECT {values} FROM {rows}"
}

statement! {
    pub(super) OpenAccounts(row: OpenedRow, now: Timestamp) {
        id: bigint = row.account,
        currency: text = row.currency.as_str(),
        min_balance: bigint = row.min_balance,
    }
    "WITH written AS (
        UPDATE account a
           SET status = 'open', currency = given.currency, min_balance = given.min_balance,
               opened_at = {now}::timestamptz
          FROM {rows}
         WHERE a.id = given.id AND a.status = 'unopened' RETURNING 1)
    SELECT expect_rows('accounts opened', (SELECT count(*) FROM written), {count})"
}

statement! {
    pub(super) UpdateBalances(row: BalanceRow) {
        id: bigint = row.account,
        posted: bigint = row.posted,
        version: bigint = row.version,
        version_before: bigint = row.version_before,
    }
    "WITH written AS (
        UPDATE account a SET posted = given.posted, version = given.version
          FROM {rows}
         WHERE a.id = given.id AND a.version = given.version_before RETURNING 1)
    SELECT expect_rows('balances', (SELECT count(*) FROM written), {count})"
}

statement! {
    /// A redelivery is another attempt on the same row, and opens it again.
    pub(super) InsertDeadLetters(row: DeadLetterRow<'_>) {
        digest: bytea = row.digest.as_slice(),
        task_id: uuid = row.task_id,
        reason: text = row.reason.name(),
        field: text = row.field.as_deref(),
        detail: text = row.detail.as_str(),
        body: bytea = row.body,
        properties: text as jsonb = row.properties.as_str(),
        attempts: int = i32::try_from(row.messages.len()).unwrap_or(i32::MAX),
        first_seen: timestamptz = row.seen,
    }
    "INSERT INTO dead_letter ({columns}, last_seen) SELECT {values}, given.first_seen FROM {rows}
     ORDER BY given.digest
    ON CONFLICT (digest) DO UPDATE
       SET attempts = dead_letter.attempts + excluded.attempts, last_seen = excluded.last_seen,
           resolution = NULL, resolved_at = NULL"
}

query! {
    pub(super) InsertOutbox(written: &Lines, lease: Duration) {
        lease = lease.as_secs_f64(),
        events = written.count,
        body = written.body.as_slice(),
    }
    "INSERT INTO outbox (leased_until, events, body)
     VALUES (clock_timestamp() + make_interval(secs => {lease}), {events}, {body}) RETURNING id"
}

query! {
    pub(super) InsertStream(written: &Lines) {
        events = written.count,
        body = written.body.as_slice(),
    }
    "INSERT INTO stream_outbox (events, body) VALUES ({events}, {body}) RETURNING id"
}
