//! What can't both happen doesn't, whoever is first.

use std::collections::HashMap;
use std::time::Duration;

use serde_json::Value;
use settled_testkit::harness::{
    Daemon, Publisher, SOON, Task, World, authorize, eventually, follow_up, transfer, within,
};
use tokio::time::Instant;

use super::accounts;

/// Waits until all have an outcome that is final. Returns their rows, in the order of the tasks.
async fn decided(world: &World, tasks: &[Task]) -> Vec<Value> {
    let ids: Vec<uuid::Uuid> = tasks.iter().map(|task| task.id).collect();
    let query = "SELECT p.state, p.reason, p.amount FROM unnest($1::uuid[]) WITH ORDINALITY AS i (id, n)
                   JOIN payment p USING (id) WHERE p.state NOT IN ('parked', 'scheduled') ORDER BY n";
    let mut rows = Vec::new();
    within(SOON * 4, "all are decided", async || {
        rows = world.rows(query, &[&ids]).await;
        rows.len() == tasks.len()
    })
    .await;
    rows
}

/// The sum of the amounts of those that settled, and how many were rejected for which reason.
fn sum(decided: &[Value]) -> (i64, HashMap<&str, usize>) {
    let (mut sum, mut rejected) = (0, HashMap::new());
    for row in decided {
        match row["reason"].as_str() {
            Some(reason) => *rejected.entry(reason).or_default() += 1,
            None => {
                assert_eq!(row["state"], "settled");
                sum += row["amount"].as_i64().expect("an amount");
            }
        }
    }
    (sum, rejected)
}

/// Two daemons with small batches, so that both take their share.
async fn two() -> (World, [Daemon; 2]) {
    let world = World::new(&["pipeline.max_batch = 8", "broker.prefetch = 32"]).await;
    let daemons = [world.daemon().await, world.daemon().await];
    (world, daemons)
}

#[tokio::test]
async fn sixty_four_refunds_for_twice_the_money_pay_back_exactly_what_was_captured() {
    let (world, _daemons) = two().await;
    accounts(&world, &[("alice", 6_400), ("shop", 1_000_000)]).await;
    let payment = transfer("alice", "shop", 6_400);
    let publisher = world.publisher().await;
    publisher.publish(&payment).await;
    world.becomes("settled", &payment).await;
    let refunds: Vec<Task> = (0..64).map(|_| follow_up("refund", &payment, Some(200))).collect();
    publisher.publish_all(&refunds).await;
    let refunds = decided(&world, &refunds).await;
    assert_eq!(sum(&refunds), (6_400, HashMap::from([("amount_exceeds_remaining", 32)])));
    world.becomes("refunded", &payment).await;
    super::reckon(&world).await;
}

#[tokio::test]
async fn sixty_four_captures_of_one_hold_post_exactly_what_was_held() {
    let (world, _daemons) = two().await;
    accounts(&world, &[("alice", 6_400), ("shop", 0)]).await;
    let hold = authorize("alice", "shop", 6_400);
    let publisher = world.publisher().await;
    let captures: Vec<Task> = (0..64).map(|_| follow_up("capture", &hold, Some(200)).with("final", false)).collect();
    publisher.publish(&hold).await;
    publisher.publish_all(&captures).await;
    let captures = decided(&world, &captures).await;
    let (sum, rejected) = sum(&captures);
    assert_eq!(sum, 6_400);
    assert_eq!(rejected.values().sum::<usize>(), 32, "{rejected:?}");
    world.becomes("settled", &hold).await;
    super::reckon(&world).await;
}

const ROUNDS: usize = 1000;

/// Publishes all holds, then both rivals of each at once on two connections.
async fn rivals(world: &World, holds: &[Task], one: &[Task], other: &[Task]) {
    let (first, second): (Publisher, Publisher) = (world.publisher().await, world.publisher().await);
    first.publish_all(holds).await;
    world.become_all("authorized", holds).await;
    tokio::join!(first.publish_all(one), second.publish_all(other));
}

