//! Waits for the outcomes of published tasks by polling the ledger.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use jiff::Timestamp;
use serde::{Serialize, Serializer};
use settled_core::contract::{PaymentState, Task};
use settled_store::Client;
use settled_store::queries::payment::{StoredTask, load_tasks};
use settled_store::queries::{Error, dead_letter};
use tokio::time::{Instant, sleep_until, timeout_at};
use uuid::Uuid;

use super::Exit;
use super::payment::Shown;

/// The number of tasks per query.
pub(super) const CHUNK: usize = 1000;

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

/// When to stop waiting.
#[derive(Clone, Copy)]
pub(super) struct Deadline {
    at: Instant,
    /// The same moment, to compare with the times of tasks.
    until: Timestamp,
}

impl Deadline {
    pub(super) fn after(limit: Duration) -> Self {
        let until = Timestamp::now().saturating_add(limit).unwrap_or(Timestamp::MAX);
        Self { at: Instant::now() + limit, until }
    }

    fn is_over(self) -> bool {
        Instant::now() >= self.at
    }
}

/// Waits for the outcomes of tasks that are published after [`look`](Self::look). It keeps four bytes for each task that
/// has not been waited for.
#[derive(Default)]
pub(super) struct OutcomeWatch {
    /// The attempts of each task's dead letters before publishing: a dead letter of an earlier message with the same id
    /// says nothing about this one.
    attempts: VecDeque<u32>,
    /// The standby did not confirm in time what was found, and the connection still waits for it.
    is_stuck: bool,
}

impl OutcomeWatch {
    /// Call it for all tasks, in their order and at most [`CHUNK`] at a time, right before publishing.
    pub(super) async fn look(&mut self, client: &Client, tasks: &[Task]) -> Result<(), Error> {
        let attempts: HashMap<Uuid, i64> =
            dead_letter::attempts(client, &ids(tasks)).await?.into_iter().map(|(id, n, _)| (id, n)).collect();
        let of = |task: &Task| attempts.get(&task.id).copied().unwrap_or_default();
        self.attempts.extend(tasks.iter().map(|task| u32::try_from(of(task)).unwrap_or(u32::MAX)));
        Ok(())
    }

    /// Waits until each of these tasks has an outcome or the deadline is over. Returns the outcomes in the order of the
    /// tasks. It waits for parked tasks, but not for those scheduled for later than the deadline.
    ///
    /// The tasks are the next ones after those of the last call, at most [`CHUNK`].
    pub(super) async fn wait(
        &mut self,
        client: &Client,
        tasks: &[Task],
        deadline: Deadline,
    ) -> Result<Vec<Outcome>, Error> {
        let before: Vec<u32> = self.attempts.drain(..tasks.len().min(self.attempts.len())).collect();
        let is_open =
            |outcome: &Option<Outcome>| outcome.as_ref().is_none_or(|outcome| outcome.may_change(deadline.until));
        let mut outcomes: Vec<Option<Outcome>> = tasks.iter().map(|_| None).collect();
        let mut pause = Duration::from_millis(10);
        loop {
            if self.is_stuck {
                break;
            }
            let open: Vec<usize> = (0..tasks.len()).filter(|&n| is_open(&outcomes[n])).collect();
            query(client, tasks, &before, &open, &mut outcomes).await?;
            let left = outcomes.iter().filter(|outcome| is_open(outcome)).count();
            if left == 0 || deadline.is_over() {
                break;
            }
            pause =
                if left < open.len() { Duration::from_millis(10) } else { (pause * 2).min(Duration::from_millis(250)) };
            sleep_until((Instant::now() + pause).min(deadline.at)).await;
        }
        if outcomes.iter().any(Option::is_some) {
            // A commit can be visible before the standby has it. An outcome counts once it is as durable as the daemon
            // needs it to be before it acknowledges.
            let until = deadline.at.max(Instant::now() + LAST_WAIT);
            match timeout_at(until, settled_store::durable(client)).await {
                Ok(durable) => durable?,
                Err(_) => {
                    self.is_stuck = true;
                    outcomes.iter_mut().for_each(|outcome| *outcome = None);
                }
            }
        }
        let unknown = |task: &Task| Outcome::Unknown { id: task.id };
        Ok(outcomes.into_iter().zip(tasks).map(|(found, task)| found.unwrap_or_else(|| unknown(task))).collect())
    }
}

fn ids(tasks: &[Task]) -> Vec<Uuid> {
    tasks.iter().map(|task| task.id).collect()
}

/// Queries the outcomes of the tasks with the indexes in `open`, which had so many attempts `before`.
async fn query(
    client: &Client,
    tasks: &[Task],
    before: &[u32],
    open: &[usize],
    outcomes: &mut [Option<Outcome>],
) -> Result<(), Error> {
    let ids: Vec<Uuid> = open.iter().map(|&n| tasks[n].id).collect();
    let stored: HashMap<Uuid, StoredTask> =
        load_tasks(client, &ids).await?.into_iter().map(|stored| (stored.task.id, stored)).collect();
    let dead: HashMap<Uuid, (i64, String)> =
        dead_letter::attempts(client, &ids).await?.into_iter().map(|(id, n, detail)| (id, (n, detail))).collect();
    for &n in open {
        let task = &tasks[n];
        outcomes[n] = match (stored.get(&task.id), dead.get(&task.id)) {
            (Some(stored), _) => Some(match stored.task.differs_from(task) {
                None => Outcome::Payment(Box::new(stored.clone())),
                Some(field) => conflict(task.id, field),
            }),
            (None, Some((attempts, detail))) if *attempts > before.get(n).copied().unwrap_or_default().into() => {
                Some(Outcome::DeadLetter { id: task.id, detail: detail.clone() })
            }
            _ => None,
        };
    }
    Ok(())
}

/// Returns the outcome of a task whose id belongs to a different task: it will be a dead letter.
fn conflict(id: Uuid, field: &str) -> Outcome {
    Outcome::DeadLetter { id, detail: format!("`{field}` differs from that of the payment with this id") }
}
