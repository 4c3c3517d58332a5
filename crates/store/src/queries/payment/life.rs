//! The life of a task: its states, its follow-ups and the tasks it waits for.

use jiff::Timestamp;
use serde::{Serialize, Serializer};
use tokio_postgres::{Client, GenericClient, IsolationLevel, Row};
use uuid::Uuid;

use super::{Error, PaymentRow, StoredTask, columns, load_tasks, payment_row, read};
use crate::sql::{named, row};
use settled_core::contract::{EventKind, PaymentState};

/// A task, its states, and the tasks around it.
#[derive(Clone, Debug)]
pub struct Life {
    pub task: StoredTask,
    /// Its states, in order.
    pub steps: Vec<Step>,
    /// The tasks that act on it, in the order in which they were decided.
    pub follow_ups: Vec<StoredTask>,
    /// The payment that it acts on.
    pub parent: Option<Parent>,
    /// What it waits for; `None` if it does not wait.
    pub waits: Option<Waits>,
    /// The tasks that wait for it.
    pub awaited_by: Vec<Uuid>,
}

#[derive(Clone, Debug, Serialize)]
pub struct Step {
    /// Number of the state, from 1.
    pub version: i32,
    pub state: PaymentState,
    pub iso_status: &'static str,
    /// Time by the database's clock; for the first state of a task that has waited, when it was received.
    pub at: Timestamp,
    /// The task that caused it, which can be the task itself; `None` if a hold ran out.
    pub cause: Option<Uuid>,
    /// The event that reports it.
    pub event: EventName,
}

/// Id and type of an event.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct EventName {
    /// `<task id>/<version>`
    pub id: String,
    /// The type, which is the routing key as well.
    #[serde(rename = "type", serialize_with = "kind_name")]
    pub kind: EventKind,
}

/// The payment that a follow-up acts on.
#[derive(Clone, Debug, Serialize)]
pub struct Parent {
    #[serde(flatten)]
    pub payment: PaymentRow,
    /// The change of state that the follow-up has caused.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub moved: Option<Moved>,
}

#[derive(Clone, Debug, Serialize)]
pub struct Moved {
    pub version: i32,
    pub from: PaymentState,
    pub to: PaymentState,
}

row! {
    #[derive(Clone, Debug, Serialize)]
    pub struct Waits {
        /// The awaited task; `None` if it waits for its time.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub waits_for: Option<Uuid>,
        /// When it is tried next, unless the awaited task makes it due before.
        pub due_at: Timestamp,
        /// When a scheduled task is applied, or a parked one rejected.
        pub deadline: Timestamp,
    }
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
fn kind_name<S: Serializer>(kind: &EventKind, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(kind.name())
}

impl EventName {
    fn new(id: Uuid, version: i32, kind: EventKind) -> Self {
        Self { id: format!("{id}/{version}"), kind }
    }

    /// Returns the event that reports the current state of a task.
    pub fn of(stored: &StoredTask) -> Self {
        let kind = EventKind::of(stored.task.body.task_type(), stored.state);
        Self::new(stored.task.id, stored.version, kind)
    }
}

impl Life {
    /// Returns the task with that id and the tasks around it, in one snapshot. Only keys and indexes are used.
    ///
    /// # Errors
    ///
    /// Also if a row holds a value that is not in the contract.
    pub async fn load(client: &mut Client, id: Uuid) -> Result<Option<Self>, Error> {
        let snapshot =
            client.build_transaction().isolation_level(IsolationLevel::RepeatableRead).read_only(true).start().await?;
        let Some(task) = load_tasks(&snapshot, &[id]).await?.pop() else { return Ok(None) };
        let follow_ups = follow_ups(&snapshot, id).await?;
        let steps = steps(&snapshot, &task, &follow_ups).await?;
        let parent = parent(&snapshot, &task).await?;
        let waits = named!(snapshot.query_opt(WAITS, id = id))?.as_ref().map(Waits::from);
        let awaited_by = named!(snapshot.query(AWAITED_BY, id = id))?.iter().map(|row| row.get("task_id")).collect();
        snapshot.commit().await?;
        Ok(Some(Self { task, steps, follow_ups, parent, waits, awaited_by }))
    }
}

const FOLLOW_UPS: &str = "SELECT id FROM payment WHERE parent_id = {id}";
const STEPS: &str = "
    SELECT version, from_state::text, to_state::text, at, cause FROM transition WHERE payment_id = {id} ORDER BY version";
const MOVED: &str =
    "SELECT version, from_state::text, to_state::text FROM transition WHERE payment_id = {id} AND cause = {cause}";
const WAITS: &str = "SELECT waits_for, due_at, deadline FROM agenda WHERE task_id = {id}";
const AWAITED_BY: &str = "SELECT task_id FROM agenda WHERE waits_for = {id} ORDER BY task_id";

async fn follow_ups(client: &impl GenericClient, id: Uuid) -> Result<Vec<StoredTask>, Error> {
    let ids: Vec<Uuid> = named!(client.query(FOLLOW_UPS, id = id))?.iter().map(|row| row.get("id")).collect();
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
    let rows = named!(client.query(STEPS, id = id))?;
    let first = match rows.first() {
        Some(row) => state(id, row, "from_state")?,
        None => stored.state,
    };
    let waited = first.is_pending() && rows.first().is_some_and(|row| row.get::<_, Option<Uuid>>("cause") == Some(id));
    let mut steps = vec![Step {
        version: 1,
        state: first,
        iso_status: first.iso_status(),
        // The row has only the time of the last decision.
        at: if waited { stored.received_at } else { stored.settled_at },
        cause: Some(id),
        event: EventName::new(id, 1, EventKind::of(task_type, first)),
    }];
    for row in &rows {
        let (version, state, cause) = (row.get("version"), state(id, row, "to_state")?, row.get("cause"));
        let by = follow_ups.iter().find(|follow_up| Some(follow_up.task.id) == cause);
        let event = match (cause, by) {
            (_, Some(follow_up)) => EventName::of(follow_up),
            (None, _) => EventName::new(id, version, EventKind::PaymentExpired),
            (Some(_), None) => EventName::new(id, version, EventKind::of(task_type, state)),
        };
        steps.push(Step { version, state, iso_status: state.iso_status(), at: row.get("at"), cause, event });
    }
    Ok(steps)
}

async fn parent(client: &impl GenericClient, stored: &StoredTask) -> Result<Option<Parent>, Error> {
    let Some(id) = stored.task.body.payment_id() else { return Ok(None) };
    let one = named!(client.query_opt(concat!("SELECT ", columns!(), " FROM payment_named WHERE id = {id}"), id = id));
    let Some(row) = one? else { return Ok(None) };
    let moved = named!(client.query_opt(MOVED, id = id, cause = stored.task.id))?.map(|row| {
        let (from, to) = (state(id, &row, "from_state")?, state(id, &row, "to_state")?);
        Ok::<_, Error>(Moved { version: row.get("version"), from, to })
    });
    Ok(Some(Parent { payment: payment_row(&row), moved: moved.transpose()? }))
}

fn state(id: Uuid, row: &Row, column: &str) -> Result<PaymentState, Error> {
    read(id, "state", row.get(column), PaymentState::from_name)
}
