//! A task with all that has become of it, step by step.

use jiff::Timestamp;
use serde::{Serialize, Serializer};
use tokio_postgres::{Client, GenericClient, IsolationLevel, Row};
use uuid::Uuid;

use super::{COLUMNS, Error, PaymentRow, StoredTask, load_tasks, payment_row, read};
use crate::contract::{EventKind, PaymentState};

/// A task, its way to where it stands, and the tasks around it.
#[derive(Clone, Debug)]
pub struct Life {
    /// The task itself.
    pub task: StoredTask,
    /// Every state that it has had, the first one first.
    pub steps: Vec<Step>,
    /// The tasks that act on it, in the order in which they were decided.
    pub follow_ups: Vec<StoredTask>,
    /// The payment that it acts on.
    pub parent: Option<Parent>,
    /// What it waits for, while it does.
    pub waits: Option<Waits>,
    /// The tasks that wait for it.
    pub awaited_by: Vec<Uuid>,
}

/// A state that a task has come to.
#[derive(Clone, Debug, Serialize)]
pub struct Step {
    /// The how manieth it is, from 1.
    pub version: i32,
    /// Where it came to.
    pub state: PaymentState,
    /// Its ISO 20022 status.
    pub iso_status: &'static str,
    /// When, by the database's clock. Of a task that waited first, when it was received.
    pub at: Timestamp,
    /// By which task, itself or another one; none is the clock.
    pub cause: Option<Uuid>,
    /// The event that tells it.
    pub event: EventName,
}

/// An event by its name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct EventName {
    /// `<task id>/<version>`
    pub id: String,
    /// Its type, and its routing key.
    #[serde(rename = "type", serialize_with = "kind_name")]
    pub kind: EventKind,
}

/// The payment that a follow-up acts on, in short.
#[derive(Clone, Debug, Serialize)]
pub struct Parent {
    /// As it stands.
    #[serde(flatten)]
    pub payment: PaymentRow,
    /// What the follow-up has done to it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub moved: Option<Moved>,
}

/// From where to where a payment was taken.
#[derive(Clone, Debug, Serialize)]
pub struct Moved {
    /// Its version since.
    pub version: i32,
    /// Where it was.
    pub from: PaymentState,
    /// Where it came to.
    pub to: PaymentState,
}

/// What a task waits for.
#[derive(Clone, Debug, Serialize)]
pub struct Waits {
    /// Another task; none is its time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub waits_for: Option<Uuid>,
    /// When it is looked at (again), unless that task wakes it.
    pub due_at: Timestamp,
    /// Its time; or when it is rejected, if what it waits for hasn't come.
    pub deadline: Timestamp,
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
fn kind_name<S: Serializer>(kind: &EventKind, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(kind.name())
}

impl EventName {
    fn new(id: Uuid, version: i32, kind: EventKind) -> Self {
        Self { id: format!("{id}/{version}"), kind }
    }

