//! The SQL, each statement set-based.

/// Before the payments: their triggers look at it.
pub(super) const TRANSITIONS: &str = "
    INSERT INTO transition (payment_id, version, from_state, to_state, at, cause)
    SELECT id, version, from_state::payment_state, to_state::payment_state, $6::timestamptz, cause
      FROM unnest($1::uuid[], $2::int[], $3::text[], $4::text[], $5::uuid[])
        AS t(id, version, from_state, to_state, cause)";

pub(super) const TASKS: &str = "
    INSERT INTO payment (id, version, type, state, reason, parent_id, debit_account, credit_account, amount, currency,
                         debit_seq, credit_seq, captured, refunded, charged_back, legs, min_balance, expires_at,
                         received_at, settled_at, fingerprint, publisher, reference, metadata, request)
    SELECT id, version, type::task_type, state::payment_state, reason, parent, debit, credit, amount, currency,
           debit_seq, credit_seq, captured, refunded, charged_back, legs, min_balance, expires_at,
           received_at, $25::timestamptz, fingerprint, publisher, reference, metadata::jsonb, request
      FROM unnest($1::uuid[], $2::int[], $3::text[], $4::text[], $5::text[], $6::uuid[], $7::bigint[], $8::bigint[],
                  $9::bigint[], $10::text[], $11::bigint[], $12::bigint[], $13::bigint[], $14::bigint[], $15::bigint[],
                  $16::smallint[], $17::bigint[], $18::timestamptz[], $19::timestamptz[], $20::bytea[], $21::text[],
                  $22::text[], $23::text[], $24::text[])
        AS p(id, version, type, state, reason, parent, debit, credit, amount, currency, debit_seq, credit_seq,
             captured, refunded, charged_back, legs, min_balance, expires_at, received_at, fingerprint, publisher,
             reference, metadata, request)";

pub(super) const UPDATES: &str = "
    WITH written AS (
        UPDATE payment p
           SET version = u.version, state = u.state::payment_state, reason = coalesce(u.reason, p.reason),
               debit_account = coalesce(u.debit, p.debit_account), credit_account = coalesce(u.credit, p.credit_account),
               amount = coalesce(u.amount, p.amount), currency = coalesce(u.currency, p.currency),
               debit_seq = coalesce(u.debit_seq, p.debit_seq), credit_seq = coalesce(u.credit_seq, p.credit_seq),
               captured = coalesce(u.captured, p.captured), refunded = coalesce(u.refunded, p.refunded),
               charged_back = coalesce(u.charged_back, p.charged_back), legs = coalesce(u.legs, p.legs),
               expires_at = coalesce(u.expires_at, p.expires_at), settled_at = coalesce(u.decided_at, p.settled_at)
          FROM unnest($1::uuid[], $2::int[], $3::int[], $4::text[], $5::text[], $6::bigint[], $7::bigint[],
                      $8::bigint[], $9::text[], $10::bigint[], $11::bigint[], $12::bigint[], $13::bigint[],
                      $14::bigint[], $15::smallint[], $16::timestamptz[], $17::timestamptz[])
            AS u(id, version, was, state, reason, debit, credit, amount, currency, debit_seq, credit_seq, captured,
                 refunded, charged_back, legs, expires_at, decided_at)
         WHERE p.id = u.id AND p.version = u.was RETURNING 1)
    SELECT expect_rows('payments', (SELECT count(*) FROM written), cardinality($1::uuid[]))";

pub(super) const LEGS: &str = "
    INSERT INTO leg (payment_id, leg, debit_account, credit_account, amount, currency, debit_seq, credit_seq, captured,
                     refunded, charged_back)
    SELECT * FROM unnest($1::uuid[], $2::smallint[], $3::bigint[], $4::bigint[], $5::bigint[], $6::text[],
                         $7::bigint[], $8::bigint[], $9::bigint[], $10::bigint[], $11::bigint[])";

