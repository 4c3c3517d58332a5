//! Balances and holds as large as the contract allows, in as many accounts as it takes.

use serde_json::json;
use settled_testkit::harness::{Task, World, assert_has, eventually, open, split};

/// The largest amount, and the largest balance.
const AMOUNT: i64 = 1_000_000_000_000_000;
const BALANCE: i64 = 1000 * AMOUNT;

/// Tasks that move or hold `thousandths` of the largest balance.
fn fill(debit: &str, credit: &str, thousandths: usize, task_type: &str) -> Vec<Task> {
    let legs = vec![(debit, credit, AMOUNT); thousandths];
    legs.chunks(64).map(|legs| split(legs).with("type", task_type)).collect()
}

#[tokio::test]
async fn the_largest_balance_is_reached_and_not_passed() {
    let (world, daemon, publisher) = World::at_work(&[]).await;
    let opened = [open("world", "USD", None), open("whale", "USD", Some(0))];
    world.settle(&opened).await;
    let all = fill("world", "whale", 1000, "transfer");
    world.settle(&all).await;
    let posted = async |name: &str| world.account(name).await["posted"].clone();
    assert_eq!((posted("world").await, posted("whale").await), (json!(-BALANCE), json!(BALANCE)));
    let more = fill("world", "whale", 1, "transfer");
    publisher.publish_all(&more).await;
    assert_has(&world.becomes("rejected", &more[0]).await, json!({"reason": "limit_exceeded"}));
    let holds = fill("whale", "world", 1000, "authorize");
    publisher.publish_all(&holds).await;
    world.all_are("authorized", &holds).await;
    assert_eq!(world.account("whale").await["held"], BALANCE);
    let back = fill("whale", "world", 1, "transfer");
    publisher.publish_all(&back).await;
    world.all_are("rejected", &back).await;
    world.end(daemon).await;
}

#[tokio::test]
async fn holds_that_sum_to_more_than_64_bits_are_measured_and_audited() {
    let (world, mut daemon, publisher) = World::at_work(&[]).await;
    let mut opened = vec![open("shop", "USD", None)];
    opened.extend((0..10).map(|n| open(&format!("rich:{n}"), "USD", None)));
    world.settle(&opened).await;
    let holds: Vec<Task> = (0..10).flat_map(|n| fill(&format!("rich:{n}"), "shop", 1000, "authorize")).collect();
    publisher.publish_all(&holds).await;
    world.all_are("authorized", &holds).await;
    eventually("the gauge counts them", async || daemon.metric("settled_holds", &[]).await == 10_000.0).await;
    let held = daemon.metric("settled_held_amount", &[("currency", "USD")]).await;
    assert!((held / 1e19 - 1.0).abs() < 1e-9, "{held}");
    world.end(daemon).await;
}
