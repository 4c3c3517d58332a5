//! The statements that write all that is more than a plain task: holds, follow-ups, legs, what waits, and changed
//! accounts. A batch of plain transfers sends none of them.

use deadpool_postgres::ClientWrapper;
use jiff::Timestamp;
use tokio_postgres::Error;
use uuid::Uuid;

use super::rows::{AgendaRow, HoldRow, LegRow, LegUpdateRow, Life, TaskRow, TermsRow, UpdateRow};
use crate::sql::statement;
use settled_core::ledger::Transition;

statement! {
    /// Before the payments: their triggers look at it.
    InsertTransitions(row: Transition, now: Timestamp) {
        payment_id: uuid = row.payment,
        version: int = row.version,
        from_state: text as payment_state = row.from.name(),
        to_state: text as payment_state = row.to.name(),
        cause: uuid = row.cause,
    }
    "INSERT INTO transition ({columns}, at) SELECT {values}, {now}::timestamptz FROM {rows}"
}

statement! {
    InsertTasks(row: TaskRow<'_>, now: Timestamp) {
        id: uuid = row.id,
        version: int = row.version,
        type: text as task_type = row.task_type,
        state: text as payment_state = row.state,
        reason: text = row.reason,
        parent_id: uuid = row.parent,
        debit_account: bigint = row.movement.debit,
        credit_account: bigint = row.movement.credit,
        amount: bigint = row.movement.amount,
        currency: text = row.movement.code(),
        debit_seq: bigint = row.movement.debit_seq,
        credit_seq: bigint = row.movement.credit_seq,
        captured: bigint = row.progress.map(|progress| progress.captured),
        refunded: bigint = row.progress.map(|progress| progress.refunded),
        charged_back: bigint = row.progress.map(|progress| progress.charged_back),
        legs: smallint = row.legs,
        min_balance: bigint = row.min_balance,
        expires_at: timestamptz = row.expires_at,
        received_at: timestamptz = row.received_at,
        fingerprint: bytea = row.fingerprint.as_slice(),
        publisher: text = row.publisher,
        reference: text = row.reference,
        metadata: text as jsonb = row.metadata,
        request: text = row.request.as_deref(),
    }
    "INSERT INTO payment ({columns}, settled_at) SELECT {values}, {now}::timestamptz FROM {rows}"
}

statement! {
    /// What is null stays as it is.
    UpdateTasks(row: UpdateRow) {
        id: uuid = row.id,
        version: int = row.version,
        version_before: int = row.version_before,
        state: text = row.state,
        reason: text = row.reason,
        debit_account: bigint = row.movement.debit,
        credit_account: bigint = row.movement.credit,
        amount: bigint = row.movement.amount,
        currency: text = row.movement.code(),
        debit_seq: bigint = row.movement.debit_seq,
        credit_seq: bigint = row.movement.credit_seq,
        captured: bigint = row.progress.map(|progress| progress.captured),
        refunded: bigint = row.progress.map(|progress| progress.refunded),
        charged_back: bigint = row.progress.map(|progress| progress.charged_back),
        legs: smallint = row.legs,
        expires_at: timestamptz = row.expires_at,
        settled_at: timestamptz = row.decided_at,
    }
    "WITH written AS (
        UPDATE payment p
           SET version = given.version, state = given.state::payment_state,
               reason = coalesce(given.reason, p.reason),
               debit_account = coalesce(given.debit_account, p.debit_account),
               credit_account = coalesce(given.credit_account, p.credit_account),
               amount = coalesce(given.amount, p.amount), currency = coalesce(given.currency, p.currency),
               debit_seq = coalesce(given.debit_seq, p.debit_seq),
               credit_seq = coalesce(given.credit_seq, p.credit_seq),
               captured = coalesce(given.captured, p.captured), refunded = coalesce(given.refunded, p.refunded),
               charged_back = coalesce(given.charged_back, p.charged_back), legs = coalesce(given.legs, p.legs),
               expires_at = coalesce(given.expires_at, p.expires_at),
               settled_at = coalesce(given.settled_at, p.settled_at)
          FROM {rows}
         WHERE p.id = given.id AND p.version = given.version_before RETURNING 1)
    SELECT expect_rows('payments', (SELECT count(*) FROM written), {count})"
}

