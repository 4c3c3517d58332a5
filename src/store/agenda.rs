//! What waits, as rows: scheduled and parked tasks, and holds that run out.

use std::time::Duration;

use deadpool_postgres::ClientWrapper;
use uuid::Uuid;

use super::MAX_BATCH_BYTES;
use crate::contract::{Message, Properties};

type Result<T> = std::result::Result<T, tokio_postgres::Error>;

/// What has to be looked at.
#[derive(Debug, Default)]
pub struct Due {
    /// Tasks, as they came once.
    pub tasks: Vec<Message>,
    /// Payments whose holds have run out.
    pub expired: Vec<Uuid>,
    /// Whether more may be due than is here.
    pub more: bool,
}

impl Due {
    /// Nothing is due.
    pub const fn is_empty(&self) -> bool {
        self.tasks.is_empty() && self.expired.is_empty()
    }
}

/// How much waits, and how much is held: for the gauges.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Waiting {
    /// Tasks that wait for their time.
    pub scheduled: i64,
    /// The age of the oldest of them, in seconds.
    pub scheduled_oldest_seconds: f64,
    /// Tasks that wait for another one.
    pub parked: i64,
    /// The age of the oldest of them, in seconds.
    pub parked_oldest_seconds: f64,
    /// Holds, one for each leg.
    pub holds: i64,
    /// Holds that run out within an hour.
    pub holds_expiring: i64,
    /// What is held of each currency, in minor units: of all accounts together it can be more than
    /// 64 bits hold.
    pub held: Vec<(String, f64)>,
}

/// Reads what is due: no more than `most` of either, and of tasks no more than fit into a batch.
///
/// # Errors
///
/// PostgreSQL's.
pub(super) async fn due(client: &ClientWrapper, most: usize) -> Result<Due> {
    // The plans are those of small tables, whatever they have grown to.
    const TASKS: &str = "
        WITH due AS (
            SELECT p.request, a.properties, p.received_at, a.due_at, p.id
              FROM agenda a JOIN payment p ON p.id = a.task_id
             WHERE a.due_at <= clock_timestamp() ORDER BY a.due_at, p.received_at LIMIT $1)
        SELECT request, properties::text, received_at, found FROM (
            SELECT due.*, count(*) OVER () AS found, coalesce(sum(octet_length(request)) OVER (
                       ORDER BY due_at, received_at, id ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING), 0) AS before
              FROM due) AS counted
         WHERE before < $2 ORDER BY due_at, received_at, id";
    const EXPIRED: &str = "
        SELECT DISTINCT payment_id FROM (
            SELECT payment_id FROM hold WHERE expires_at <= clock_timestamp() ORDER BY expires_at LIMIT $1) AS h";
    let limit = i64::try_from(most).unwrap_or(i64::MAX);
    let params: [&(dyn tokio_postgres::types::ToSql + Sync); 2] = [&limit, &(MAX_BATCH_BYTES as i64)];
    let (tasks, expired) = (client.prepare_cached(TASKS).await?, client.prepare_cached(EXPIRED).await?);
    let (tasks, expired) = futures_util::join!(client.query(&tasks, &params), client.query(&expired, &params[..1]));
    let (tasks, expired) = (tasks?, expired?);
    let found = tasks.first().map_or(0, |row| row.get::<_, i64>(3));
    let more = found > tasks.len() as i64 || found >= limit || expired.len() >= most;
    let task = |row: &tokio_postgres::Row| {
        let (request, properties): (Option<&str>, &str) = (row.get(0), row.get(1));
        // They were serialized from the same struct.
        let properties: Properties = serde_json::from_str(properties).unwrap_or_default();
        Message::stored(request.unwrap_or_default().as_bytes().to_vec(), properties, row.get(2))
    };
    Ok(Due { tasks: tasks.iter().map(task).collect(), expired: expired.iter().map(|row| row.get(0)).collect(), more })
}

/// Leaves a task alone for a while.
///
/// # Errors
///
/// PostgreSQL's.
pub(super) async fn postpone(client: &ClientWrapper, task: Uuid, by: Duration) -> Result<()> {
    const POSTPONE: &str =
        "UPDATE agenda SET due_at = clock_timestamp() + make_interval(secs => $2) WHERE task_id = $1";
    let statement = client.prepare_cached(POSTPONE).await?;
    client.execute(&statement, &[&task, &by.as_secs_f64()]).await.map(drop)
}

/// Measures.
///
/// # Errors
///
/// PostgreSQL's.
pub(super) async fn waiting(client: &ClientWrapper) -> Result<Waiting> {
    const AGENDA: &str = "
        SELECT count(*) FILTER (WHERE a.waits_for IS NULL), count(a.waits_for),
               coalesce(extract(epoch FROM clock_timestamp() - min(p.received_at) FILTER (WHERE a.waits_for IS NULL)), 0)::float8,
               coalesce(extract(epoch FROM clock_timestamp() - min(p.received_at) FILTER (WHERE a.waits_for IS NOT NULL)), 0)::float8
          FROM agenda a JOIN payment p ON p.id = a.task_id";
    const HOLDS: &str = "
        SELECT a.currency, count(*), count(*) FILTER (WHERE h.expires_at < clock_timestamp() + interval '1 hour'),
               sum(h.amount)::float8
          FROM hold h JOIN account a ON a.id = h.account GROUP BY a.currency";
    let (agenda, holds) = (client.prepare_cached(AGENDA).await?, client.prepare_cached(HOLDS).await?);
    let (agenda, holds) = futures_util::join!(client.query_one(&agenda, &[]), client.query(&holds, &[]));
    let (agenda, holds) = (agenda?, holds?);
    let sum = |column: usize| holds.iter().map(|row| row.get::<_, i64>(column)).sum();
    Ok(Waiting {
        scheduled: agenda.get(0),
        parked: agenda.get(1),
        scheduled_oldest_seconds: agenda.get(2),
        parked_oldest_seconds: agenda.get(3),
        holds: sum(1),
        holds_expiring: sum(2),
        held: holds.iter().map(|row| (row.get(0), row.get(3))).collect(),
    })
}
