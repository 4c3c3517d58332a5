//! The registry of daemons: each has a row, which it keeps alive by renewing its lease. All times are the database's.

use std::time::Duration;

use tokio_postgres::Error;

use crate::gauges::PostgresGauges;
use crate::migrate::built_for;
use crate::outbox::finish;
use crate::pool::{ConnectionGuard, Pool};
use crate::session::Session;
use crate::sql::named;
use settled_pipeline::store::StoreError;

/// How long a daemon that is not heard of counts as alive: several renewals may fail or be late.
pub(crate) const LEASE: Duration = Duration::from_secs(15);

/// How long the row of a daemon that has died is kept.
const REMEMBERED: Duration = Duration::from_secs(24 * 3600);

/// What does not change of a daemon.
#[derive(Clone, Debug)]
pub struct Registration {
    /// Name of the machine.
    pub host: String,
    pub pid: u32,
    pub version: &'static str,
    /// Address of the admin server.
    pub admin: String,
}

/// What a daemon does at the moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Activity {
    pub state: &'static str,
    pub reason: Option<String>,
    /// Tasks taken from the broker and not settled yet.
    pub in_flight: usize,
    /// Whether an operator has drained it.
    pub is_drained: bool,
}

/// Writes the row of this daemon, on the connection that the gauges are measured on.
#[derive(Debug)]
pub struct PostgresInstances {
    pool: Pool,
}

impl PostgresInstances {
    /// Creates it, to share the connection of `gauges`.
    pub fn beside(gauges: &PostgresGauges) -> Self {
        Self { pool: gauges.pool().clone() }
    }

    /// Inserts a row for this daemon, drained if it was before, and deletes those of daemons that died long ago. Returns the row's id.
    pub async fn register(
        &self,
        Registration { host, pid, version, admin }: &Registration,
        activity: &Activity,
    ) -> Result<i64, StoreError> {
        self.forget().await?;
        let client = ConnectionGuard::take(&self.pool).await?;
        let inserted = named!(client.query_one(
            "INSERT INTO instance (host, pid, version, schema, admin, lease_until, state, reason, in_flight,
                                   drain_at)
             VALUES ({host}, {pid}, {version}, {schema}, {admin},
                     clock_timestamp() + make_interval(secs => {lease}), {state}, {reason}, {in_flight},
                     CASE WHEN {drained}::boolean THEN clock_timestamp() END)
             RETURNING id",
            host = host,
            pid = pid.cast_signed(),
            version = version,
            schema = built_for(),
            admin = admin,
            lease = LEASE.as_secs_f64(),
            state = activity.state,
            reason = activity.reason,
            in_flight = count(activity.in_flight),
            drained = activity.is_drained,
        ));
        Ok(finish(client, inserted)?.get("id"))
    }

    /// Renews the lease of a row. Returns whether the daemon is to be drained, or `None` if the row is gone.
    pub async fn renew(&self, id: i64, activity: &Activity) -> Result<Option<bool>, StoreError> {
        let mut client = ConnectionGuard::take(&self.pool).await?;
        let renewed = renew(&mut client, id, activity).await;
        finish(client, renewed)
    }

    /// Deletes the row of this daemon, which stops.
    pub async fn remove(&self, id: i64) -> Result<(), StoreError> {
        let client = ConnectionGuard::take(&self.pool).await?;
        let removed = named!(client.execute("DELETE FROM instance WHERE id = {id}", id = id));
        finish(client, removed).map(drop)
    }

    /// Deletes the rows of daemons that died long ago.
    pub async fn forget(&self) -> Result<(), StoreError> {
        let client = ConnectionGuard::take(&self.pool).await?;
        let forgotten = named!(client.execute(
            "DELETE FROM instance WHERE lease_until < statement_timestamp() - make_interval(secs => {remembered})",
            remembered = REMEMBERED.as_secs_f64(),
        ));
        finish(client, forgotten).map(drop)
    }
}

/// A lease that a crash of the server undoes runs out: it need not wait for the disk, nor for a standby.
async fn renew(client: &mut Session, id: i64, activity: &Activity) -> Result<Option<bool>, Error> {
    let transaction = client.transaction().await?;
    transaction.batch_execute("SET LOCAL synchronous_commit = off").await?;
    let renewed = named!(transaction.query_opt(
        "UPDATE instance SET lease_until = clock_timestamp() + make_interval(secs => {lease}), state = {state},
                             reason = {reason}, in_flight = {in_flight}
          WHERE id = {id} RETURNING drain_at IS NOT NULL AS drain",
        id = id,
        lease = LEASE.as_secs_f64(),
        state = activity.state,
        reason = activity.reason,
        in_flight = count(activity.in_flight),
    ));
    let drain = renewed?.map(|row| row.get("drain"));
    transaction.commit().await?;
    Ok(drain)
}

fn count(tasks: usize) -> i64 {
    i64::try_from(tasks).unwrap_or(i64::MAX)
}
