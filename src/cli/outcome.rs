//! Waits for the outcomes of published tasks by polling the ledger.

use std::collections::HashMap;
use std::time::Duration;

use jiff::Timestamp;
use serde::{Serialize, Serializer};
use settled_core::contract::{PaymentState, Task};
use settled_store::Client;
use settled_store::queries::payment::{StoredTask, load_tasks};
use settled_store::queries::{Error, dead_letter};
use tokio::time::{Instant, sleep, timeout_at};
use uuid::Uuid;

use super::Exit;
use super::payment::Shown;

/// The number of tasks per query.
const CHUNK: usize = 1000;

/// How long to wait, after the deadline, until outcomes found just before it are durable.
const LAST_WAIT: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub(super) enum Outcome {
    /// A payment; it may still be scheduled or parked.
    Payment(Box<StoredTask>),
    /// The message became a dead letter.
    DeadLetter { id: Uuid, detail: String },
    /// No outcome was found in time.
    Unknown { id: Uuid },
}

impl Outcome {
    /// Returns how a command ends that publishes the task: with success if it is done, or scheduled as requested.
    pub(super) fn exit(&self) -> Exit {
        match self {
            Self::DeadLetter { .. } => Exit::Failure,
            Self::Unknown { .. } => Exit::Unavailable,
            Self::Payment(stored) => match stored.state {
                state if state.is_failed() => Exit::Failure,
                PaymentState::Scheduled if is_scheduled_after(stored, Timestamp::now()) => Exit::Ok,
                state if state.is_pending() => Exit::Unavailable,
                _ => Exit::Ok,
            },
        }
    }

    /// Returns whether it can change until `deadline`.
    fn may_change(&self, deadline: Timestamp) -> bool {
        match self {
            Self::Payment(stored) => stored.state.is_pending() && !is_scheduled_after(stored, deadline),
            Self::DeadLetter { .. } => false,
            Self::Unknown { .. } => true,
        }
    }
}

fn is_scheduled_after(stored: &StoredTask, moment: Timestamp) -> bool {
    stored.state == PaymentState::Scheduled && stored.task.when.execute_at.is_some_and(|at| at > moment)
}

impl Serialize for Outcome {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Other<'a> {
            id: Uuid,
            state: &'static str,
            #[serde(skip_serializing_if = "Option::is_none")]
            detail: Option<&'a str>,
        }
        match self {
            Self::Payment(stored) => Shown(stored).serialize(serializer),
            Self::DeadLetter { id, detail } => {
                Other { id: *id, state: "dead_letter", detail: Some(detail) }.serialize(serializer)
            }
            Self::Unknown { id } => Other { id: *id, state: "unknown", detail: None }.serialize(serializer),
        }
    }
}

/// Waits for the outcomes of tasks that are published after [`start`](Self::start).
pub(super) struct OutcomeWatch {
    /// The attempts of dead letters before publishing: a dead letter of an earlier message with the same id says nothing
    /// about this one.
    attempts: HashMap<Uuid, i64>,
}

impl OutcomeWatch {
    /// Call it right before publishing.
    pub(super) async fn start(client: &Client, tasks: &[Task]) -> Result<Self, Error> {
        let mut attempts = HashMap::new();
        for chunk in tasks.chunks(CHUNK) {
            let ids: Vec<Uuid> = chunk.iter().map(|task| task.id).collect();
            attempts.extend(dead_letter::attempts(client, &ids).await?.into_iter().map(|(id, n, _)| (id, n)));
        }
        Ok(Self { attempts })
    }

    /// Waits until each task has an outcome or `limit` is over. Returns the outcomes in the order of the tasks. It waits
    /// for parked tasks, but not for those scheduled for later than `limit`.
    pub(super) async fn wait(self, client: &Client, tasks: &[Task], limit: Duration) -> Result<Vec<Outcome>, Error> {
        let deadline = Instant::now() + limit;
        let until = Timestamp::now().saturating_add(limit).unwrap_or(Timestamp::MAX);
        let is_open = |outcome: &Option<Outcome>| outcome.as_ref().is_none_or(|outcome| outcome.may_change(until));
        let mut outcomes: Vec<Option<Outcome>> = tasks.iter().map(|_| None).collect();
        let mut pause = Duration::from_millis(10);
        loop {
            let waiting: Vec<usize> = (0..tasks.len()).filter(|&n| is_open(&outcomes[n])).collect();
            if waiting.is_empty() || Instant::now() >= deadline {
                break;
            }
            let mut progress = false;
            for chunk in waiting.chunks(CHUNK) {
                self.query(client, tasks, chunk, &mut outcomes).await?;
                let found = chunk.iter().filter(|&&n| !is_open(&outcomes[n])).count();
                progress |= found > 0;
                // Tasks are mostly processed in their order, so later ones have no outcome either.
                if chunk.iter().any(|&n| outcomes[n].is_none()) {
                    break;
                }
            }
            pause = if progress { Duration::from_millis(10) } else { (pause * 2).min(Duration::from_millis(250)) };
            sleep(pause.min(deadline.saturating_duration_since(Instant::now()))).await;
        }
        if outcomes.iter().any(Option::is_some) {
            // A commit can be visible before the standby has it. An outcome counts once it is as durable as the daemon
            // needs it to be before it acknowledges.
            let until = deadline.max(Instant::now() + LAST_WAIT);
            match timeout_at(until, settled_store::durable(client)).await {
                Ok(durable) => durable?,
                Err(_) => outcomes.iter_mut().for_each(|outcome| *outcome = None),
            }
        }
        Ok(outcomes
            .into_iter()
            .zip(tasks)
            .map(|(outcome, task)| outcome.unwrap_or(Outcome::Unknown { id: task.id }))
            .collect())
    }

    /// Queries the outcomes of the tasks with the indexes in `chunk`.
    async fn query(
        &self,
        client: &Client,
        tasks: &[Task],
        chunk: &[usize],
        outcomes: &mut [Option<Outcome>],
    ) -> Result<(), Error> {
        let ids: Vec<Uuid> = chunk.iter().map(|&n| tasks[n].id).collect();
        let stored: HashMap<Uuid, StoredTask> =
            load_tasks(client, &ids).await?.into_iter().map(|stored| (stored.task.id, stored)).collect();
        let dead: HashMap<Uuid, (i64, String)> =
            dead_letter::attempts(client, &ids).await?.into_iter().map(|(id, n, detail)| (id, (n, detail))).collect();
        for &n in chunk {
            let task = &tasks[n];
            outcomes[n] = match (stored.get(&task.id), dead.get(&task.id)) {
                (Some(stored), _) => Some(match stored.task.differs_from(task) {
                    None => Outcome::Payment(Box::new(stored.clone())),
                    Some(field) => conflict(task.id, field),
                }),
                (None, Some((n, detail))) if *n > self.attempts.get(&task.id).copied().unwrap_or_default() => {
                    Some(Outcome::DeadLetter { id: task.id, detail: detail.clone() })
                }
                _ => None,
            };
        }
        Ok(())
    }
}

/// Returns the outcome of a task whose id belongs to a different task: it will be a dead letter.
fn conflict(id: Uuid, field: &str) -> Outcome {
    Outcome::DeadLetter { id, detail: format!("`{field}` differs from that of the payment with this id") }
}
