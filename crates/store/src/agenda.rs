//! Scheduled and parked tasks, and holds that run out.
//!
//! What is due is compared with `statement_timestamp()`, which is stable. An index does not serve a comparison with
//! `clock_timestamp()`, which is volatile: all that waits would be read to find what is due. Outside a transaction the
//! two are the same.

use std::time::Duration;

use deadpool_postgres::ClientWrapper;
use uuid::Uuid;

use super::sql::query;
use settled_core::contract::{Message, Properties};
use settled_pipeline::store::{Due, MAX_BATCH_BYTES};

type Result<T> = std::result::Result<T, tokio_postgres::Error>;

query! {
    /// The rows are limited before they are joined, in the order of the index, and each is joined by itself. So no other
    /// rows are read than those that are returned and those that began to wait in the same statement as the last one,
    /// also by a plan that was made when nothing was due.
    DueTasks(limit: i64) {
        limit = limit,
        max_bytes = MAX_BATCH_BYTES as i64,
    }
    "WITH due AS (
         SELECT p.request, a.properties, p.received_at, a.due_at, a.since, p.id
           FROM (SELECT task_id, properties, due_at, since FROM agenda WHERE due_at <= statement_timestamp()
                  ORDER BY due_at, since FETCH FIRST ({limit}) ROWS WITH TIES) AS a
          CROSS JOIN LATERAL (SELECT id, request, received_at FROM payment WHERE id = a.task_id OFFSET 0) AS p
          ORDER BY a.due_at, a.since, p.received_at LIMIT {limit})
     SELECT request, properties::text, received_at, found FROM (
         SELECT due.*, count(*) OVER () AS found, coalesce(sum(octet_length(request)) OVER (
                    ORDER BY due_at, since, received_at, id ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING), 0) AS before
           FROM due) AS counted
      WHERE before < {max_bytes} ORDER BY due_at, since, received_at, id"
}

query! {
    ExpiredHolds(limit: i64) {
        limit = limit,
    }
    "SELECT DISTINCT payment_id FROM (
         SELECT payment_id FROM hold WHERE expires_at <= statement_timestamp() ORDER BY expires_at LIMIT {limit}) AS h"
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