statement! {
    InsertLegs(row: LegRow) {
        payment_id: uuid = row.payment,
        leg: smallint = row.leg,
        debit_account: bigint = row.movement.debit,
        credit_account: bigint = row.movement.credit,
        amount: bigint = row.movement.amount,
        currency: text = row.movement.code(),
        debit_seq: bigint = row.movement.debit_seq,
        credit_seq: bigint = row.movement.credit_seq,
        captured: bigint = row.progress.map(|progress| progress.captured),
        refunded: bigint = row.progress.map(|progress| progress.refunded),
        charged_back: bigint = row.progress.map(|progress| progress.charged_back),
    }
    "INSERT INTO leg ({columns}) SELECT {values} FROM {rows}"
}

statement! {
    UpdateLegs(row: LegUpdateRow) {
        payment_id: uuid = row.payment,
        leg: smallint = row.leg,
        captured: bigint = row.progress.captured,
        refunded: bigint = row.progress.refunded,
        charged_back: bigint = row.progress.charged_back,
    }
    "WITH written AS (
        UPDATE leg l
           SET captured = given.captured, refunded = given.refunded, charged_back = given.charged_back
          FROM {rows}
         WHERE l.payment_id = given.payment_id AND l.leg = given.leg RETURNING 1)
    SELECT expect_rows('legs', (SELECT count(*) FROM written), {count})"
}

statement! {
    DeleteHolds(row: HoldRow) {
        payment_id: uuid = row.payment,
        leg: smallint = row.leg,
    }
    "WITH written AS (
        DELETE FROM hold h USING {rows}
         WHERE h.payment_id = given.payment_id AND h.leg = given.leg RETURNING 1)
    SELECT expect_rows('holds ended', (SELECT count(*) FROM written), {count})"
}

statement! {
    UpdateHolds(row: HoldRow) {
        payment_id: uuid = row.payment,
        leg: smallint = row.leg,
        amount: bigint = row.amount,
    }
    "WITH written AS (
        UPDATE hold h SET amount = given.amount FROM {rows}
         WHERE h.payment_id = given.payment_id AND h.leg = given.leg RETURNING 1)
    SELECT expect_rows('holds changed', (SELECT count(*) FROM written), {count})"
}

statement! {
    InsertHolds(row: HoldRow) {
        payment_id: uuid = row.payment,
        leg: smallint = row.leg,
        account: bigint = row.account,
        amount: bigint = row.amount,
        expires_at: timestamptz = row.expires_at,
    }
    "INSERT INTO hold ({columns}) SELECT {values} FROM {rows}"
}

statement! {
    /// The triggers on `hold` sum the holds of an account: the result has to be what the ledger decided on.
    CheckHeld(row: (i64, i64)) {
        id: bigint = row.0,
        held: bigint = row.1,
    }
    "SELECT expect_rows('held', count(*), {count})
       FROM {rows} JOIN account a ON a.id = given.id AND a.held = given.held"
}

statement! {
    UpdateTerms(row: TermsRow) {
        id: bigint = row.account,
        posted: bigint = row.posted,
        version: bigint = row.version,
        version_before: bigint = row.version_before,
        status: text = row.status.name(),
        min_balance: bigint = row.min_balance,
        max_balance: bigint = row.max_balance,
        shortfall: bigint = row.shortfall,
    }
    "WITH written AS (
        UPDATE account a
           SET posted = given.posted, version = given.version, status = given.status::account_status,
               min_balance = given.min_balance, max_balance = given.max_balance, shortfall = given.shortfall
          FROM {rows}
         WHERE a.id = given.id AND a.version = given.version_before RETURNING 1)
    SELECT expect_rows('terms', (SELECT count(*) FROM written), {count})"
}

statement! {
    DeleteAgenda(row: Uuid) {
        task_id: uuid = *row,
    }
    "DELETE FROM agenda WHERE task_id = ANY({task_id})"
}

statement! {
    /// Whoever waits for another task is looked at again at growing intervals: what that task's batch
    /// saw of the agenda may be older than the row.
    InsertAgenda(row: AgendaRow, now: Timestamp) {
        task_id: uuid = row.task,
        deadline: timestamptz = row.deadline,
        waits_for: uuid = row.waits_for,
        properties: text as jsonb = row.properties.as_str(),
    }
    "INSERT INTO agenda ({columns}, due_at)
     SELECT {values}, CASE WHEN given.waits_for IS NULL THEN given.deadline
                           ELSE least(given.deadline, {now}::timestamptz + interval '100 ms') END
       FROM {rows}"
}

