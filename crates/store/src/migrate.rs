//! The schema: numbered SQL files, applied once, by one daemon at a time.

use tokio_postgres::Client;

use super::error::describe;

mod embedded {
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
            Self::Encoding(_) => false,
        }
    }
}

/// Applies the missing migrations. Returns their names.
///
/// # Errors
///
/// Also if a migration was changed after it had been applied.
pub async fn migrate(client: &mut Client) -> Result<Vec<String>, MigrateError> {
    run(client, refinery::Target::Latest).await
}

/// Like [`migrate`], and calls `applied` with the name of each migration as soon as it is committed.
pub async fn migrate_each(client: &mut Client, mut applied: impl FnMut(&str)) -> Result<Vec<String>, MigrateError> {
    let mut names = Vec::new();
    for version in missing_versions(client).await? {
        let now = migrate_to(client, version).await?;
        now.iter().for_each(|name| applied(name));
        names.extend(now);
    }
    // If none is missing, those that are applied are compared with those of this version nevertheless.
    names.extend(migrate(client).await?);
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
    holds_every_text(client).await?;
    client.batch_execute("SET lock_timeout = 0; SET statement_timeout = 0").await?;
    client.execute("SELECT pg_advisory_lock($1)", &[&LOCK]).await?;
    client.batch_execute(PATIENCE).await?;
    let report = embedded::migrations::runner().set_target(target).run_async(client).await;
    client.execute("SELECT pg_advisory_unlock($1)", &[&LOCK]).await?;
    Ok(report?.applied_migrations().iter().map(ToString::to_string).collect())
}

/// Checks the encoding. PostgreSQL refuses a text that it cannot convert: neither the task nor its dead letter could be
/// stored.
async fn holds_every_text(client: &Client) -> Result<(), MigrateError> {
    let encoding: String = client.query_one("SHOW server_encoding", &[]).await?.get(0);
    if encoding == "UTF8" { Ok(()) } else { Err(MigrateError::Encoding(encoding)) }
}

/// Returns the migrations that this version has and the database lacks.
pub async fn missing(client: &mut Client) -> Result<Vec<String>, MigrateError> {
    let versions = missing_versions(client).await?;
    let runner = embedded::migrations::runner();
    let named = |version: i32| runner.get_migrations().iter().find(|migration| migration.version() == version);
    Ok(versions.into_iter().filter_map(named).map(ToString::to_string).collect())
}

async fn missing_versions(client: &Client) -> Result<Vec<i32>, MigrateError> {
    holds_every_text(client).await?;
    let exists = client.query_one("SELECT to_regclass('refinery_schema_history') IS NOT NULL", &[]).await?;
    let applied: Vec<i32> = if exists.get(0) {
        let rows = client.query("SELECT version FROM refinery_schema_history", &[]).await?;
        rows.iter().map(|row| row.get(0)).collect()
    } else {
        Vec::new()
    };
    let runner = embedded::migrations::runner();
    let versions = runner.get_migrations().iter().map(|migration| migration.version());
    let mut missing: Vec<i32> = versions.filter(|version| !applied.contains(version)).collect();
    // The macro has them in no order.
    missing.sort_unstable();
    Ok(missing)
}