    /// The event with which a task has told where it stands.
    pub fn of(stored: &StoredTask) -> Self {
        let kind = EventKind::of(stored.task.body.task_type(), stored.state);
        Self::new(stored.task.id, stored.version, kind)
    }
}

impl Life {
    /// The task of that id and all around it, in one snapshot; `None` without one. Finds everything
    /// by keys and indexes.
    ///
    /// # Errors
    ///
    /// PostgreSQL's, and a row that no task could have become.
    pub async fn load(client: &mut Client, id: Uuid) -> Result<Option<Self>, Error> {
        let snapshot =
            client.build_transaction().isolation_level(IsolationLevel::RepeatableRead).read_only(true).start().await?;
        let Some(task) = load_tasks(&snapshot, &[id]).await?.pop() else { return Ok(None) };
        let follow_ups = follow_ups(&snapshot, id).await?;
        let steps = steps(&snapshot, &task, &follow_ups).await?;
        let parent = parent(&snapshot, &task).await?;
        let waits = snapshot.query_opt(WAITS, &[&id]).await?.map(|row| Waits {
            waits_for: row.get(0),
            due_at: row.get(1),
            deadline: row.get(2),
        });
        let awaited_by = snapshot.query(AWAITED_BY, &[&id]).await?.iter().map(|row| row.get(0)).collect();
        snapshot.commit().await?;
        Ok(Some(Self { task, steps, follow_ups, parent, waits, awaited_by }))
    }
}

const FOLLOW_UPS: &str = "SELECT id FROM payment WHERE parent_id = $1";
const STEPS: &str = "SELECT version, from_state::text, to_state::text, at, cause FROM transition WHERE payment_id = $1 ORDER BY version";
const MOVED: &str =
    "SELECT version, from_state::text, to_state::text FROM transition WHERE payment_id = $1 AND cause = $2";
const WAITS: &str = "SELECT waits_for, due_at, deadline FROM agenda WHERE task_id = $1";
const AWAITED_BY: &str = "SELECT task_id FROM agenda WHERE waits_for = $1 ORDER BY task_id";

async fn follow_ups(client: &impl GenericClient, id: Uuid) -> Result<Vec<StoredTask>, Error> {
    let ids: Vec<Uuid> = client.query(FOLLOW_UPS, &[&id]).await?.iter().map(|row| row.get(0)).collect();
    if ids.is_empty() {
        return Ok(Vec::new());
    }
    let mut follow_ups = load_tasks(client, &ids).await?;
    follow_ups.sort_by_key(|follow_up| (follow_up.settled_at, follow_up.task.id));
    Ok(follow_ups)
}

async fn steps(
    client: &impl GenericClient,
    stored: &StoredTask,
    follow_ups: &[StoredTask],
) -> Result<Vec<Step>, Error> {
    let (id, task_type) = (stored.task.id, stored.task.body.task_type());
    let rows = client.query(STEPS, &[&id]).await?;
    let first = match rows.first() {
        Some(row) => state(id, row, 1)?,
        None => stored.state,
    };
    let waited = first.is_pending() && rows.first().is_some_and(|row| row.get::<_, Option<Uuid>>(4) == Some(id));
    let mut steps = vec![Step {
        version: 1,
        state: first,
        iso_status: first.iso_status(),
        // The row remembers only when the task was decided last.
        at: if waited { stored.received_at } else { stored.settled_at },
        cause: Some(id),
        event: EventName::new(id, 1, EventKind::of(task_type, first)),
    }];
    for row in &rows {
        let (version, state, cause) = (row.get(0), state(id, row, 2)?, row.get(4));
        let by = follow_ups.iter().find(|follow_up| Some(follow_up.task.id) == cause);
        let event = match (cause, by) {
            (_, Some(follow_up)) => EventName::of(follow_up),
            (None, _) => EventName::new(id, version, EventKind::PaymentExpired),
            (Some(_), None) => EventName::new(id, version, EventKind::of(task_type, state)),
        };
        steps.push(Step { version, state, iso_status: state.iso_status(), at: row.get(3), cause, event });
    }
    Ok(steps)
}

async fn parent(client: &impl GenericClient, stored: &StoredTask) -> Result<Option<Parent>, Error> {
    let Some(id) = stored.task.body.payment_id() else { return Ok(None) };
    let one = format!("SELECT {COLUMNS} FROM payment_named WHERE id = $1");
    let Some(row) = client.query_opt(&one, &[&id]).await? else { return Ok(None) };
    let moved = client.query_opt(MOVED, &[&id, &stored.task.id]).await?;
    let moved = moved
        .map(|row| Ok::<_, Error>(Moved { version: row.get(0), from: state(id, &row, 1)?, to: state(id, &row, 2)? }));
    Ok(Some(Parent { payment: payment_row(&row), moved: moved.transpose()? }))
}

fn state(id: Uuid, row: &Row, column: usize) -> Result<PaymentState, Error> {
    read(id, "state", row.get(column), PaymentState::from_name)
}
