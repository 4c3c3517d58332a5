//! Every decline is an outcome: a row, an event with the reason and its ISO code, a count.

use serde_json::{Value, json};
use settled_core::contract::{MAX_AMOUNT, Rejection};
use settled_testkit::harness::{Task, World, assert_has, change, open, transfer};

#[tokio::test]
async fn every_kind_of_rejection_is_stored_published_and_counted_and_moves_nothing() {
    let (world, mut daemon, publisher) = World::at_work(&[]).await;
    let events = world.events().await;
    let opened: Vec<Task> = ["world", "alice", "euro", "frozen", "closed"]
        .into_iter()
        .map(|name| open(name, if name == "euro" { "EUR" } else { "USD" }, (name == "alice").then_some(0)))
        .collect();
    world.settle(&opened).await;
    let changed = [change("freeze_account", "frozen"), change("close_account", "closed")];
    world.settle(&changed).await;

    let cases = [
        (transfer("alice", "world", 1), "insufficient_funds"),
        (transfer("nobody", "world", 1), "account_not_found"),
        (transfer("world", "nobody", 1), "account_not_found"),
        (open("alice", "USD", Some(0)), "account_exists"),
        (open("frozen", "EUR", None), "account_exists"),
        (open("closed", "USD", None), "account_closed"),
        (transfer("closed", "world", 1), "account_closed"),
        (transfer("world", "closed", 1), "account_closed"),
        (transfer("frozen", "world", 1), "account_frozen"),
        (transfer("world", "euro", 1), "currency_mismatch"),
        (transfer("euro", "world", 1), "currency_mismatch"),
        (transfer("world", "alice", 1).with("currency", "QQQ"), "currency_mismatch"),
        (open("new", "QQQ", None), "unknown_currency"),
        (open("new", "HRK", None), "unknown_currency"),
        (open("new", "XTS", None), "unknown_currency"),
        (transfer("world", "alice", 0), "amount_out_of_range"),
        (transfer("world", "alice", -5), "amount_out_of_range"),
        (transfer("world", "alice", i64::MIN), "amount_out_of_range"),
        (transfer("world", "alice", MAX_AMOUNT + 1), "amount_out_of_range"),
        (open("new", "USD", Some(1)), "amount_out_of_range"),
        (transfer("world", "world", 1), "same_account"),
    ];
    publisher.publish_all(cases.iter().map(|(task, _)| task)).await;
    for (task, reason) in &cases {
        let payment = world.outcome(task).await;
        assert_has(&payment, json!({"state": "rejected", "reason": reason}));
        let event = events.of(task).await;
        let kind = if task.json["type"] == "transfer" { "payment.rejected" } else { "account.rejected" };
        assert_eq!(event.routing_key, kind, "{}", task.json);
        let code = Rejection::from_name(reason).map(Rejection::iso_code);
        assert_has(&event.body, json!({"reason": reason, "reason_code": code}));
        assert_has(&event.body, json!({"state": "rejected", "balances": []}));
        for field in ["id", "amount", "account", "debit_account", "min_balance", "currency"] {
            // No limit is a word in a task and `null` in an event.
            let asked = task.json.get(field).map(|value| if value == "none" { &Value::Null } else { value });
            assert_eq!(event.body.get(field), asked, "{field}");
        }
        let count = cases.iter().filter(|(_, other)| other == reason).count();
        let labels = [("outcome", "rejected"), ("reason", *reason)];
        daemon.counts("settled_outcomes_total", &labels, count).await;
    }
    let moved = world.rows("SELECT * FROM account WHERE posted <> 0 OR version <> 0", &[]).await;
    assert!(moved.is_empty(), "{moved:?}");
    assert_eq!(world.account("new").await["status"], "unopened");

    let gift = transfer("world", "frozen", 7);
    publisher.publish(&gift).await;
    assert_eq!(world.outcome(&gift).await["state"], "settled", "a frozen account takes credits");
    world.audit().await;
}

#[tokio::test]
async fn a_rejection_is_pinned_to_the_id_and_the_same_payment_needs_a_new_one() {
    let (world, mut daemon, publisher) = World::at_work(&[]).await;
    let spend = transfer("alice", "world", 10);
    let tasks = [open("world", "USD", None), open("alice", "USD", Some(0)), spend.clone()];
    publisher.publish_all(&tasks).await;
    assert_eq!(world.outcome(&spend).await["reason"], "insufficient_funds");

    let again = Task { id: uuid::Uuid::now_v7(), ..spend.clone() };
    let again = again.clone().with("id", again.id.to_string());
    publisher.publish_all(&[transfer("world", "alice", 10), spend.clone(), again.clone()]).await;
    assert_eq!(world.outcome(&again).await["state"], "settled");
    assert_eq!(world.outcome(&spend).await["state"], "rejected");
    daemon.counts("settled_outcomes_total", &[("outcome", "duplicate")], 1).await;
    world.audit().await;
}