pub(super) const LEG_UPDATES: &str = "
    WITH written AS (
        UPDATE leg l SET captured = u.captured, refunded = u.refunded, charged_back = u.charged_back
          FROM unnest($1::uuid[], $2::smallint[], $3::bigint[], $4::bigint[], $5::bigint[])
            AS u(payment, leg, captured, refunded, charged_back)
         WHERE l.payment_id = u.payment AND l.leg = u.leg RETURNING 1)
    SELECT expect_rows('legs', (SELECT count(*) FROM written), cardinality($1::uuid[]))";

pub(super) const HOLDS_ENDED: &str = "
    WITH written AS (
        DELETE FROM hold h USING unnest($1::uuid[], $2::smallint[]) AS d(payment, leg)
         WHERE h.payment_id = d.payment AND h.leg = d.leg RETURNING 1)
    SELECT expect_rows('holds ended', (SELECT count(*) FROM written), cardinality($1::uuid[]))";

pub(super) const HOLDS_CHANGED: &str = "
    WITH written AS (
        UPDATE hold h SET amount = u.amount FROM unnest($1::uuid[], $2::smallint[], $3::bigint[]) AS u(payment, leg, amount)
         WHERE h.payment_id = u.payment AND h.leg = u.leg RETURNING 1)
    SELECT expect_rows('holds changed', (SELECT count(*) FROM written), cardinality($1::uuid[]))";

pub(super) const HOLDS: &str = "
    INSERT INTO hold (payment_id, leg, account, amount, expires_at)
    SELECT * FROM unnest($1::uuid[], $2::smallint[], $3::bigint[], $4::bigint[], $5::timestamptz[])";

/// What the triggers on `hold` make of an account is what the ledger decided on.
pub(super) const HELD: &str = "
    SELECT expect_rows('held', count(*), cardinality($1::bigint[]))
      FROM unnest($1::bigint[], $2::bigint[]) AS e(id, held) JOIN account a ON a.id = e.id AND a.held = e.held";

pub(super) const TERMS: &str = "
    WITH written AS (
        UPDATE account a
           SET posted = t.posted, version = t.version, status = t.status::account_status,
               min_balance = t.min_balance, max_balance = t.max_balance, shortfall = t.shortfall
          FROM unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::bigint[], $5::text[], $6::bigint[], $7::bigint[],
                      $8::bigint[])
            AS t(id, posted, version, was, status, min_balance, max_balance, shortfall)
         WHERE a.id = t.id AND a.version = t.was RETURNING 1)
    SELECT expect_rows('terms', (SELECT count(*) FROM written), cardinality($1::bigint[]))";

pub(super) const AGENDA_DONE: &str = "DELETE FROM agenda WHERE task_id = ANY($1::uuid[])";

/// Whoever waits for another task is looked at again at growing intervals: what that task's batch
/// saw of the agenda may be older than the row.
pub(super) const AGENDA: &str = "
    INSERT INTO agenda (task_id, deadline, waits_for, properties, due_at)
    SELECT task, deadline, waits_for, properties::jsonb,
           CASE WHEN waits_for IS NULL THEN deadline
                ELSE least(deadline, $5::timestamptz + interval '100 ms') END
      FROM unnest($1::uuid[], $2::timestamptz[], $3::uuid[], $4::text[]) AS n(task, deadline, waits_for, properties)";

/// A row that is gone stays gone: another daemon was faster. One that was woken since it was looked
/// at stays due.
pub(super) const AGENDA_AGAIN: &str = "
    UPDATE agenda a
       SET deadline = n.deadline, waits_for = n.waits_for, looked = a.looked + 1,
           due_at = least(n.deadline, $5::timestamptz + interval '100 ms' * 2 ^ least(a.looked, 13))
      FROM unnest($1::uuid[], $2::timestamptz[], $3::uuid[], $4::int[]) AS n(task, deadline, waits_for, woken)
     WHERE a.task_id = n.task AND a.woken = n.woken";

pub(super) const WAKES: &str =
    "UPDATE agenda SET due_at = $2::timestamptz, woken = woken + 1 WHERE waits_for = ANY($1::uuid[])";
