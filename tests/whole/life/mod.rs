//! The life of a payment, each test on the real binary and real servers: holds, follow-ups, legs,
//! schedules, dependencies, and what happens when they race or the daemon dies.

mod accounts;
mod crashes;
mod deadlines;
mod follow_ups;
mod holds;
mod legs;
mod order;
mod races;
mod random;
mod replaying;
mod waiting;

use settled_testkit::harness::{Daemon, Task, World, open, transfer};
use settled_testkit::replay::{Replayed, Settings};

/// Opens `world` without a limit, and the others with `min_balance` 0; funds those with an amount.
async fn accounts(world: &World, funded: &[(&str, i64)]) {
    let mut opened = vec![open("world", "USD", None)];
    opened.extend(funded.iter().map(|(name, _)| open(name, "USD", Some(0))));
    let paid = funded.iter().filter(|(_, amount)| *amount > 0);
    let paid: Vec<Task> = paid.map(|(name, amount)| transfer("world", name, *amount)).collect();
    // One after the other: several daemons promise no order among them.
    world.settle(&opened).await;
    world.settle(&paid).await;
}

/// Creates a world with a daemon and these accounts.
async fn with_accounts(overrides: &[&str], funded: &[(&str, i64)]) -> (World, Daemon) {
    let (world, daemon) = World::with_daemon(overrides).await;
    accounts(&world, funded).await;
    (world, daemon)
}

/// So many milliseconds from now, as `execute_at` takes it.
fn soon(milliseconds: i64) -> String {
    let moment = jiff::Timestamp::now() + jiff::SignedDuration::from_millis(milliseconds);
    moment.round(jiff::Unit::Microsecond).expect("in range").to_string()
}

/// Publishes a task; answers its row once it has come to `state`.
async fn done(world: &World, state: &str, task: &Task) -> serde_json::Value {
    world.publisher().await.publish(task).await;
    world.becomes(state, task).await
}

/// Publishes a task; it has to be rejected for `reason`.
async fn declined(world: &World, reason: &str, task: &Task) {
    assert_eq!(done(world, "rejected", task).await["reason"], reason, "{}", task.json);
}

/// What an account has: posted, held.
async fn balance(world: &World, account: &str) -> (i64, i64) {
    let row = world.account(account).await;
    (row["posted"].as_i64().expect("posted"), row["held"].as_i64().expect("held"))
}

/// `settled audit` finds nothing, and a ledger of one thread comes to the same by the recorded order.
async fn reckon(world: &World) -> Replayed {
    reckon_by(world, Settings::default()).await
}

/// The same where the operator has decided otherwise.
async fn reckon_by(world: &World, settings: Settings) -> Replayed {
    world.audit().await;
    let replayed = settled_testkit::replay::replay(&world.sql().await, &settings).await;
    replayed.unwrap_or_else(|found| panic!("the replay comes to something else: {found}"))
}
