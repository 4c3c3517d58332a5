//! The statements, and what each is given: one for all rows of its kind.

use deadpool_postgres::ClientWrapper;
use jiff::Timestamp;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Error, Statement};
use uuid::Uuid;

use super::{AgendaRow, HoldRow, LegRow, LegUpdateRow, TaskRow, TermsRow, UpdateRow, column, sql};
use crate::contract::Currency;
use crate::ledger::Transition;

/// The statements, prepared.
pub(in super::super) struct Statements {
    transitions: Statement,
    tasks: Statement,
    updates: Statement,
    legs: Statement,
    leg_updates: Statement,
    holds_ended: Statement,
    holds_changed: Statement,
    holds: Statement,
    held: Statement,
    terms: Statement,
    agenda_done: Statement,
    agenda: Statement,
    agenda_again: Statement,
    wakes: Statement,
}

type Written = Result<u64, Error>;

impl Statements {
    pub(in super::super) async fn prepare(client: &ClientWrapper) -> Result<Self, Error> {
        Ok(Self {
            transitions: client.prepare_cached(sql::TRANSITIONS).await?,
            tasks: client.prepare_cached(sql::TASKS).await?,
            updates: client.prepare_cached(sql::UPDATES).await?,
            legs: client.prepare_cached(sql::LEGS).await?,
            leg_updates: client.prepare_cached(sql::LEG_UPDATES).await?,
            holds_ended: client.prepare_cached(sql::HOLDS_ENDED).await?,
            holds_changed: client.prepare_cached(sql::HOLDS_CHANGED).await?,
            holds: client.prepare_cached(sql::HOLDS).await?,
            held: client.prepare_cached(sql::HELD).await?,
            terms: client.prepare_cached(sql::TERMS).await?,
            agenda_done: client.prepare_cached(sql::AGENDA_DONE).await?,
            agenda: client.prepare_cached(sql::AGENDA).await?,
            agenda_again: client.prepare_cached(sql::AGENDA_AGAIN).await?,
            wakes: client.prepare_cached(sql::WAKES).await?,
        })
    }

    pub(super) async fn transitions(&self, client: &ClientWrapper, rows: &[Transition], now: Timestamp) -> Written {
        write(
            client,
            &self.transitions,
            rows,
            &[
                &column(rows, |row| row.payment),
                &column(rows, |row| row.version),
                &column(rows, |row| row.from.name()),
                &column(rows, |row| row.to.name()),
                &column(rows, |row| row.cause),
                &now,
            ],
        )
        .await
    }

