//! The settings of a session: set when a connection is made, and checked in every transaction that
//! commits payments.
//!
//! A connection pooler in transaction mode gives each transaction another server connection: what
//! one client has set is gone in its next transaction, and is in force for other clients instead.
//! So such a pooler is found before anything is set.

use std::fmt::Write;
use std::ops::{Deref, DerefMut};

use deadpool_postgres::ClientWrapper;
use tokio_postgres::{Client, Error, SimpleQueryMessage};
use uuid::Uuid;

use super::PostgresSettings;
use super::driver::{Driven, Ending};

/// Overrules a default that acknowledges a commit before it is durable; stricter ones stay.
const DURABLE: &str = "
    SELECT set_config('synchronous_commit', 'on', false)
     WHERE current_setting('synchronous_commit') IN ('off', 'local')";

/// The pool's statements are few and fixed, so a plan is made once, and stays while the tables
/// grow: one made on the empty tables of a new installation would read all of `payment` for each
/// batch, until an autovacuum comes by. So rows are found by their keys from the first one on.
const PLANS: &str = "
    SET jit = off;
    SET plan_cache_mode = force_generic_plan;
    SET enable_seqscan = off";

/// Why a batch was not committed whose transaction hasn't the mark of its session.
pub(super) const LOST: &str = "the session's settings were lost: is there a connection pooler in transaction mode in \
                               between? It has to be in session mode";

/// Sets the limits and the durability of a session.
///
/// # Errors
///
/// PostgreSQL's.
pub(super) async fn set_up(client: &Client, settings: &PostgresSettings) -> Result<(), Error> {
    client.batch_execute(&statements(settings)).await
}

fn statements(settings: &PostgresSettings) -> String {
    let mut sql = "SET default_transaction_isolation = 'read committed';".to_owned();
    for (name, limit) in [
        ("statement_timeout", settings.statement_timeout),
        ("lock_timeout", settings.lock_timeout),
        ("idle_in_transaction_session_timeout", settings.idle_in_transaction_timeout),
    ] {
        let _ = write!(sql, "SET {name} = {};", limit.as_millis());
    }
    sql.push_str(DURABLE);
    sql
}

/// A connection of the pool, with its settings.
#[derive(Debug)]
pub struct Session {
    client: ClientWrapper,
    mark: String,
    ending: Ending,
}

impl Session {
    /// Sets the session up, and marks it.
    pub(super) async fn begin((client, driver, ending): Driven, settings: &PostgresSettings) -> Result<Self, Error> {
        let mark = Uuid::now_v7().simple().to_string();
        let session = Self { client: ClientWrapper::new(client, driver), mark, ending };
        let mark = format!("SELECT set_config('settled.session', '{}', false)", session.mark);
        // One message, so all of it or nothing.
        session.batch_execute(&format!("{}; {PLANS}; {mark}", statements(settings))).await?;
        Ok(session)
    }

    /// What is known of the connection's end.
    pub(super) const fn ending(&self) -> &Ending {
        &self.ending
    }

    /// The value of `settled.session` that this session was given.
    pub(super) const fn mark(&self) -> &String {
        &self.mark
    }
}

impl Deref for Session {
    type Target = ClientWrapper;

    fn deref(&self) -> &ClientWrapper {
        &self.client
    }
}

impl DerefMut for Session {
    fn deref_mut(&mut self) -> &mut ClientWrapper {
        &mut self.client
    }
}

/// How often two connections are compared. Other clients of a busy pooler can make a round look
/// right by chance.
const ROUNDS: usize = 2;

/// Whether two open connections are served by one server connection in turn: there is a pooler in
/// transaction or statement mode in between. Changes no setting.
///
/// # Errors
///
/// PostgreSQL's, or the pooler's.
pub(super) async fn are_pooled(first: &Client, second: &Client) -> Result<bool, Error> {
    // Amazon's RDS Proxy gives a client a server connection of its own at its first SET.
    const PIN: &str = "SELECT set_config('application_name', current_setting('application_name'), false)";
    for client in [first, second] {
        client.batch_execute(PIN).await?;
    }
    let (mut first_is, mut second_is) = (backend(first).await?, backend(second).await?);
    for _ in 0..ROUNDS {
        // Free server connections are taken from the end of a list or from its beginning. From the
        // end, both clients have got the same one. From the beginning, each gets another one.
        if first_is == second_is {
            return Ok(true);
        }
        let begun = second.batch_execute("BEGIN").await;
        if begun.as_ref().is_err_and(is_statement_mode) {
            return Ok(true);
        }
        begun?;
        let now = [backend(first).await?, backend(second).await?];
        second.batch_execute("ROLLBACK").await?;
        if now != [first_is.as_str(), second_is.as_str()] {
            return Ok(true);
        }
        [first_is, second_is] = [backend(first).await?, backend(second).await?];
        if now != [first_is.as_str(), second_is.as_str()] {
            return Ok(true);
        }
    }
    Ok(false)
}

/// PgBouncer in statement mode, which is rare and has no code of its own for it.
fn is_statement_mode(error: &Error) -> bool {
    error.as_db_error().is_some_and(|error| error.message().contains("statement pooling mode"))
}

/// The server process that answers, and since when its server runs: several servers have equal ids.
async fn backend(client: &Client) -> Result<String, Error> {
    let answer = client.simple_query("SELECT concat_ws('/', pg_backend_pid(), pg_postmaster_start_time())").await?;
    let id = answer.iter().find_map(|message| match message {
        SimpleQueryMessage::Row(row) => row.get(0),
        _ => None,
    });
    Ok(id.unwrap_or_default().to_owned())
}
