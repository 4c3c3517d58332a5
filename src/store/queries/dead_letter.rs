//! Messages that could not become a payment: found, read, and marked as dealt with. Nothing
//! deletes one.

use jiff::Timestamp;
use serde::Serialize;
use tokio_postgres::types::Json;
use tokio_postgres::{GenericClient, Row};
use uuid::Uuid;

use super::Error;
use crate::contract::Properties;

/// A dead letter without its body.
#[derive(Clone, Debug, Serialize)]
pub struct DeadLetterRow {
    /// Its number.
    pub id: i64,
    /// Why.
    pub reason: String,
    /// The field at fault, if one is.
    pub field: Option<String>,
    /// What is wrong, for people.
    pub detail: String,
    /// The task's id, where it could be read.
    pub task_id: Option<Uuid>,
    /// Who published it.
    pub publisher: Option<String>,
    /// How often the same message came.
    pub attempts: i32,
    /// When it first came.
    pub first_seen: Timestamp,
    /// When it last came.
    pub last_seen: Timestamp,
    /// `replayed` or `discarded`; none is open.
    pub resolution: Option<String>,
    /// When.
    pub resolved_at: Option<Timestamp>,
}

/// A dead letter with everything that came.
#[derive(Clone, Debug)]
pub struct StoredDeadLetter {
    /// What is said about it.
    pub row: DeadLetterRow,
    /// The message's body, the beginning of it if it was oversize.
    pub body: Vec<u8>,
    /// What came beside it.
    pub properties: Properties,
}

/// Which dead letters, in the order of their numbers.
#[derive(Clone, Copy, Debug, Default)]
pub struct Selection<'a> {
    /// Only these.
    pub ids: Option<&'a [i64]>,
    /// Only those with this reason.
    pub reason: Option<&'a str>,
    /// Also those that are dealt with.
    pub resolved: bool,
}

const COLUMNS: &str = "id, reason, field, detail, task_id, properties ->> 'publisher', attempts, first_seen, last_seen,
                       resolution, resolved_at";
const SELECTED: &str =
    "($1::bigint[] IS NULL OR id = ANY($1)) AND ($2::text IS NULL OR reason = $2) AND ($3 OR resolution IS NULL)";

/// The dead letters of the selection, the newest first, at most `limit`.
///
/// # Errors
///
/// PostgreSQL's.
pub async fn list(
    client: &impl GenericClient,
    selection: Selection<'_>,
    limit: i64,
) -> Result<Vec<DeadLetterRow>, Error> {
    let Selection { ids, reason, resolved } = selection;
    let sql = format!("SELECT {COLUMNS} FROM dead_letter WHERE {SELECTED} ORDER BY id DESC LIMIT $4");
    Ok(client.query(&sql, &[&ids, &reason, &resolved, &limit]).await?.iter().map(dead_letter).collect())
}

/// The next dead letters of the selection behind number `after`, with their bodies.
///
/// # Errors
///
/// PostgreSQL's.
pub async fn load(
    client: &impl GenericClient,
    selection: Selection<'_>,
    after: i64,
    limit: i64,
) -> Result<Vec<StoredDeadLetter>, Error> {
    let Selection { ids, reason, resolved } = selection;
    let sql = format!(
        "SELECT {COLUMNS}, body, properties FROM dead_letter WHERE {SELECTED} AND id > $4 ORDER BY id LIMIT $5"
    );
    let rows = client.query(&sql, &[&ids, &reason, &resolved, &after, &limit]).await?;
    rows.iter()
        .map(|row| {
            let Json(properties) = row.try_get(12)?;
            Ok(StoredDeadLetter { row: dead_letter(row), body: row.get(11), properties })
        })
        .collect()
}

/// What has become of dead letters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resolution {
    /// Published again.
    Replayed,
    /// Looked at, and left.
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

// A message that came back between the reading and the marking has one attempt more: it is
// open again, and stays so.
const MARK: &str = "
    UPDATE dead_letter d SET resolution = $3, resolved_at = clock_timestamp()
      FROM unnest($1::bigint[], $2::int[]) AS seen (id, attempts)
     WHERE d.id = seen.id AND d.attempts = seen.attempts
    RETURNING d.id";

/// Marks dead letters as dealt with, each as it was seen: number and attempts. The answer is
/// the numbers of those that were marked; the others have come again since.
///
/// # Errors
///
/// PostgreSQL's.
pub async fn resolve(
    client: &impl GenericClient,
    seen: &[(i64, i32)],
    resolution: Resolution,
) -> Result<Vec<i64>, Error> {
    let (ids, attempts): (Vec<i64>, Vec<i32>) = seen.iter().copied().unzip();
    let mut marked: Vec<i64> =
        client.query(MARK, &[&ids, &attempts, &resolution.name()]).await?.iter().map(|row| row.get(0)).collect();
    marked.sort_unstable();
    Ok(marked)
}

/// How often messages with these tasks' ids have become dead letters, so far.
///
/// # Errors
///
/// PostgreSQL's.
pub async fn attempts(client: &impl GenericClient, task_ids: &[Uuid]) -> Result<Vec<(Uuid, i64, String)>, Error> {
    const ATTEMPTS: &str = "SELECT task_id, sum(attempts), (array_agg(detail ORDER BY last_seen DESC))[1]
                              FROM dead_letter WHERE task_id = ANY($1) GROUP BY task_id";
    let rows = client.query(ATTEMPTS, &[&task_ids]).await?;
    Ok(rows.iter().map(|row| (row.get(0), row.get(1), row.get(2))).collect())
}

/// The last dead letter of a task: one with its id, or whose `message_id` says it. The latter has no
/// index, as somebody has to ask for it by hand.
///
/// # Errors
///
/// PostgreSQL's.
pub async fn of_task(client: &impl GenericClient, task: Uuid) -> Result<Option<DeadLetterRow>, Error> {
    let of = |which| format!("SELECT {COLUMNS} FROM dead_letter WHERE {which} ORDER BY last_seen DESC LIMIT 1");
    if let Some(row) = client.query_opt(&of("task_id = $1"), &[&task]).await? {
        return Ok(Some(dead_letter(&row)));
    }
    let by_message_id = of("lower(properties ->> 'message_id') = $1");
    Ok(client.query_opt(&by_message_id, &[&task.to_string()]).await?.as_ref().map(dead_letter))
}

fn dead_letter(row: &Row) -> DeadLetterRow {
    DeadLetterRow {
        id: row.get(0),
        reason: row.get(1),
        field: row.get(2),
        detail: row.get(3),
        task_id: row.get(4),
        publisher: row.get(5),
        attempts: row.get(6),
        first_seen: row.get(7),
        last_seen: row.get(8),
        resolution: row.get(9),
        resolved_at: row.get(10),
    }
}
