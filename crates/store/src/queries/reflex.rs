//! What daemons did by themselves.

use jiff::Timestamp;
use serde::Serialize;
use tokio_postgres::GenericClient;
use uuid::Uuid;

use super::Error;
use crate::sql::{named, row};

row! {
    /// Something that a reflex did.
    #[derive(Clone, Debug, Serialize)]
    pub struct ReflexRow {
        pub id: Uuid,
        pub at: Timestamp,
        pub host: String,
        pub pid: i32,
        pub reflex: String,
        /// `observed`, `acted`, `suppressed` or `undone`.
        pub action: String,
        pub publisher: Option<String>,
        pub reason: String,
    }
}

/// Returns the latest entries, the last one first.
pub async fn list(client: &impl GenericClient, limit: i64) -> Result<Vec<ReflexRow>, Error> {
    let rows = named!(client.query(
        "SELECT id, at, host, pid, reflex, action, publisher, reason FROM reflex_action
          ORDER BY at DESC, id DESC LIMIT {limit}",
        limit = limit,
    ));
    Ok(rows?.iter().map(ReflexRow::from).collect())
}
