//! Tasks that come in another order than they belong in.

use settled_testkit::harness::{Task, World, authorize, follow_up, transfer};

use super::accounts;

#[tokio::test]
async fn a_thousand_payments_published_in_reverse_end_as_if_in_order() {
    let world = World::new(&[]).await;
    let _daemons = [world.daemon().await, world.daemon().await];
    accounts(&world, &[("alice", 1_000_000), ("shop", 0)]).await;
    let holds: Vec<Task> = (0..1000).map(|_| authorize("alice", "shop", 100)).collect();
    let captures: Vec<Task> = holds.iter().map(|hold| follow_up("capture", hold, Some(70))).collect();
    let refunds: Vec<Task> = holds.iter().map(|hold| follow_up("refund", hold, Some(30))).collect();
    let publisher = world.publisher().await;
    let reversed =
        holds.iter().zip(captures.iter().zip(&refunds)).flat_map(|(hold, (capture, refund))| [refund, capture, hold]);
    publisher.publish_all(reversed).await;
    world.become_all("partially_refunded", &holds).await;
    world.become_all("settled", &captures).await;
    world.become_all("settled", &refunds).await;
    world.nothing_waits().await;
    assert_eq!(super::balance(&world, "shop").await, (40_000, 0));
    assert_eq!(super::balance(&world, "alice").await, (960_000, 0));
    super::reckon(&world).await;
}

#[tokio::test]
async fn shuffled_chains_of_ten_are_applied_link_by_link() {
    const CHAINS: usize = 100;
    let world = World::new(&[]).await;
    let _daemons = [world.daemon().await, world.daemon().await];
    let names: Vec<String> = (0..=10).map(|link| format!("link:{link}")).collect();
    let funded: Vec<(&str, i64)> =
        names.iter().enumerate().map(|(link, name)| (name.as_str(), if link == 0 { 100 } else { 0 })).collect();
    accounts(&world, &funded).await;
    let mut tasks: Vec<Task> = Vec::new();
    for _ in 0..CHAINS {
        let mut before: Option<Task> = None;
        for link in 0..10 {
            // Each link spends what the one before it has brought.
            let task = transfer(&names[link], &names[link + 1], 1);
            let task = match &before {
                Some(before) => task.with("after", before.id.to_string()),
                None => task,
            };
            before = Some(task.clone());
            tasks.push(task);
        }
    }
    // 617 shares no factor with their number: each once, far from its neighbours.
    let shuffled: Vec<&Task> = (0..tasks.len()).map(|place| &tasks[place * 617 % tasks.len()]).collect();
    world.publisher().await.publish_all(shuffled).await;
    world.become_all("settled", &tasks).await;
    assert_eq!(super::balance(&world, "link:10").await, (100, 0));
    world.nothing_waits().await;
    super::reckon(&world).await;
}
