//! The settings of a session: set when a connection is made, and checked in every transaction that commits payments.
//!
//! A connection pooler in transaction mode gives each transaction another server connection. A client's settings are
//! then lost in its next transaction, and apply to other clients instead. So such a pooler is detected before anything
//! is set.

use std::fmt::Write;
use std::ops::{Deref, DerefMut};

use deadpool_postgres::ClientWrapper;
use tokio_postgres::{Client, Error, SimpleQueryMessage};
use uuid::Uuid;

use super::PostgresSettings;
use super::driver::{Driven, Ending};

/// Overrides a default that acknowledges a commit before it is durable. A stricter default stays.
const DURABLE: &str = "
    SELECT set_config('synchronous_commit', 'on', false)
     WHERE current_setting('synchronous_commit') IN ('off', 'local')";

/// Statements are planned once and keep their plan while the tables grow. A plan made for the empty tables of a new
/// installation would scan all of `payment` for each batch, until the next autovacuum. So sequential scans are off.
const PLANS: &str = "
    SET jit = off;
    SET plan_cache_mode = force_generic_plan;
    SET enable_seqscan = off";

/// The error if a transaction does not have the mark of its session.
pub(super) const LOST: &str = "the session's settings were lost: is there a connection pooler in transaction mode in \
                               between? It has to be in session mode";

/// Sets the limits and the durability of a session.
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
    /// Sets up and marks the session of a new connection.
    pub(super) async fn begin((client, driver, ending): Driven, settings: &PostgresSettings) -> Result<Self, Error> {
        let mark = Uuid::now_v7().simple().to_string();
        let session = Self { client: ClientWrapper::new(client, driver), mark, ending };
        let mark = format!("SELECT set_config('settled.session', '{}', false)", session.mark);
        // One message: PostgreSQL carries out all of it or nothing.
        session.batch_execute(&format!("{}; {PLANS}; {mark}", statements(settings))).await?;
        Ok(session)
    }

    /// Returns why the connection has ended.
    pub(super) const fn ending(&self) -> &Ending {
        &self.ending
    }

    /// Returns the value of `settled.session` in this session.
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

/// How often two connections are compared. One comparison can succeed by chance if the pooler has other clients.
const ROUNDS: usize = 2;

/// Returns true if two open connections share a server connection: there is a pooler in transaction or statement mode.
/// Changes no setting.
pub(super) async fn are_pooled(first: &Client, second: &Client) -> Result<bool, Error> {
    // Amazon's RDS Proxy gives a client a server connection of its own at its first SET.
    const PIN: &str = "SELECT set_config('application_name', current_setting('application_name'), false)";
    for client in [first, second] {
        client.batch_execute(PIN).await?;
    }
    let (mut first_is, mut second_is) = (backend(first).await?, backend(second).await?);
    for _ in 0..ROUNDS {
        // A pooler takes free server connections from the end of a list, then both clients have got the same one, or
        // from its beginning, then each gets another one.
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

/// Recognizes PgBouncer in statement mode, which has no SQLSTATE of its own for it.
fn is_statement_mode(error: &Error) -> bool {
    error.as_db_error().is_some_and(|error| error.message().contains("statement pooling mode"))
}

/// Returns the server process and the start of its server, since process ids of several servers can be equal.
async fn backend(client: &Client) -> Result<String, Error> {
    let answer = client.simple_query("SELECT concat_ws('/', pg_backend_pid(), pg_postmaster_start_time())").await?;
    let id = answer.iter().find_map(|message| match message {
        SimpleQueryMessage::Row(row) => row.get(0),
        _ => None,
    });
    Ok(id.unwrap_or_default().to_owned())
}
