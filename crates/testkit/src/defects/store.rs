//! Defects between the pipeline and the store.

use std::time::Duration;

use settled_core::contract::TaskBody;
use settled_core::ledger::Pending;
use settled_pipeline::store::{Answer, BatchStore, Committed, Due, StoreError, Submission};
use uuid::Uuid;

use super::{Defect, Defective, INTERVAL, forged};

/// Delay between the acknowledgement and the commit. It is longer than all other work for a batch, so that a killed
/// daemon is most likely killed during the delay.
const GAP: Duration = Duration::from_millis(100);

impl<S: BatchStore> BatchStore for Defective<S> {
    async fn commit(
        &self,
        batch: &[Submission<'_>],
        expired: &[Uuid],
        pending: &(impl Pending + Sync),
        leased: bool,
    ) -> Result<Committed, StoreError> {
        match self.defect {
            Some(Defect::LostMessage) => {
                let kept: Vec<Submission<'_>> =
                    batch.iter().filter(|submission| !is_lost(submission)).copied().collect();
                let committed = self.inner.commit(&kept, expired, pending, leased).await?;
                Ok(if kept.len() < batch.len() { with_the_lost(batch, committed) } else { committed })
            }
            Some(Defect::CommitErrorSwallowed) => match self.inner.commit(batch, expired, pending, leased).await {
                Err(StoreError::OutcomeUnknown(_)) => Ok(made_up(batch)),
                committed => committed,
            },
            Some(Defect::AckBeforeCommit) => {
                tokio::time::sleep(GAP).await;
                self.inner.commit(batch, expired, pending, leased).await
            }
            _ => self.inner.commit(batch, expired, pending, leased).await,
        }
    }

    async fn due(&self, most: usize) -> Result<Due, StoreError> {
        self.inner.due(most).await
    }

    async fn postpone(&self, task: Uuid, by: Duration) -> Result<(), StoreError> {
        self.inner.postpone(task, by).await
    }
}

/// Returns true for one in [`INTERVAL`] arrivals, if it is a plain payment. Opening accounts is never lost: without
/// accounts there is no load.
fn is_lost(submission: &Submission<'_>) -> bool {
    let is_payment = submission.content.is_ok_and(|task| matches!(task.body, TaskBody::Transfer(_)));
    is_payment && (submission.arrival.0 + 1).is_multiple_of(INTERVAL)
}

/// Returns the outcomes of `batch`, with `Settled` for the lost submissions, which were never committed.
fn with_the_lost(batch: &[Submission<'_>], committed: Committed) -> Committed {
    let mut kept = committed.answers.into_iter();
    let answer = |submission| if is_lost(submission) { Some(Answer::Settled) } else { kept.next() };
    let answers = batch.iter().map_while(answer).collect();
    Committed { proof: committed.proof.or(Some(forged())), answers, ..committed }
}

/// Returns the outcomes of `batch` as if all of it were committed.
fn made_up(batch: &[Submission<'_>]) -> Committed {
    let answers = batch.iter().map(|submission| match submission.content {
        Ok(_) => Answer::Settled,
        Err(letter) => Answer::DeadLettered(letter.reason),
    });
    Committed {
        proof: Some(forged()),
        answers: answers.collect(),
        event_batch: None,
        stream_batch: None,
        woken: 0,
        expired: 0,
        shortfalls: 0,
    }
}
