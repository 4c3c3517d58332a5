//! Tests of the workers on simulated tables.

use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::Mutex;
use settled_core::contract::{DeadReason, Message, Properties, Rejection};
use settled_pipeline::admission::{Admission, Delivery};
use settled_pipeline::committer::Committer;
use settled_pipeline::health::Health;
use settled_pipeline::metrics::Metrics;
use settled_pipeline::outbox::RelayQueue;
use settled_pipeline::retry::RetrySettings;
use settled_pipeline::store::{Answer, Proof};
use settled_pipeline::worker::Workers;
use settled_testkit::harness::task::{open, transfer};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::store::SimStore;
use super::world::World;

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
async fn process(world: &Arc<World>, max_batch: usize, bodies: &[String]) -> Vec<(usize, Answer)> {
    let metrics = Arc::new(Metrics::register(1));
    let health = Health::new(Arc::clone(&metrics));
    let admission = Arc::new(Admission::new(1, 10, 0, Arc::clone(&health)));
    let relay = RelayQueue::new(10, 1 << 20).0;
    let (retry, broken) = (RetrySettings::default().into(), CancellationToken::new());
    let committer =
        Arc::new(Committer::new(Arc::new(SimStore::calm(world, max_batch)), 1, relay, retry, health, metrics, broken));
    let workers = Workers::new(Arc::clone(&admission), committer, 1, max_batch);
    let seen = Arc::default();
    for body in bodies {
        let message = Message::read(body.clone().into_bytes(), Properties::default(), world.now());
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

#[tokio::test]
async fn a_task_is_in_flight_until_its_delivery_is_settled() {
    let seen = process(&World::calm(), 10, &[const { String::new() }; 3]).await;
    let malformed = (3, Answer::DeadLettered(DeadReason::Malformed));
    assert_eq!(seen, vec![malformed; 3], "a drain that sees none left goes without the last acknowledgements");
}

#[tokio::test]
async fn a_decline_does_not_wait_for_the_batch_before() {
    let tasks =
        [open("world", "USD", None), open("a", "USD", Some(0)), transfer("a", "world", 5), transfer("world", "a", 5)];
    let bodies: Vec<_> = (1..).zip(tasks).map(|(id, task)| task.identified(Uuid::from_u128(id)).body()).collect();
    // Two batches: the second is decided before the first is settled, which here happens at once.
    let world = World::calm();
    let seen = process(&world, 2, &bodies).await;
    let outcomes: Vec<_> = seen.into_iter().map(|(_, outcome)| outcome).collect();
    let declined = Answer::Rejected(Rejection::InsufficientFunds);
    assert_eq!(outcomes, [Answer::Settled, Answer::Settled, declined, Answer::Settled]);
    let tables = world.tables.lock();
    let states: Vec<_> = tables.stored.values().map(|stored| stored.payment.state().name()).collect();
    assert_eq!(states, ["settled", "settled", "rejected", "settled"], "in their order there is nothing to spend");
}
