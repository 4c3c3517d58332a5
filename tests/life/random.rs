//! Random tasks of all types through real servers: what an independent model says becomes of them.

use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use crate::contract::{PaymentState, Rejection};
use crate::model::{self, Model, Row, Settings};
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
    // Those of the configuration's defaults.
    let settings = Settings {
        hold: SignedDuration::from_hours(7 * 24),
        longest_hold: SignedDuration::from_hours(31 * 24),
        parking: SignedDuration::from_mins(15),
        frozen_takes_credits: true,
    };
    let mut model = Model::new(settings, Timestamp::now());
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
    compare_rows(&world, &model, seed).await;
    compare_accounts(&world, &model, seed).await;
    compare_entries(&world, &model, seed).await;
    world.audit().await;
}

async fn compare_rows(world: &World, model: &Model, seed: u64) {
    assert_eq!(world.rows("SELECT count(*) AS n FROM payment", &[]).await[0]["n"], model.rows.len());
    for row in &model.rows {
        let query = "SELECT state, reason, version, amount, captured, refunded, charged_back, legs, type
                       FROM payment WHERE id = $1";
        let stored = world.rows(query, &[&row.task.id]).await.remove(0);
        let context = || format!("seed {seed}: {}: {stored}, the model has {row:?}", row.task.to_json());
        assert_eq!(stored["state"], json!(row.state.map(PaymentState::name)), "{}", context());
        assert_eq!(stored["reason"], json!(row.reason.map(Rejection::name)), "{}", context());
        assert_eq!(stored["version"], row.version, "{}", context());
        for (place, found) in progress(world, row, &stored).await {
            let leg = &row.legs[place];
            assert_eq!(found, [leg.amount, leg.captured, leg.refunded, leg.charged_back], "{}", context());
        }
    }
}

/// What has become of each leg of a payment, as it is stored.
async fn progress(world: &World, row: &Row, stored: &Value) -> Vec<(usize, [i64; 4])> {
    let amounts = |stored: &Value| ["amount", "captured", "refunded", "charged_back"].map(|name| stored[name].as_i64());
    let all = |amounts: [Option<i64>; 4]| {
        // Nothing has acted on it: all that was paid was captured.
        let [amount, captured, refunded, charged_back] = amounts;
        let amount = amount.expect("an amount");
        [amount, captured.unwrap_or(amount), refunded.unwrap_or(0), charged_back.unwrap_or(0)]
    };
    if row.legs.is_empty() || !["transfer", "authorize"].contains(&stored["type"].as_str().expect("a type")) {
        return Vec::new();
    }
    if stored["legs"].is_null() {
        return vec![(0, all(amounts(stored)))];
    }
    let query = "SELECT leg, amount, captured, refunded, charged_back FROM leg WHERE payment_id = $1 ORDER BY leg";
    let legs = world.rows(query, &[&row.task.id]).await;
    assert_eq!(legs.len(), row.legs.len());
    legs.iter().map(|leg| all(amounts(leg))).enumerate().collect()
}

async fn compare_accounts(world: &World, model: &Model, seed: u64) {
    for (name, expected) in &model.accounts {
        let found = world.account(name).await;
        let status = if expected.is_closed {
            "closed"
        } else if expected.is_frozen {
            "frozen"
        } else {
            "open"
        };
        let expected = json!({
            "currency": expected.currency, "status": status, "posted": expected.posted, "held": expected.held,
            "version": expected.version, "min_balance": expected.min_balance, "max_balance": expected.max_balance,
            "shortfall": expected.shortfall(),
        });
        for (field, value) in expected.as_object().expect("an object") {
            assert_eq!(&found[field], value, "seed {seed}: `{field}` of {name}: {found}");
        }
    }
    let opened = world.rows("SELECT count(*) AS n FROM account WHERE status <> 'unopened'", &[]).await;
    assert_eq!(opened[0]["n"], model.accounts.len());
}

async fn compare_entries(world: &World, model: &Model, seed: u64) {
    for name in model.accounts.keys() {
        let query = "SELECT payment_id, amount, balance_after FROM entry
                      WHERE account = (SELECT id FROM account WHERE name = $1) ORDER BY seq";
        let found = world.rows(query, &[name]).await;
        let expected: Vec<Value> = model
            .entries
            .iter()
            .filter(|entry| entry.account == *name)
            .map(|entry| json!({"payment_id": entry.task, "amount": entry.amount, "balance_after": entry.balance}))
            .collect();
        assert_eq!(found, expected, "seed {seed}: the entries of {name}");
    }
}
