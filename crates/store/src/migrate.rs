//! The schema: numbered SQL files, applied once, by one daemon at a time.

use tokio_postgres::Client;

use super::error::describe;
use super::schema::{SchemaProblem, usable_schema};

pub(super) mod embedded {
    refinery::embed_migrations!("src/migrations");
}

/// Key of the advisory lock; any number that nobody else uses in this database.
const LOCK: i64 = 0x7365_7474_6c65_6401;

/// Why the schema is not what this version needs.
#[derive(Debug, thiserror::Error)]
pub enum MigrateError {
    /// PostgreSQL refused, or is away.
    #[error("{}", describe(.0))]
    Postgres(#[from] tokio_postgres::Error),
    /// A migration failed; it was rolled back.
    #[error("{0}{reason}", reason = reason(.0))]
    Migration(#[from] refinery::Error),
    /// A role or a privilege cannot be as it has to be.
    #[error("{}: {statement}", describe(.error))]
    Grant { statement: String, error: tokio_postgres::Error },
    /// A role that was chosen cannot be used.
    #[error("{0}")]
    Roles(String),
    /// This version cannot use the schema, and migrating it does not help.
    #[error("{0}")]
    Schema(#[from] SchemaProblem),
    /// The database cannot store every text that a task may have.
    #[error("the database's encoding is {0}, expected UTF8: CREATE DATABASE … ENCODING 'UTF8' TEMPLATE template0")]
    Encoding(String),
}

/// PostgreSQL's message, which refinery leaves out.
fn reason(error: &refinery::Error) -> String {
    source(error).map_or_else(String::new, |source| format!(": {}", describe(source)))
}

fn source(error: &refinery::Error) -> Option<&tokio_postgres::Error> {
    std::error::Error::source(error).and_then(|source| source.downcast_ref())
}

impl MigrateError {
    /// Returns true if a later attempt may succeed: the server is unavailable, rather than the schema wrong.
    pub fn is_unavailable(&self) -> bool {
        let unavailable = |error: &tokio_postgres::Error| match error.code() {
            Some(state) => matches!(state.code().get(..2), Some("08" | "25" | "40" | "53" | "55" | "57" | "58")),
            None => true,
        };
        match self {
            Self::Postgres(error) => unavailable(error),
            Self::Migration(error) => source(error).is_some_and(unavailable),
            Self::Grant { error, .. } => unavailable(error),
            Self::Roles(_) | Self::Schema(_) | Self::Encoding(_) => false,
        }
    }

    /// Returns true if only another database, another version of the program or other arguments can help.
    pub const fn is_configuration(&self) -> bool {
        matches!(self, Self::Roles(_) | Self::Schema(_) | Self::Encoding(_))
    }

    /// Returns true if the role of this session may not do what was asked.
    pub fn is_forbidden(&self) -> bool {
        let error = match self {
            Self::Postgres(error) | Self::Grant { error, .. } => Some(error),
            Self::Migration(error) => source(error),
            Self::Roles(_) | Self::Schema(_) | Self::Encoding(_) => None,
        };
        error.is_some_and(|error| error.code() == Some(&tokio_postgres::error::SqlState::INSUFFICIENT_PRIVILEGE))
    }
}

/// Returns the last migration of this version.
pub(super) fn built_for() -> i32 {
    embedded::migrations::runner().get_migrations().iter().map(refinery::Migration::version).max().unwrap_or(0)
}

/// Applies the missing migrations. Returns their names.
///
/// # Errors
///
/// [`MigrateError::Schema`] if this version cannot use the schema.
pub async fn migrate(client: &mut Client) -> Result<Vec<String>, MigrateError> {
    run(client, refinery::Target::Latest).await
}

/// Like [`migrate`], and calls `applied` with the name of each migration as soon as it is committed.
pub async fn migrate_each(client: &mut Client, mut applied: impl FnMut(&str)) -> Result<Vec<String>, MigrateError> {
    let missing = usable_schema(client).await?.missing;
    let runner = embedded::migrations::runner();
    let is_missing = |migration: &&refinery::Migration| missing.contains(&migration.to_string());
    let mut versions: Vec<i32> =
        runner.get_migrations().iter().filter(is_missing).map(|found| found.version()).collect();
    // The macro has them in no order.
    versions.sort_unstable();
    let mut names = Vec::new();
    for version in versions {
        let now = migrate_to(client, version).await?;
        now.iter().for_each(|name| applied(name));
        names.extend(now);
    }
    Ok(names)
}

/// Applies the missing migrations up to a version, as an earlier version of the program did. Fails as [`migrate`].
pub async fn migrate_to(client: &mut Client, version: i32) -> Result<Vec<String>, MigrateError> {
    run(client, refinery::Target::Version(version)).await
}

/// While a migration waits for a lock on a table, everybody else waits behind it. So it gives up soon, and is tried
/// again.
const PATIENCE: &str = "SET lock_timeout = '2s'";

async fn run(client: &mut Client, target: refinery::Target) -> Result<Vec<String>, MigrateError> {
    lock(client).await?;
    let applied = apply(client, target).await;
    unlock(client).await?;
    applied
}

/// Waits until nobody else migrates or grants. Statements may take as long as they need from then on, but do not wait
/// for tables.
pub(super) async fn lock(client: &Client) -> Result<(), MigrateError> {
    client.batch_execute("SET lock_timeout = 0; SET statement_timeout = 0").await?;
    client.execute("SELECT pg_advisory_lock($1)", &[&LOCK]).await?;
    Ok(client.batch_execute(PATIENCE).await?)
}

pub(super) async fn unlock(client: &Client) -> Result<(), MigrateError> {
    client.execute("SELECT pg_advisory_unlock($1)", &[&LOCK]).await?;
    Ok(())
}

/// Applies what is missing. A complete schema is only read: the role needs no right to change it.
async fn apply(client: &mut Client, target: refinery::Target) -> Result<Vec<String>, MigrateError> {
    if usable_schema(client).await?.missing.is_empty() {
        return Ok(Vec::new());
    }
    let report = embedded::migrations::runner().set_target(target).run_async(client).await?;
    Ok(report.applied_migrations().iter().map(ToString::to_string).collect())
}

/// Checks the encoding. PostgreSQL refuses a text that it cannot convert: neither the task nor its dead letter could be
/// stored.
pub(super) async fn holds_every_text(client: &Client) -> Result<(), MigrateError> {
    let encoding: String = client.query_one("SHOW server_encoding", &[]).await?.get(0);
    if encoding == "UTF8" { Ok(()) } else { Err(MigrateError::Encoding(encoding)) }
}
