//! After the commit: the deliveries are settled, the figures kept.

use std::time::{Duration, Instant};

use jiff::Timestamp;
use tracing::field::display;
use tracing::{debug, warn};

use super::buffers::Buffer;
use super::{Delivery, Job, Pipeline};
use crate::contract::{AccountName, DeadReason, Rejection, Task};
use crate::disposition::Disposition;
use crate::lanes::{InFlight, LaneGuard};
use crate::ledger::{Arrival, Pending};
use crate::store::{Answer, BatchStore, Committed};
use crate::telemetry::labels::Outcome;
use crate::telemetry::metrics::observe;

/// What tasks set aside wait for: the account, and the arrival before which.
pub(super) type Waits = Vec<(AccountName, Arrival)>;

/// A batch that is committed, and whose deliveries don't know yet.
pub(super) struct Decided<'p, D> {
    jobs: Buffer<'p, Job<D>>,
    committed: Committed,
    at: (Timestamp, Instant),
}

impl<'p, D> Decided<'p, D> {
    /// `jobs` have been `committed` just now.
    pub(super) fn new(jobs: Buffer<'p, Job<D>>, committed: Committed) -> Self {
        Self { jobs, committed, at: (Timestamp::now(), Instant::now()) }
    }

    /// Its tasks, in order.
    pub(super) fn arrivals(&self) -> Vec<Arrival> {
        self.jobs.iter().map(|job| job.arrival).collect()
    }
}

/// What is still undecided for a lane's next batch: all that is in flight but the batch before, which
/// is committed, settled or not. A task that waited for it would let a later one of its lane go first.
pub(super) struct Undecided<'p> {
    in_flight: &'p InFlight,
    /// In order.
    committed: Vec<Arrival>,
}

impl<'p> Undecided<'p> {
    pub(super) const fn new(in_flight: &'p InFlight, committed: Vec<Arrival>) -> Self {
        Self { in_flight, committed }
    }
}

impl Pending for Undecided<'_> {
    fn earlier(&self, account: &AccountName, before: Arrival) -> Vec<Arrival> {
        let mut earlier = self.in_flight.earlier(account, before);
        earlier.retain(|arrival| self.committed.binary_search(arrival).is_err());
        earlier
    }
}

impl<S: BatchStore, D: Delivery> Pipeline<S, D> {
    /// Settles what was decided; answers what was set aside, and what it waits for.
    pub(super) fn settle(&self, lane: &LaneGuard<'_, Job<D>>, decided: Decided<'_, D>) -> (Waits, Vec<Job<D>>) {
        let Decided { mut jobs, committed: Committed { proof, answers, .. }, at } = decided;
        let is_aside = |answer: &Answer| Disposition::of_answer(answer) == Disposition::SetAside;
        let done = jobs.iter().zip(&answers).filter(|(_, answer)| !is_aside(answer));
        for woken in self.in_flight.done(done.map(|(job, _)| (job.arrival, job.message.content.as_ref().ok()))) {
            self.lanes.wake(woken);
        }
        let (mut waits, mut aside, mut settled) = (Waits::new(), Vec::new(), 0);
        for (job, answer) in jobs.drain(..).zip(answers) {
            if is_aside(&answer) {
                if let Answer::SetAside { waits_on: Some(account) } = answer {
                    waits.push((account, job.arrival));
                }
                aside.push(job);
                continue;
            }
            self.count(&job, &answer, at);
            job.delivery.settle(proof.as_ref().expect("what has an outcome has a proof"));
            settled += 1;
        }
        self.in_flight.settled(settled);
        lane.release(settled);
        self.health.progress().settled(settled);
        (waits, aside)
    }

    fn count(&self, job: &Job<D>, answer: &Answer, (now, instant): (Timestamp, Instant)) {
        let task = job.message.content.as_ref().ok();
        let Some(outcome) = Outcome::of(answer) else { return };
        if let Outcome::DeadLettered(reason) = outcome {
            self.metrics.dead_letters(reason).increment(1);
        }
        if let Outcome::DeadLettered(DeadReason::Forbidden) | Outcome::Rejected(Rejection::Forbidden) = outcome {
            self.metrics.forbidden(&job.message.properties).increment(1);
        }
        self.metrics.outcome(task.map(|task| task.body.task_type()), outcome).increment(1);
        observe(&self.metrics.receive_to_commit_seconds, instant - job.taken);
        if let Some(published) = job.message.published_at() {
            let waited = Duration::try_from(now.duration_since(published)).unwrap_or_default();
            observe(&self.metrics.publish_to_commit_seconds, waited);
        }
        log(job, task, outcome);
    }
}

