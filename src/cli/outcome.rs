//! Waits for what becomes of published tasks, by asking the ledger.

use std::collections::HashMap;
use std::time::Duration;

use crate::store::Client;
use serde::{Serialize, Serializer};
use tokio::time::{Instant, sleep};
use uuid::Uuid;

use super::payment::Shown;
use crate::contract::Task;
use crate::store::queries::payment::{StoredTask, load_tasks};
use crate::store::queries::{Error, dead_letter};

/// How many tasks are asked for at a time.
const CHUNK: usize = 1000;

/// What became of a task.
#[derive(Debug)]
pub(super) enum Outcome {
    /// A payment.
    Payment(Box<StoredTask>),
    /// Nothing: its message is a dead letter.
    DeadLetter {
        /// The task's id.
        id: Uuid,
        /// Why.
        detail: String,
    },
    /// Nothing was heard of it in time.
    Unknown {
        /// The task's id.
        id: Uuid,
    },
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

/// What was there before the tasks were published. A dead letter of an earlier message with
/// the same id says nothing about this one.
pub(super) struct Before {
    attempts: HashMap<Uuid, i64>,
}

impl Before {
    /// Looks, right before publishing.
    pub(super) async fn look(client: &Client, tasks: &[Task]) -> Result<Self, Error> {
        let mut attempts = HashMap::new();
        for chunk in tasks.chunks(CHUNK) {
            let ids: Vec<Uuid> = chunk.iter().map(|task| task.id).collect();
            attempts.extend(dead_letter::attempts(client, &ids).await?.into_iter().map(|(id, n, _)| (id, n)));
        }
        Ok(Self { attempts })
    }

    /// Waits until each of the tasks has an outcome, or the time is over: the outcomes, in the
    /// order of the tasks.
    pub(super) async fn wait(self, client: &Client, tasks: &[Task], limit: Duration) -> Result<Vec<Outcome>, Error> {
        let deadline = Instant::now() + limit;
        let mut outcomes: Vec<Option<Outcome>> = tasks.iter().map(|_| None).collect();
        let mut pause = Duration::from_millis(10);
        loop {
            let waiting: Vec<usize> = (0..tasks.len()).filter(|&n| outcomes[n].is_none()).collect();
            if waiting.is_empty() || Instant::now() >= deadline {
                break;
            }
            let mut progress = false;
            for chunk in waiting.chunks(CHUNK) {
                let found = self.ask(client, tasks, chunk, &mut outcomes).await?;
                progress |= found > 0;
                if found < chunk.len() {
                    break;
                }
            }
            pause = if progress { Duration::from_millis(10) } else { (pause * 2).min(Duration::from_millis(250)) };
            sleep(pause.min(deadline.saturating_duration_since(Instant::now()))).await;
        }
        Ok(outcomes
            .into_iter()
            .zip(tasks)
            .map(|(outcome, task)| outcome.unwrap_or(Outcome::Unknown { id: task.id }))
            .collect())
    }

    /// Asks for the outcomes of the tasks numbered in `chunk`; how many there are.
    async fn ask(
        &self,
        client: &Client,
        tasks: &[Task],
        chunk: &[usize],
        outcomes: &mut [Option<Outcome>],
    ) -> Result<usize, Error> {
        let ids: Vec<Uuid> = chunk.iter().map(|&n| tasks[n].id).collect();
        let stored: HashMap<Uuid, StoredTask> =
            load_tasks(client, &ids).await?.into_iter().map(|stored| (stored.task.id, stored)).collect();
        let dead: HashMap<Uuid, (i64, String)> =
            dead_letter::attempts(client, &ids).await?.into_iter().map(|(id, n, detail)| (id, (n, detail))).collect();
        let mut found = 0;
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
            found += usize::from(outcomes[n].is_some());
        }
        Ok(found)
    }
}

/// The id has its outcome for another task: this one will be a dead letter.
fn conflict(id: Uuid, field: &str) -> Outcome {
    Outcome::DeadLetter { id, detail: format!("`{field}` differs from that of the payment with this id") }
}