    pub(super) async fn tasks(&self, client: &ClientWrapper, rows: &[TaskRow<'_>], now: Timestamp) -> Written {
        write(
            client,
            &self.tasks,
            rows,
            &[
                &column(rows, |row| row.id),
                &column(rows, |row| row.version),
                &column(rows, |row| row.task_type),
                &column(rows, |row| row.state),
                &column(rows, |row| row.reason),
                &column(rows, |row| row.parent),
                &column(rows, |row| row.movement.debit),
                &column(rows, |row| row.movement.credit),
                &column(rows, |row| row.movement.amount),
                &column(rows, |row| code(&row.movement.currency)),
                &column(rows, |row| row.movement.debit_seq),
                &column(rows, |row| row.movement.credit_seq),
                &column(rows, |row| row.progress.map(|p| p.captured)),
                &column(rows, |row| row.progress.map(|p| p.refunded)),
                &column(rows, |row| row.progress.map(|p| p.charged_back)),
                &column(rows, |row| row.legs),
                &column(rows, |row| row.min_balance),
                &column(rows, |row| row.expires_at),
                &column(rows, |row| row.received_at),
                &column(rows, |row| row.fingerprint.as_slice()),
                &column(rows, |row| row.publisher),
                &column(rows, |row| row.reference),
                &column(rows, |row| row.metadata),
                &column(rows, |row| row.request.as_deref()),
                &now,
            ],
        )
        .await
    }

    pub(super) async fn updates(&self, client: &ClientWrapper, rows: &[UpdateRow]) -> Written {
        write(
            client,
            &self.updates,
            rows,
            &[
                &column(rows, |row| row.id),
                &column(rows, |row| row.version),
                &column(rows, |row| row.version_before),
                &column(rows, |row| row.state),
                &column(rows, |row| row.reason),
                &column(rows, |row| row.movement.debit),
                &column(rows, |row| row.movement.credit),
                &column(rows, |row| row.movement.amount),
                &column(rows, |row| code(&row.movement.currency)),
                &column(rows, |row| row.movement.debit_seq),
                &column(rows, |row| row.movement.credit_seq),
                &column(rows, |row| row.progress.map(|p| p.captured)),
                &column(rows, |row| row.progress.map(|p| p.refunded)),
                &column(rows, |row| row.progress.map(|p| p.charged_back)),
                &column(rows, |row| row.legs),
                &column(rows, |row| row.expires_at),
                &column(rows, |row| row.decided_at),
            ],
        )
        .await
    }

    pub(super) async fn legs(&self, client: &ClientWrapper, rows: &[LegRow]) -> Written {
        write(
            client,
            &self.legs,
            rows,
            &[
                &column(rows, |row| row.payment),
                &column(rows, |row| row.leg),
                &column(rows, |row| row.movement.debit),
                &column(rows, |row| row.movement.credit),
                &column(rows, |row| row.movement.amount),
                &column(rows, |row| code(&row.movement.currency)),
                &column(rows, |row| row.movement.debit_seq),
                &column(rows, |row| row.movement.credit_seq),
                &column(rows, |row| row.progress.map(|p| p.captured)),
                &column(rows, |row| row.progress.map(|p| p.refunded)),
                &column(rows, |row| row.progress.map(|p| p.charged_back)),
            ],
        )
        .await
    }

    pub(super) async fn leg_updates(&self, client: &ClientWrapper, rows: &[LegUpdateRow]) -> Written {
        write(
            client,
            &self.leg_updates,
            rows,
            &[
                &column(rows, |row| row.payment),
                &column(rows, |row| row.leg),
                &column(rows, |row| row.progress.captured),
                &column(rows, |row| row.progress.refunded),
                &column(rows, |row| row.progress.charged_back),
            ],
        )
        .await
    }

    pub(super) async fn holds_ended(&self, client: &ClientWrapper, rows: &[HoldRow]) -> Written {
        write(client, &self.holds_ended, rows, &[&column(rows, |row| row.payment), &column(rows, |row| row.leg)]).await
    }

    pub(super) async fn holds_changed(&self, client: &ClientWrapper, rows: &[HoldRow]) -> Written {
        write(
            client,
            &self.holds_changed,
            rows,
            &[&column(rows, |row| row.payment), &column(rows, |row| row.leg), &column(rows, |row| row.amount)],
        )
        .await
    }

    pub(super) async fn holds(&self, client: &ClientWrapper, rows: &[HoldRow]) -> Written {
        write(
            client,
            &self.holds,
            rows,
            &[
                &column(rows, |row| row.payment),
                &column(rows, |row| row.leg),
                &column(rows, |row| row.account),
                &column(rows, |row| row.amount),
                &column(rows, |row| row.expires_at),
            ],
        )
        .await
    }

    pub(super) async fn held(&self, client: &ClientWrapper, rows: &[(i64, i64)]) -> Written {
        write(client, &self.held, rows, &[&column(rows, |row| row.0), &column(rows, |row| row.1)]).await
    }

    pub(super) async fn terms(&self, client: &ClientWrapper, rows: &[TermsRow]) -> Written {
        write(
            client,
            &self.terms,
            rows,
            &[
                &column(rows, |row| row.account),
                &column(rows, |row| row.posted),
                &column(rows, |row| row.version),
                &column(rows, |row| row.version_before),
                &column(rows, |row| row.status.name()),
                &column(rows, |row| row.min_balance),
                &column(rows, |row| row.max_balance),
                &column(rows, |row| row.shortfall),
            ],
        )
        .await
    }

    pub(super) async fn agenda_done(&self, client: &ClientWrapper, rows: &[Uuid]) -> Written {
        write(client, &self.agenda_done, rows, &[&column(rows, |row| *row)]).await
    }

    pub(super) async fn agenda(&self, client: &ClientWrapper, rows: &[AgendaRow], now: Timestamp) -> Written {
        write(
            client,
            &self.agenda,
            rows,
            &[
                &column(rows, |row| row.task),
                &column(rows, |row| row.deadline),
                &column(rows, |row| row.waits_for),
                &column(rows, |row| row.properties.as_str()),
                &now,
            ],
        )
        .await
    }

    pub(super) async fn agenda_again(&self, client: &ClientWrapper, rows: &[AgendaRow], now: Timestamp) -> Written {
        write(
            client,
            &self.agenda_again,
            rows,
            &[
                &column(rows, |row| row.task),
                &column(rows, |row| row.deadline),
                &column(rows, |row| row.waits_for),
                &column(rows, |row| row.woken),
                &now,
            ],
        )
        .await
    }

    pub(super) async fn wakes(&self, client: &ClientWrapper, rows: &[Uuid], now: Timestamp) -> Written {
        write(client, &self.wakes, rows, &[&column(rows, |row| *row), &now]).await
    }
}

/// Nothing is sent where there is nothing to write.
async fn write<R: Sync>(
    client: &ClientWrapper,
    statement: &Statement,
    rows: &[R],
    columns: &[&(dyn ToSql + Sync)],
) -> Written {
    if rows.is_empty() { Ok(0) } else { client.execute(statement, columns).await }
}

fn code(currency: &Option<Currency>) -> Option<&str> {
    currency.as_ref().map(Currency::as_str)
}
