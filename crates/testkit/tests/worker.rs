//! Tests of the workers on in-memory tables.

use std::sync::{Arc, Weak};
use std::time::Duration;

use jiff::Timestamp;
use parking_lot::Mutex;
use settled_core::contract::{DeadReason, Message, Properties, Rejection};
use settled_core::ledger::{Pending, Rules};
use settled_pipeline::admission::{Admission, Delivery};
use settled_pipeline::committer::Committer;
use settled_pipeline::health::Health;
use settled_pipeline::metrics::Metrics;
use settled_pipeline::outbox::RelayQueue;
use settled_pipeline::retry::RetrySettings;
use settled_pipeline::store::{Answer, BatchStore, Committed, Due, Proof, StoreError, Submission, Waiting};
use settled_pipeline::worker::Workers;
use settled_testkit::memory::Memory;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

/// In-memory tables without faults.
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

/// A delivery that records, when it is settled, how many tasks are in flight, and its outcome.
struct Witness {
    admission: Weak<Admission<Self>>,
    seen: Arc<Mutex<Vec<(usize, Answer)>>>,
}

impl Delivery for Witness {
    fn settle(self, _: &Proof, outcome: &Answer) {
        let admission = self.admission.upgrade().expect("it settles this delivery");
        self.seen.lock().push((admission.in_flight(), outcome.clone()));
    }
}

/// Processes all bodies. Returns, for each settled delivery, how many tasks were in flight, and its outcome.
async fn process(tables: &Arc<Tables>, max_batch: usize, bodies: &[&str]) -> Vec<(usize, Answer)> {
    let metrics = Arc::new(Metrics::register(1));
    let health = Health::new(Arc::clone(&metrics));
    let admission = Arc::new(Admission::new(1, 10, 0, Arc::clone(&health)));
    let relay = RelayQueue::new(10, 1 << 20).0;
    let (retry, broken) = (RetrySettings::default(), CancellationToken::new());
    let committer = Arc::new(Committer::new(Arc::clone(tables), 1, relay, retry, health, metrics, broken));
    let workers = Workers::new(Arc::clone(&admission), committer, 1, max_batch);
    let seen = Arc::default();
    for body in bodies {
        let message = Message::read(body.as_bytes().to_vec(), Properties::default(), Timestamp::now());
        admission.admit(message, Witness { admission: Arc::downgrade(&admission), seen: Arc::clone(&seen) }).await;
    }
    let working = tokio::spawn(workers.work());
    let settled = async {
        while admission.in_flight() > 0 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), settled).await.expect("all are settled");
    admission.close();
    working.await.expect("it lives");
    seen.lock().clone()
}

fn tables() -> Arc<Tables> {
    Arc::new(Tables(Mutex::new(Memory::new(Rules::default()))))
}

#[tokio::test]
async fn a_task_is_in_flight_until_its_delivery_is_settled() {
    let seen = process(&tables(), 10, &["", "", ""]).await;
    let malformed = (3, Answer::DeadLettered(DeadReason::Malformed));
    assert_eq!(seen, vec![malformed; 3], "a drain that sees none left goes without the last acknowledgements");
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
    // Two batches: the second is decided before the first is settled, which here happens at once.
    let tables = tables();
    let seen = process(&tables, 2, &bodies.each_ref().map(String::as_str)).await;
    let outcomes: Vec<_> = seen.into_iter().map(|(_, outcome)| outcome).collect();
    let declined = Answer::Rejected(Rejection::InsufficientFunds);
    assert_eq!(outcomes, [Answer::Settled, Answer::Settled, declined, Answer::Settled]);
    let tables = tables.0.lock();
    let states: Vec<_> = tables.stored.values().map(|stored| stored.payment.state().name()).collect();
    assert_eq!(states, ["settled", "settled", "rejected", "settled"], "in their order there is nothing to spend");
}
