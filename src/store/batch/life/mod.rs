//! What is more than a plain transfer: the rows of holds, follow-ups, legs, schedules and changed
//! accounts, and the statements that write them. A batch of plain transfers sends none of them.

mod decided;
mod rows;
mod sql;
mod statements;

use deadpool_postgres::ClientWrapper;
use jiff::Timestamp;
use tokio_postgres::Error;

pub(super) use self::rows::{
    AgendaRow, HoldRow, LegRow, LegUpdateRow, Life, MovementColumns, Progress, TaskRow, TermsRow, UpdateRow,
};
pub(super) use self::statements::Statements;
use super::column::Column;

/// The rows come in the order of their keys where two batches could meet on them without having
/// met on an account first.
impl Life<'_> {
    pub(super) fn sort(&mut self) {
        self.updates.sort_unstable_by_key(|row| row.id);
        self.agenda.sort_unstable_by_key(|row| row.task);
        self.agenda_again.sort_unstable_by_key(|row| row.task);
        self.agenda_done.sort_unstable();
        self.wakes.sort_unstable();
        self.wakes.dedup();
    }
}

/// What comes before the balances: the tasks and their states, and holds that end or shrink, so
/// that what was held is there to be debited.
pub(super) async fn before(
    client: &ClientWrapper,
    statements: Option<&Statements>,
    rows: &Life<'_>,
    now: Timestamp,
) -> Result<(), Error> {
    let Some(statements) = statements else { return Ok(()) };
    let (transitions, tasks, updates, legs, leg_updates, ended, changed) = futures_util::join!(
        statements.transitions(client, &rows.transitions, now),
        statements.tasks(client, &rows.tasks, now),
        statements.updates(client, &rows.updates),
        statements.legs(client, &rows.legs),
        statements.leg_updates(client, &rows.leg_updates),
        statements.holds_ended(client, &rows.holds_ended),
        statements.holds_changed(client, &rows.holds_changed),
    );
    for written in [transitions, tasks, updates, legs, leg_updates, ended, changed] {
        written?;
    }
    Ok(())
}

/// What comes after the balances: new terms, new holds, and who waits. Answers how many tasks were
/// woken.
pub(super) async fn after(
    client: &ClientWrapper,
    statements: Option<&Statements>,
    rows: &Life<'_>,
    now: Timestamp,
) -> Result<u64, Error> {
    let Some(statements) = statements else { return Ok(0) };
    let (terms, holds, held, done, agenda, again, woken) = futures_util::join!(
        statements.terms(client, &rows.terms),
        statements.holds(client, &rows.holds),
        statements.held(client, &rows.held),
        statements.agenda_done(client, &rows.agenda_done),
        statements.agenda(client, &rows.agenda, now),
        statements.agenda_again(client, &rows.agenda_again, now),
        statements.wakes(client, &rows.wakes, now),
    );
    for written in [terms, holds, held, done, agenda, again] {
        written?;
    }
    woken
}

/// A column of `rows`; short, because there are many.
fn column<'a, R, T, F: Fn(&'a R) -> T>(rows: &'a [R], get: F) -> Column<'a, R, F> {
    Column::new(rows, get)
}