#[tokio::test]
async fn of_a_capture_and_a_void_exactly_one_wins_in_each_of_1000_rounds() {
    let (world, _daemons) = two().await;
    accounts(&world, &[("alice", 1_000_000), ("shop", 0)]).await;
    let holds: Vec<Task> = (0..ROUNDS).map(|_| authorize("alice", "shop", 10)).collect();
    let captures: Vec<Task> = holds.iter().map(|hold| follow_up("capture", hold, None)).collect();
    let voids: Vec<Task> = holds.iter().map(|hold| follow_up("void", hold, None)).collect();
    rivals(&world, &holds, &captures, &voids).await;
    let (captures, voids) = (decided(&world, &captures).await, decided(&world, &voids).await);
    let mut captured = 0;
    for ((capture, void), hold) in captures.iter().zip(&voids).zip(&decided(&world, &holds).await) {
        let won = capture["state"] == "settled";
        captured += i64::from(won);
        assert_ne!(won, void["state"] == "settled", "{capture} {void}");
        assert_eq!(hold["state"], if won { "settled" } else { "voided" });
    }
    println!("capture against void: {captured} of {ROUNDS} were captured");
    assert_eq!(super::balance(&world, "shop").await, (captured * 10, 0));
    assert_eq!(super::balance(&world, "alice").await.1, 0);
    super::reckon(&world).await;
}

#[tokio::test]
async fn of_a_capture_and_the_clock_exactly_one_wins_in_each_of_1000_rounds() {
    let (world, _daemons) = two().await;
    accounts(&world, &[("alice", 1_000_000), ("shop", 0)]).await;
    let holds: Vec<Task> = (0..ROUNDS).map(|_| authorize("alice", "shop", 10).with("expires_in", 8)).collect();
    // In another order than the holds', which run out one after another: as slowly as they were made.
    let mixed: Vec<Task> = (0..ROUNDS).map(|nth| holds[nth * 387 % ROUNDS].clone()).collect();
    let captures: Vec<Task> = mixed.iter().map(|hold| follow_up("capture", hold, None)).collect();
    let publisher = world.publisher().await;
    publisher.publish_all(&holds).await;
    world.become_all("authorized", &holds).await;
    // From well before the middle one runs out until well after: however slow the machine is, they meet.
    let left = "SELECT extract(epoch FROM percentile_disc(0.5) WITHIN GROUP (ORDER BY expires_at) - clock_timestamp())::float8 AS s
                  FROM hold";
    let left = world.rows(left, &[]).await[0]["s"].as_f64().expect("seconds");
    let pieces = captures.chunks(20);
    let step = Duration::from_secs(3) / u32::try_from(pieces.len()).expect("few");
    let mut at = Instant::now() + Duration::from_secs_f64((left - 1.5).max(0.0));
    for piece in pieces {
        tokio::time::sleep_until(at).await;
        publisher.publish_all(piece).await;
        at += step;
    }
    let captures = decided(&world, &captures).await;
    world.nothing_waits().await;
    eventually("nothing is held", async || world.count("hold").await == 0).await;
    let (mut captured, mut expired) = (0, 0);
    for (capture, hold) in captures.iter().zip(&decided(&world, &mixed).await) {
        if capture["state"] == "settled" {
            captured += 1;
            assert_eq!(hold["state"], "settled");
        } else {
            expired += 1;
            assert_eq!((&capture["reason"], &hold["state"]), (&"payment_expired".into(), &"expired".into()));
        }
    }
    println!("capture against the clock: {captured} captured, {expired} expired");
    assert!(captured > 0 && expired > 0, "{captured} captured, {expired} expired: they did not meet");
    assert_eq!(super::balance(&world, "shop").await, (captured * 10, 0));
    assert_eq!(super::balance(&world, "alice").await, (1_000_000 - captured * 10, 0));
    super::reckon(&world).await;
}
