//! Dead letters: listed, read, and marked as resolved. Those that are resolved may be removed by `[retention]`.

use jiff::Timestamp;
use serde::Serialize;
use tokio_postgres::GenericClient;
use tokio_postgres::types::Json;
use uuid::Uuid;

use super::Error;
use crate::sql::{named, row};
use settled_core::contract::Properties;

row! {
    /// A dead letter without its body.
    #[derive(Clone, Debug, Serialize)]
    pub struct DeadLetterRow {
        pub id: i64,
        pub reason: String,
        /// The invalid field, if the reason is one.
        pub field: Option<String>,
        pub detail: String,
        /// The task's id, if it could be read.
        pub task_id: Option<Uuid>,
        pub publisher: Option<String>,
        /// Number of deliveries of the same message.
        pub attempts: i32,
        pub first_seen: Timestamp,
        pub last_seen: Timestamp,
        /// `replayed` or `discarded`; `None` if it is open.
        pub resolution: Option<String>,
        pub resolved_at: Option<Timestamp>,
    }
}

/// A dead letter with its body and properties.
#[derive(Clone, Debug)]
pub struct StoredDeadLetter {
    pub row: DeadLetterRow,
    /// The message's body, cut if it was oversize.
    pub body: Vec<u8>,
    pub properties: Properties,
}

#[derive(Clone, Copy, Debug, Default)]
pub struct Selection<'a> {
    pub ids: Option<&'a [i64]>,
    pub reason: Option<&'a str>,
    /// Also those that are resolved.
    pub resolved: bool,
}

macro_rules! columns {
    () => {
        "id, reason, field, detail, task_id, properties ->> 'publisher' AS publisher, attempts, first_seen, last_seen,
         resolution, resolved_at"
    };
}
macro_rules! selected {
    () => {
        "({ids}::bigint[] IS NULL OR id = ANY({ids})) AND ({reason}::text IS NULL OR reason = {reason})
         AND ({resolved} OR resolution IS NULL)"
    };
}

/// Returns the selected dead letters with an id below `before`, the newest first, at most `limit`.
pub async fn list(
    client: &impl GenericClient,
    selection: Selection<'_>,
    before: i64,
    limit: i64,
) -> Result<Vec<DeadLetterRow>, Error> {
    let Selection { ids, reason, resolved } = selection;
    let rows = named!(client.query(
        concat!(
            "SELECT ",
            columns!(),
            " FROM dead_letter WHERE ",
            selected!(),
            " AND id < {before} ORDER BY id DESC LIMIT {limit}"
        ),
        ids = ids,
        reason = reason,
        resolved = resolved,
        before = before,
        limit = limit,
    ));
    Ok(rows?.iter().map(DeadLetterRow::from).collect())
}

/// Returns the selected dead letters with an id above `after` and their bodies, at most `limit`.
pub async fn load(
    client: &impl GenericClient,
    selection: Selection<'_>,
    after: i64,
    limit: i64,
) -> Result<Vec<StoredDeadLetter>, Error> {
    let Selection { ids, reason, resolved } = selection;
    let rows = named!(client.query(
        concat!(
            "SELECT ",
            columns!(),
            ", body, properties FROM dead_letter WHERE ",
            selected!(),
            " AND id > {after} ORDER BY id LIMIT {limit}"
        ),
        ids = ids,
        reason = reason,
        resolved = resolved,
        after = after,
        limit = limit,
    ));
    rows?
        .iter()
        .map(|row| {
            let Json(properties) = row.try_get("properties")?;
            Ok(StoredDeadLetter { row: row.into(), body: row.get("body"), properties })
        })
        .collect()
}

/// How a dead letter was resolved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resolution {
    /// Published again.
    Replayed,
    /// Will not be published again.
    Discarded,
}

impl Resolution {
    const fn name(self) -> &'static str {
        match self {
            Self::Replayed => "replayed",
            Self::Discarded => "discarded",
        }
    }
}

/// Marks dead letters as resolved, given by their ids and numbers of attempts. Returns the ids of those that were
/// marked; the others were delivered again since they were read.
pub async fn resolve(
    client: &impl GenericClient,
    seen: &[(i64, i32)],
    resolution: Resolution,
) -> Result<Vec<i64>, Error> {
    let (ids, attempts): (Vec<i64>, Vec<i32>) = seen.iter().copied().unzip();
    // A message that was delivered again since it was read has one more attempt, and stays open.
    let rows = named!(client.query(
        "UPDATE dead_letter d SET resolution = {resolution}, resolved_at = clock_timestamp()
           FROM unnest({ids}::bigint[], {attempts}::int[]) AS seen (id, attempts)
          WHERE d.id = seen.id AND d.attempts = seen.attempts
         RETURNING d.id",
        ids = ids,
        attempts = attempts,
        resolution = resolution.name(),
    ));
    let mut marked: Vec<i64> = rows?.iter().map(|row| row.get("id")).collect();
    marked.sort_unstable();
    Ok(marked)
}

/// Returns, for each of these tasks with dead letters, the number of attempts and the last detail.
pub async fn attempts(client: &impl GenericClient, task_ids: &[Uuid]) -> Result<Vec<(Uuid, i64, String)>, Error> {
    let rows = named!(client.query(
        "SELECT task_id, sum(attempts) AS attempts, (array_agg(detail ORDER BY last_seen DESC))[1] AS detail
           FROM dead_letter WHERE task_id = ANY({task_ids}) GROUP BY task_id",
        task_ids = task_ids,
    ));
    Ok(rows?.iter().map(|row| (row.get("task_id"), row.get("attempts"), row.get("detail"))).collect())
}

/// Returns the last dead letter with this task id or, if there is none, with this `message_id`. The latter has no
/// index: only operators search for it.
pub async fn of_task(client: &impl GenericClient, task: Uuid) -> Result<Option<DeadLetterRow>, Error> {
    let by_id = named!(client.query_opt(
        concat!("SELECT ", columns!(), " FROM dead_letter WHERE task_id = {task} ORDER BY last_seen DESC LIMIT 1"),
        task = task,
    ));
    if let Some(row) = by_id? {
        return Ok(Some((&row).into()));
    }
    let by_message_id = named!(client.query_opt(
        concat!(
            "SELECT ",
            columns!(),
            " FROM dead_letter WHERE lower(properties ->> 'message_id') = {task} ORDER BY last_seen DESC LIMIT 1"
        ),
        task = task.to_string(),
    ));
    Ok(by_message_id?.as_ref().map(DeadLetterRow::from))
}
