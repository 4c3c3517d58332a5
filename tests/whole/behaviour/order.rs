//! Publishers may publish back to back: what came earlier counts, on any number of lanes.

use serde_json::json;
use settled_testkit::harness::{Task, World, open, transfer};

#[tokio::test]
async fn open_fund_and_spend_back_to_back_is_never_rejected_unless_it_is_too_much() {
    const ACCOUNTS: usize = 1000;
    let (world, _daemon, publisher) = World::at_work(&["pipeline.lanes = 4"]).await;
    let mut good = vec![open("bank", "USD", None), open("shop", "USD", Some(0))];
    let mut too_much = Vec::new();
    let mut all = good.clone();
    for number in 0..ACCOUNTS {
        let customer = format!("customer:{number}");
        let tasks = [
            open(&customer, "USD", Some(0)),
            transfer("bank", &customer, 100),
            transfer(&customer, "shop", 60),
            transfer(&customer, "shop", 40),
        ];
        let more = transfer(&customer, "shop", 1);
        all.extend(tasks.iter().cloned().chain([more.clone()]));
        good.extend(tasks);
        too_much.push(more);
    }
    publisher.publish_all(&all).await;
    world.all_are("settled", &good).await;
    world.all_are("rejected", &too_much).await;
    let reasons = world.rows("SELECT DISTINCT reason FROM payment WHERE state = 'rejected'", &[]).await;
    assert_eq!(reasons, [json!({"reason": "insufficient_funds"})]);
    assert_eq!(world.account("shop").await["posted"], 100 * ACCOUNTS);
    world.audit().await;
}

#[tokio::test]
async fn a_chain_of_payments_through_fresh_accounts_settles_however_it_is_spread() {
    const LINKS: usize = 300;
    let (world, _daemon) =
        World::with_daemon(&["pipeline.lanes = 8", "pipeline.max_batch = 200", "pipeline.workers = 4"]).await;
    let mut tasks = vec![open("link:0", "USD", None)];
    tasks.extend((1..=LINKS).map(|number| open(&format!("link:{number}"), "USD", Some(0))));
    tasks.extend((0..LINKS).map(|number| transfer(&format!("link:{number}"), &format!("link:{}", number + 1), 7)));
    world.settle(&tasks).await;
    assert_eq!(world.account(&format!("link:{LINKS}")).await["posted"], 7);
    world.audit().await;
}

#[tokio::test]
async fn debits_of_an_account_are_applied_in_the_order_of_arrival() {
    let (world, _daemon) = World::with_daemon(&["pipeline.max_batch = 50"]).await;
    let payers = ["red", "green", "blue"];
    let mut tasks: Vec<Task> = payers.iter().map(|payer| open(payer, "USD", None)).collect();
    // They pay each other and a crowd, so that lanes meet at their accounts.
    tasks.extend((0..30).map(|number| open(&format!("crowd:{number}"), "USD", None)));
    tasks.extend((0..1500_usize).map(|number| {
        let payer = payers[number % 3];
        let payee =
            if number % 5 == 0 { payers[(number + 1) % 3].to_owned() } else { format!("crowd:{}", number % 30) };
        transfer(payer, &payee, 1).with("reference", format!("{number:05}"))
    }));
    world.settle(&tasks).await;
    let out_of_order = "
        SELECT * FROM (SELECT e.account, e.seq, p.reference,
                              lag(p.reference) OVER (PARTITION BY e.account ORDER BY e.seq) AS before
                         FROM entry e JOIN payment p ON p.id = e.payment_id AND p.debit_account = e.account) o
         WHERE reference < before";
    assert_eq!(world.rows(out_of_order, &[]).await, [] as [serde_json::Value; 0]);
    world.audit().await;
}

#[tokio::test]
async fn a_daemon_with_one_lane_decides_strictly_in_order() {
    let (world, _daemon, publisher) =
        World::at_work(&["pipeline.lanes = 1", "pipeline.workers = 1", "pipeline.max_batch = 20"]).await;
    let opened = [open("bank", "USD", None), open("alice", "USD", Some(0)), open("bob", "USD", Some(0))];
    let (mut good, mut early) = (opened.to_vec(), Vec::new());
    let mut all = good.clone();
    for _ in 0..100 {
        // Bob's money comes from Alice, whose money comes after he first tries.
        let tries = transfer("bob", "bank", 5);
        let funded = [transfer("bank", "alice", 5), transfer("alice", "bob", 5), transfer("bob", "bank", 5)];
        all.extend([tries.clone()].into_iter().chain(funded.clone()));
        early.push(tries);
        good.extend(funded);
    }
    publisher.publish_all(&all).await;
    world.all_are("settled", &good).await;
    world.all_are("rejected", &early).await;
    let order = world.rows("SELECT count(DISTINCT settled_at) > 1 AS several FROM payment", &[]).await;
    assert_eq!(order[0]["several"], true, "more than one batch");
    world.audit().await;
}
