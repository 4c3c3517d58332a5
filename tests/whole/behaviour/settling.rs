//! Transfers settle, and everybody can see it.

use serde_json::json;
use settled_testkit::harness::{World, assert_has, open, transfer};

#[tokio::test]
async fn a_transfer_settles_in_the_rows_the_event_and_the_metrics() {
    let (world, mut daemon, publisher) = World::at_work(&[]).await;
    let events = world.events().await;
    let pay = transfer("world", "alice", 1250)
        .with("reference", "order-1")
        .with("metadata", json!({"z": "1", "channel": "web"}));
    let tasks = [open("world", "USD", None), open("alice", "USD", Some(0)), pay.clone()];
    publisher.publish_all(&tasks).await;

    let payment = world.outcome(&pay).await;
    for field in ["id", "type", "debit_account", "credit_account", "amount", "currency", "reference", "metadata"] {
        assert_eq!(payment[field], pay.json[field], "{field}");
    }
    assert_has(&payment, json!({"state": "settled", "publisher": "behaviour"}));
    assert_eq!(world.account("world").await["posted"], -1250);
    assert_eq!(world.account("alice").await["posted"], 1250);

    let event = events.of(&pay).await;
    assert_eq!((event.routing_key.as_str(), &event.body["state"]), ("payment.settled", &json!("settled")));
    let after = |account, posted| json!({"account": account, "posted": posted, "held": 0, "version": 1});
    assert_eq!(event.body["balances"], json!([after("world", -1250), after("alice", 1250)]));
    let opened = events.of(&tasks[0]).await;
    assert_eq!((opened.routing_key.as_str(), &opened.body["min_balance"]), ("account.opened", &json!(null)));

    daemon.counts("settled_outcomes_total", &[("type", "transfer"), ("outcome", "settled")], 1).await;
    world.end(daemon).await;
}