fn log<D>(job: &Job<D>, task: Option<&Task>, outcome: Outcome) {
    let traceparent = job.message.properties.traceparent.as_deref();
    let (name, reason) = (outcome.name(), outcome.reason());
    match (outcome, task) {
        (Outcome::DeadLettered(_), _) => {
            let detail = job.message.content.as_ref().err().map(|letter| letter.detail.as_str());
            let id = job.message.content.as_ref().map_or_else(|letter| letter.task_id, |task| Some(task.id));
            let (id, publisher) = (id.map(display), job.message.properties.publisher.as_deref());
            warn!(id, reason, detail, publisher, traceparent, "dead letter");
        }
        (_, Some(task)) => debug!(id = %task.id, outcome = name, reason, traceparent, "payment"),
        (_, None) => {}
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;
    use std::sync::{Arc, Weak};

    use parking_lot::Mutex;
    use tokio::sync::{Notify, Semaphore};
    use tokio_util::sync::CancellationToken;
    use uuid::Uuid;

    use super::*;
    use crate::contract::{Message, Properties};
    use crate::health::Health;
    use crate::lanes::Lanes;
    use crate::ledger::Rules;
    use crate::outbox::Handover;
    use crate::retry::RetrySettings;
    use crate::store::{Due, Memory, Proof, StoreError, Submission, Waiting};
    use crate::telemetry::metrics::Metrics;
    use crate::worker::Buffers;

    /// The tables in memory, without faults.
    struct Tables(Mutex<Memory>);

    impl BatchStore for Tables {
        async fn commit(
            &self,
            batch: &[Submission<'_>],
            expired: &[Uuid],
            pending: &(impl Pending + Sync),
            _: bool,
        ) -> Result<Committed, StoreError> {
            Ok(self.0.lock().commit(batch, expired, pending, Duration::ZERO, Timestamp::now()))
        }

        async fn due(&self, most: usize) -> Result<Due, StoreError> {
            Ok(self.0.lock().due(most, Timestamp::now()))
        }

        async fn postpone(&self, task: Uuid, by: Duration) -> Result<(), StoreError> {
            self.0.lock().postpone(task, by, Timestamp::now());
            Ok(())
        }

        async fn waiting(&self) -> Result<Waiting, StoreError> {
            Ok(Waiting::default())
        }
    }

    /// A delivery that looks, as it is settled, how many tasks are in flight.
    struct Witness {
        pipeline: Weak<Pipeline<Tables, Self>>,
        seen: Arc<Mutex<Vec<usize>>>,
    }

    impl Delivery for Witness {
        fn settle(self, _: &Proof) {
            let pipeline = self.pipeline.upgrade().expect("it settles this delivery");
            self.seen.lock().push(pipeline.in_flight.count());
        }

        #[cfg(feature = "sabotage")]
        fn settle_early(&self, _: &Proof) {}
    }

    fn pipeline(max_batch: usize) -> Arc<Pipeline<Tables, Witness>> {
        let metrics = Arc::new(Metrics::register(1));
        Arc::new(Pipeline {
            store: Tables(Mutex::new(Memory::new(Rules::default()))),
            lanes: Lanes::new(1, 10),
            in_flight: InFlight::new(1, 0),
            transactions: Semaphore::new(1),
            handover: Handover::new(10, 1 << 20).0,
            buffers: Buffers::new(2, 10),
            max_batch,
            retry: RetrySettings::default(),
            health: Health::new(Arc::clone(&metrics)),
            metrics,
            failing: AtomicUsize::new(0),
            agenda: Notify::new(),
            broken: CancellationToken::new(),
        })
    }

    /// Has all of them processed; answers how many were in flight as each was settled.
    async fn process(pipeline: &Arc<Pipeline<Tables, Witness>>, bodies: &[&str]) -> Vec<usize> {
        let seen = Arc::default();
        for body in bodies {
            let message = Message::read(body.as_bytes().to_vec(), Properties::default(), Timestamp::now());
            let arrived = pipeline.in_flight.arrive(message.content.as_ref().ok());
            let delivery = Witness { pipeline: Arc::downgrade(pipeline), seen: Arc::clone(&seen) };
            let job = Job { arrival: arrived.arrival, message, taken: Instant::now(), delivery };
            pipeline.health.progress().entered(1);
            pipeline.lanes.push(arrived.lane, job).await;
        }
        let working = tokio::spawn(Arc::clone(pipeline).work());
        let settled = async {
            while pipeline.in_flight.count() > 0 {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(10), settled).await.expect("all are settled");
        pipeline.lanes.close();
        working.await.expect("it lives");
        seen.lock().clone()
    }

    #[tokio::test]
    async fn a_task_is_in_flight_until_its_delivery_is_settled() {
        let seen = process(&pipeline(10), &["", "", ""]).await;
        assert_eq!(seen, [3, 3, 3], "a drain that sees none left goes without the last acknowledgements");
    }

    #[tokio::test]
    async fn a_decline_does_not_wait_for_the_batch_before() {
        let id = |number: u8| format!("01920000-0000-7000-8000-0000000000{number:02}");
        let open = |number, account: &str, least: &str| {
            let (id, rest) = (id(number), format!(r#""currency":"USD","min_balance":{least}"#));
            format!(r#"{{"id":"{id}","type":"open_account","account":"{account}",{rest}}}"#)
        };
        let transfer = |number, debit: &str, credit: &str| {
            let (id, rest) = (id(number), r#""amount":5,"currency":"USD""#);
            format!(r#"{{"id":"{id}","type":"transfer","debit_account":"{debit}","credit_account":"{credit}",{rest}}}"#)
        };
        let bodies =
            [open(1, "world", r#""none""#), open(2, "a", "0"), transfer(3, "a", "world"), transfer(4, "world", "a")];
        // Two batches: the second is decided before the first is settled, here at once.
        let pipeline = pipeline(2);
        process(&pipeline, &bodies.each_ref().map(String::as_str)).await;
        let tables = pipeline.store.0.lock();
        let states: Vec<_> = tables.stored.values().map(|stored| stored.payment.state.name()).collect();
        assert_eq!(states, ["settled", "settled", "rejected", "settled"], "in their order there is nothing to spend");
    }
}
