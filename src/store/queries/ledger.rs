//! Which ledger this is: its incarnation, which is another one after a restored backup.

use jiff::Timestamp;
use serde::Serialize;
use tokio_postgres::{GenericClient, Row};
use uuid::Uuid;

use super::Error;

/// What is wrong, and what to do, if somebody has deleted the row.
pub const NO_ROW: &str = "the table `ledger` has no row: INSERT INTO ledger DEFAULT VALUES";

/// What tells a ledger from the copies of it that go on in another way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Incarnation {
    /// Its id, the end of its events' source.
    pub incarnation: Uuid,
    /// When it began.
    pub since: Timestamp,
    /// The one that it has replaced.
    pub previous: Option<Uuid>,
}

/// The incarnation; `None` if there is [`NO_ROW`].
///
/// # Errors
///
/// PostgreSQL's.
pub async fn incarnation(client: &impl GenericClient) -> Result<Option<Incarnation>, Error> {
    let row = client.query_opt("SELECT incarnation, since, previous FROM ledger", &[]).await?;
    Ok(row.as_ref().map(read))
}

/// Replaces this incarnation by a new one; `None` if it is not the ledger's.
///
/// # Errors
///
/// PostgreSQL's.
pub async fn renew(client: &impl GenericClient, instead_of: Uuid) -> Result<Option<Incarnation>, Error> {
    const RENEW: &str = "
        UPDATE ledger SET incarnation = gen_random_uuid(), since = clock_timestamp(), previous = incarnation
         WHERE incarnation = $1 RETURNING incarnation, since, previous";
    let row = client.query_opt(RENEW, &[&instead_of]).await?;
    Ok(row.as_ref().map(read))
}

fn read(row: &Row) -> Incarnation {
    Incarnation { incarnation: row.get(0), since: row.get(1), previous: row.get(2) }
}
