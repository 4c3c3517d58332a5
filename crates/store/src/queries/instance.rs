//! Daemons: listed, and asked to take no more tasks or to take them again.

use jiff::Timestamp;
use serde::Serialize;
use tokio_postgres::GenericClient;

use super::Error;
use crate::instances::LEASE;
use crate::sql::{named, row};

/// The state of a daemon whose lease has run out.
pub const GONE: &str = "gone";

row! {
    /// A daemon.
    #[derive(Clone, Debug, Serialize)]
    pub struct Instance {
        pub id: i64,
        pub host: String,
        pub pid: i32,
        pub version: String,
        /// The last migration that it was built for.
        pub schema: i32,
        /// Address of its admin server, on its host.
        pub admin: String,
        pub started_at: Timestamp,
        /// Time since it started, in seconds.
        pub age_seconds: f64,
        /// Time since it was last heard of, in seconds.
        pub seen_seconds: f64,
        /// `running`, `waiting`, `refused`, `paused`, `draining`, `drained`, or [`GONE`].
        pub state: String,
        /// Why it is not running.
        pub reason: Option<String>,
        /// Tasks taken from the broker and not settled yet.
        pub in_flight: i64,
        /// When an operator asked it to take no more tasks.
        pub drain_at: Option<Timestamp>,
    }
}

/// Which daemons a command is for.
#[derive(Clone, Debug)]
pub enum Which {
    /// Those with these ids, whatever their state.
    Ids(Vec<i64>),
    /// All whose lease has not run out.
    All,
}

impl Which {
    fn ids(&self) -> Option<&[i64]> {
        match self {
            Self::Ids(ids) => Some(ids),
            Self::All => None,
        }
    }
}

/// Returns all daemons, those that started first before the others.
pub async fn list(client: &impl GenericClient) -> Result<Vec<Instance>, Error> {
    let rows = named!(client.query(
        "SELECT id, host, pid, version, schema, admin, started_at,
                greatest(extract(epoch FROM statement_timestamp() - started_at), 0)::float8 AS age_seconds,
                greatest(extract(epoch FROM statement_timestamp() - lease_until)::float8 + {lease}, 0) AS seen_seconds,
                CASE WHEN lease_until < statement_timestamp() THEN 'gone' ELSE state END AS state,
                reason, in_flight, drain_at
           FROM instance ORDER BY id",
        lease = LEASE.as_secs_f64(),
    ));
    Ok(rows?.iter().map(Instance::from).collect())
}

/// Asks daemons to take no more tasks. Returns the ids of those that were found and not gone.
pub async fn drain(client: &impl GenericClient, which: &Which) -> Result<Vec<i64>, Error> {
    let rows = named!(client.query(
        "UPDATE instance SET drain_at = coalesce(drain_at, clock_timestamp())
          WHERE ({ids}::bigint[] IS NULL OR id = ANY({ids})) AND lease_until >= statement_timestamp() RETURNING id",
        ids = which.ids(),
    ));
    Ok(rows?.iter().map(|row| row.get("id")).collect())
}

/// Asks daemons to take tasks again. Returns the ids of those that were found and not gone.
pub async fn resume(client: &impl GenericClient, which: &Which) -> Result<Vec<i64>, Error> {
    let rows = named!(client.query(
        "UPDATE instance SET drain_at = NULL
          WHERE ({ids}::bigint[] IS NULL OR id = ANY({ids})) AND lease_until >= statement_timestamp() RETURNING id",
        ids = which.ids(),
    ));
    Ok(rows?.iter().map(|row| row.get("id")).collect())
}
