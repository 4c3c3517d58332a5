//! Scheduled and parked tasks, and holds that run out.

use std::time::Duration;

use deadpool_postgres::ClientWrapper;
use uuid::Uuid;

use super::sql::query;
use settled_core::contract::{Message, Properties};
use settled_pipeline::store::{Due, MAX_BATCH_BYTES, Waiting};

type Result<T> = std::result::Result<T, tokio_postgres::Error>;

query! {
    /// Its plan is generic: the agenda is small beside the payments, and is read first.
    DueTasks(limit: i64) {
        limit = limit,
        max_bytes = MAX_BATCH_BYTES as i64,
    }
    "WITH due AS (
         SELECT p.request, a.properties, p.received_at, a.due_at, p.id
           FROM agenda a JOIN payment p ON p.id = a.task_id
          WHERE a.due_at <= clock_timestamp() ORDER BY a.due_at, p.received_at LIMIT {limit})
     SELECT request, properties::text, received_at, found FROM (
         SELECT due.*, count(*) OVER () AS found, coalesce(sum(octet_length(request)) OVER (
                    ORDER BY due_at, received_at, id ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING), 0) AS before
           FROM due) AS counted
      WHERE before < {max_bytes} ORDER BY due_at, received_at, id"
}

query! {
    ExpiredHolds(limit: i64) {
        limit = limit,
    }
    "SELECT DISTINCT payment_id FROM (
         SELECT payment_id FROM hold WHERE expires_at <= clock_timestamp() ORDER BY expires_at LIMIT {limit}) AS h"
}

query! {
    Postpone(task: Uuid, by: Duration) {
        id = task,
        by = by.as_secs_f64(),
    }
    "UPDATE agenda SET due_at = clock_timestamp() + make_interval(secs => {by}) WHERE task_id = {id}"
}

/// Returns at most `most` due tasks, as far as they fit into a batch, and at most `most` holds that have run out.
pub(super) async fn due(client: &ClientWrapper, most: usize) -> Result<Due> {
    let limit = i64::try_from(most).unwrap_or(i64::MAX);
    let (tasks, expired) = (DueTasks::prepare(client).await?, ExpiredHolds::prepare(client).await?);
    let (tasks, expired) = futures_util::join!(tasks.query(client, limit), expired.query(client, limit));
    let (tasks, expired) = (tasks?, expired?);
    let found = tasks.first().map_or(0, |row| row.get::<_, i64>("found"));
    let more = found > tasks.len() as i64 || found >= limit || expired.len() >= most;
    let task = |row: &tokio_postgres::Row| {
        let (request, properties): (Option<&str>, &str) = (row.get("request"), row.get("properties"));
        // They were serialized from the same struct.
        let properties: Properties = serde_json::from_str(properties).unwrap_or_default();
        Message::stored(request.unwrap_or_default().as_bytes().to_vec(), properties, row.get("received_at"))
    };
    let expired = expired.iter().map(|row| row.get("payment_id")).collect();
    Ok(Due { tasks: tasks.iter().map(task).collect(), expired, more })
}

/// Makes a waiting task due after `by`.
pub(super) async fn postpone(client: &ClientWrapper, task: Uuid, by: Duration) -> Result<()> {
    Postpone::prepare(client).await?.query(client, task, by).await.map(drop)
}

pub(super) async fn waiting(client: &ClientWrapper) -> Result<Waiting> {
    const AGENDA: &str = "
        SELECT count(*) FILTER (WHERE a.waits_for IS NULL) AS scheduled, count(a.waits_for) AS parked,
               coalesce(extract(epoch FROM clock_timestamp() - min(p.received_at) FILTER (WHERE a.waits_for IS NULL)), 0)::float8
               AS scheduled_oldest_seconds,
               coalesce(extract(epoch FROM clock_timestamp() - min(p.received_at) FILTER (WHERE a.waits_for IS NOT NULL)), 0)::float8
               AS parked_oldest_seconds
          FROM agenda a JOIN payment p ON p.id = a.task_id";
    const HOLDS: &str = "
        SELECT a.currency, count(*) AS holds,
               count(*) FILTER (WHERE h.expires_at < clock_timestamp() + interval '1 hour') AS expiring,
               sum(h.amount)::float8 AS amount
          FROM hold h JOIN account a ON a.id = h.account GROUP BY a.currency";
    let (agenda, holds) = (client.prepare_cached(AGENDA).await?, client.prepare_cached(HOLDS).await?);
    let (agenda, holds) = futures_util::join!(client.query_one(&agenda, &[]), client.query(&holds, &[]));
    let (agenda, holds) = (agenda?, holds?);
    let sum = |column: &str| holds.iter().map(|row| row.get::<_, i64>(column)).sum();
    Ok(Waiting {
        scheduled: agenda.get("scheduled"),
        parked: agenda.get("parked"),
        scheduled_oldest_seconds: agenda.get("scheduled_oldest_seconds"),
        parked_oldest_seconds: agenda.get("parked_oldest_seconds"),
        holds: sum("holds"),
        holds_expiring: sum("expiring"),
        held: holds.iter().map(|row| (row.get("currency"), row.get("amount"))).collect(),
    })
}