statement! {
    /// A row that is gone stays gone: another daemon was faster. One that was woken since it was looked
    /// at stays due.
    UpdateAgenda(row: AgendaRow, now: Timestamp) {
        task_id: uuid = row.task,
        deadline: timestamptz = row.deadline,
        waits_for: uuid = row.waits_for,
        woken: int = row.woken,
    }
    "UPDATE agenda a
        SET deadline = given.deadline, waits_for = given.waits_for, looked = a.looked + 1,
            due_at = least(given.deadline, {now}::timestamptz + interval '100 ms' * 2 ^ least(a.looked, 13))
       FROM {rows}
      WHERE a.task_id = given.task_id AND a.woken = given.woken"
}

statement! {
    WakeAgenda(row: Uuid, now: Timestamp) {
        waits_for: uuid = *row,
    }
    "UPDATE agenda SET due_at = {now}::timestamptz, woken = woken + 1 WHERE waits_for = ANY({waits_for})"
}

pub(super) struct LifeStatements {
    transitions: InsertTransitions,
    tasks: InsertTasks,
    updates: UpdateTasks,
    legs: InsertLegs,
    leg_updates: UpdateLegs,
    holds_ended: DeleteHolds,
    holds_changed: UpdateHolds,
    holds: InsertHolds,
    held: CheckHeld,
    terms: UpdateTerms,
    agenda_done: DeleteAgenda,
    agenda: InsertAgenda,
    agenda_again: UpdateAgenda,
    wakes: WakeAgenda,
}

impl LifeStatements {
    /// Prepares them, if there are rows for them.
    pub(super) async fn prepare(client: &ClientWrapper, rows: &Life<'_>) -> Result<Option<Self>, Error> {
        if rows.is_empty() {
            return Ok(None);
        }
        Ok(Some(Self {
            transitions: InsertTransitions::prepare(client).await?,
            tasks: InsertTasks::prepare(client).await?,
            updates: UpdateTasks::prepare(client).await?,
            legs: InsertLegs::prepare(client).await?,
            leg_updates: UpdateLegs::prepare(client).await?,
            holds_ended: DeleteHolds::prepare(client).await?,
            holds_changed: UpdateHolds::prepare(client).await?,
            holds: InsertHolds::prepare(client).await?,
            held: CheckHeld::prepare(client).await?,
            terms: UpdateTerms::prepare(client).await?,
            agenda_done: DeleteAgenda::prepare(client).await?,
            agenda: InsertAgenda::prepare(client).await?,
            agenda_again: UpdateAgenda::prepare(client).await?,
            wakes: WakeAgenda::prepare(client).await?,
        }))
    }

    /// Writes what comes before the balances: the tasks and their states, and holds that end or shrink, so
    /// that what was held is there to be debited.
    pub(super) async fn before(&self, client: &ClientWrapper, rows: &Life<'_>, now: Timestamp) -> Result<(), Error> {
        let (transitions, tasks, updates, legs, leg_updates, ended, changed) = futures_util::join!(
            self.transitions.write(client, &rows.transitions, now),
            self.tasks.write(client, &rows.tasks, now),
            self.updates.write(client, &rows.updates),
            self.legs.write(client, &rows.legs),
            self.leg_updates.write(client, &rows.leg_updates),
            self.holds_ended.write(client, &rows.holds_ended),
            self.holds_changed.write(client, &rows.holds_changed),
        );
        for written in [transitions, tasks, updates, legs, leg_updates, ended, changed] {
            written?;
        }
        Ok(())
    }

    /// Writes what comes after the balances: new terms, new holds, and who waits. Returns how many tasks were
    /// woken.
    pub(super) async fn after(&self, client: &ClientWrapper, rows: &Life<'_>, now: Timestamp) -> Result<u64, Error> {
        let (terms, holds, held, done, agenda, again, woken) = futures_util::join!(
            self.terms.write(client, &rows.terms),
            self.holds.write(client, &rows.holds),
            self.held.write(client, &rows.held),
            self.agenda_done.write(client, &rows.agenda_done),
            self.agenda.write(client, &rows.agenda, now),
            self.agenda_again.write(client, &rows.agenda_again, now),
            self.wakes.write(client, &rows.wakes, now),
        );
        for written in [terms, holds, held, done, agenda, again] {
            written?;
        }
        woken
    }
}
