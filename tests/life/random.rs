//! Random tasks of all types through real servers: what an independent model says becomes of them.

use std::time::{Duration, Instant};

use jiff::Timestamp;
use serde_json::Value;

use crate::replay::model::{self, Model};
use crate::replay::{self, Recorded, Settings};
use crate::support::{SOON, Task, World};

const TASKS: usize = 1000;

#[tokio::test]
async fn a_thousand_random_tasks_become_what_the_model_says_with_seed_1() {
    as_the_model_says(1).await;
}

#[tokio::test]
async fn a_thousand_random_tasks_become_what_the_model_says_with_seed_2() {
    as_the_model_says(2).await;
}

#[tokio::test]
async fn a_thousand_random_tasks_become_what_the_model_says_with_seed_3() {
    as_the_model_says(3).await;
}

#[tokio::test]
async fn a_thousand_random_tasks_become_what_the_model_says_with_seed_4() {
    as_the_model_says(4).await;
}

#[tokio::test]
async fn a_thousand_random_tasks_become_what_the_model_says_with_seed_5() {
    as_the_model_says(5).await;
}

/// One after another: what a task makes others do is done before the next one comes.
async fn as_the_model_says(seed: u64) {
    let world = World::new(&["pipeline.lanes = 1", "pipeline.workers = 1"]).await;
    let _daemon = world.daemon().await;
    let publisher = world.publisher().await;
    let mut model = Model::new(Settings::default(), Timestamp::now());
    for task in model::tasks(seed, TASKS, "a") {
        let json: Value = serde_json::from_str(&task.to_json()).expect("JSON");
        publisher.publish(&Task { id: task.id, json }).await;
        let quiet = "SELECT EXISTS (SELECT FROM payment WHERE id = $1)
                        AND NOT EXISTS (SELECT FROM agenda WHERE due_at <= clock_timestamp()) AS quiet";
        let began = Instant::now();
        while world.rows(quiet, &[&task.id]).await[0]["quiet"] != true {
            assert!(began.elapsed() < SOON, "seed {seed}: {} is not done", task.to_json());
            // Shorter than usual: there are thousands.
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        model.arrive(&[task]);
    }
    let recorded = Recorded::read(&world.sql().await).await.expect("read");
    let same = replay::payments(&model, &recorded)
        .and_then(|()| replay::accounts(&model, &recorded))
        .and_then(|()| replay::entries(&model, &recorded));
    assert_eq!(same, Ok(()), "seed {seed}");
    let replayed = crate::reckon(&world).await;
    assert_eq!(replayed.entries, model.entries.len(), "seed {seed}");
}
