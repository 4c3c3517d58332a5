//! A task is acknowledged after its commit and not before.

use settled_testkit::harness::{Task, World, eventually, transfer};

#[tokio::test]
async fn a_task_that_waits_for_a_lock_isnt_acknowledged_and_holds_up_its_own_lane_only() {
    let (world, mut daemon, publisher) = World::at_work(&[]).await;
    world.open(["locked", "shop"]).await;
    world.open((0..32).map(|number| format!("account:{number}"))).await;
    let session = world.lock("SELECT FROM account WHERE name = 'locked' FOR UPDATE").await;
    let held_up = transfer("locked", "account:0", 5);
    publisher.publish(&held_up).await;
    daemon.has_in_hand(1.0).await;
    // 31 more debit accounts: not all of them share its lane.
    let others: Vec<Task> = (1..32).map(|number| transfer(&format!("account:{number}"), "shop", 1)).collect();
    publisher.publish_all(&others).await;
    let settled = "SELECT 1 FROM payment WHERE type = 'transfer' HAVING count(*) > 0";
    world.row("others settle meanwhile", settled, &[]).await;

    daemon.kill();
    eventually("what wasn't committed is back in the queue", async || world.waiting().await > 0).await;
    assert_eq!(world.count(&format!("payment WHERE id = '{}'", held_up.id)).await, 0);
    session.batch_execute("COMMIT").await.expect("unlocked");
    let daemon = world.daemon().await;
    world.all_are("settled", &others).await;
    world.all_are("settled", &[held_up]).await;
    world.end(daemon).await;
}
