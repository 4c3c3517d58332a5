//! Random tasks of all types through real servers: what an independent model says becomes of them.

use std::time::{Duration, Instant};

use jiff::Timestamp;
use settled_testkit::harness::{SOON, Task, World};
use settled_testkit::replay::model::{self, Model};
use settled_testkit::replay::{self, Recorded, Settings};
use uuid::Uuid;

/// Of each history.
const TASKS: usize = 1000;
/// Histories that have no account and no payment in common, by their seeds.
const HISTORIES: [(u64, &str); 5] = [(1, "a"), (2, "b"), (3, "c"), (4, "d"), (5, "e")];

/// The next task of every history at once, and again when they are done: what a task makes others do
/// is done before the next one of its history comes. Whoever waits is woken, and is not looked at in
/// between: a look that meets what is waited for would have it go before others that came earlier.
#[tokio::test]
async fn five_thousand_random_tasks_become_what_the_model_says() {
    let (world, _daemon, publisher) =
        World::at_work(&["pipeline.lanes = 1", "pipeline.workers = 1", "payments.interval = \"10ms\""]).await;
    let mut model = Model::new(Settings::default(), Timestamp::now());
    let histories = HISTORIES.map(|(seed, prefix)| model::tasks(seed, TASKS, prefix));
    let quiet = "SELECT (SELECT count(*) FROM payment WHERE id = ANY($1)) = cardinality($1::uuid[])
                    AND NOT EXISTS (SELECT FROM agenda WHERE due_at <= clock_timestamp()) AS quiet";
    let asleep = "UPDATE agenda SET due_at = deadline WHERE waits_for IS NOT NULL AND due_at < deadline";
    let operator = world.sql().await;
    for nth in 0..TASKS {
        operator.batch_execute(asleep).await.expect("asleep");
        let round: Vec<model::Task> = histories.iter().map(|tasks| tasks[nth].clone()).collect();
        let as_json = |task: &model::Task| serde_json::from_str(&task.to_json()).expect("JSON");
        let published: Vec<Task> = round.iter().map(|task| Task { id: task.id, json: as_json(task) }).collect();
        publisher.publish_all(&published).await;
        let ids: Vec<Uuid> = round.iter().map(|task| task.id).collect();
        let began = Instant::now();
        while world.rows(quiet, &[&ids]).await[0]["quiet"] != true {
            assert!(began.elapsed() < SOON, "round {nth} is not done: {published:#?}");
            // Shorter than usual: there are thousands.
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        model.arrive(&round);
    }
    let recorded = Recorded::read(&world.sql().await).await.expect("read");
    let same = replay::payments(&model, &recorded)
        .and_then(|()| replay::accounts(&model, &recorded))
        .and_then(|()| replay::entries(&model, &recorded));
    assert_eq!(same, Ok(()), "{HISTORIES:?}");
    let replayed = super::reckon(&world).await;
    assert_eq!(replayed.entries, model.entries.len());
}
