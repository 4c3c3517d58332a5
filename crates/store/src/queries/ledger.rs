//! The incarnation of the ledger, which is renewed after a backup was restored.

use jiff::Timestamp;
use serde::Serialize;
use tokio_postgres::GenericClient;
use uuid::Uuid;

use super::Error;
use crate::sql::{named, row};

/// The message if the row of the incarnation is missing.
pub const NO_ROW: &str = "the table `ledger` has no row: INSERT INTO ledger DEFAULT VALUES";

row! {
    /// Identifies the ledger among its diverging copies.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
    pub struct Incarnation {
        /// The id, which is the end of the events' source.
        pub incarnation: Uuid,
        pub since: Timestamp,
        /// The incarnation that was replaced by this one.
        pub previous: Option<Uuid>,
    }
}

/// Returns the incarnation, or `None` if there is [`NO_ROW`].
pub async fn incarnation(client: &impl GenericClient) -> Result<Option<Incarnation>, Error> {
    let row = client.query_opt("SELECT incarnation, since, previous FROM ledger", &[]).await?;
    Ok(row.as_ref().map(Incarnation::from))
}

/// Replaces the incarnation `instead_of` by a new one. Returns `None` if the ledger has another one.
pub async fn renew(client: &impl GenericClient, instead_of: Uuid) -> Result<Option<Incarnation>, Error> {
    let row = named!(client.query_opt(
        "UPDATE ledger SET incarnation = gen_random_uuid(), since = clock_timestamp(), previous = incarnation
          WHERE incarnation = {instead_of} RETURNING incarnation, since, previous",
        instead_of = instead_of,
    ));
    Ok(row?.as_ref().map(Incarnation::from))
}
