//! Who may do what is decided by what is checked: the routing key, the broker's user, the settings.

use serde_json::{Value, json};
use settled_testkit::harness::{Events, Publisher, Task, World, assert_has, change, follow_up, open, split, transfer};

fn pay() -> Task {
    transfer("world", "alice", 5)
}

/// Waits for the dead letter of a task, which is `forbidden` and names this field.
async fn is_forbidden(world: &World, task: &Task, field: &str) -> Value {
    let letter = world.is_dead_letter(task, json!({"reason": "forbidden", "field": field})).await;
    let payments = world.rows("SELECT 1 FROM payment WHERE id = $1", &[&task.id]).await;
    assert_eq!(payments, [Value::Null; 0], "{letter}");
    letter
}

async fn as_guest(publisher: &Publisher, task: &Task) {
    publisher.publish_with(task, Publisher::properties(task).with_user_id("guest".into())).await;
}

#[tokio::test]
async fn a_routing_key_that_names_another_type_is_forbidden() {
    let (world, mut daemon, publisher) = World::at_work(&[]).await;
    world.open(["world", "alice"]).await;
    let hidden = [open("mallory", "USD", None), follow_up("chargeback", &pay(), Some(5))];
    for task in &hidden {
        publisher.raw("task.transfer", task.body().as_bytes(), Publisher::properties(task)).await;
        let letter = is_forbidden(&world, task, "routing_key").await;
        assert!(letter["detail"].as_str().is_some_and(|text| text.contains("`task.transfer`")), "{letter}");
    }
    // Further words, keys that name no type, and the queue itself, where its name is the key.
    let fine = [pay(), pay(), pay()];
    for (task, key) in fine.iter().zip(["task.transfer.eu", "task.odd"]) {
        publisher.raw(key, task.body().as_bytes(), Publisher::properties(task)).await;
    }
    world.straight_to_its_queue(fine[2].body().as_bytes(), Publisher::properties(&fine[2])).await;
    world.all_are("settled", &fine).await;
    daemon.counts("settled_dead_letters_total", &[("reason", "forbidden")], 2).await;
    daemon.counts("settled_forbidden_total", &[("publisher", "other")], 2).await;
    world.audit().await;
}

#[tokio::test]
async fn a_routing_key_can_be_required_or_ignored() {
    let (world, daemon, publisher) = World::at_work(&["authority.routing_key = \"require\""]).await;
    world.open(["world", "alice"]).await;
    let (odd, fine) = (pay(), pay());
    publisher.raw("task.transfers", odd.body().as_bytes(), Publisher::properties(&odd)).await;
    publisher.raw("task.transfer.eu", fine.body().as_bytes(), Publisher::properties(&fine)).await;
    is_forbidden(&world, &odd, "routing_key").await;
    world.outcome(&fine).await;
    daemon.stop().await;
    world.configure(&["authority.routing_key = \"ignore\""]);
    let _daemon = world.daemon().await;
    let hidden = open("bob", "USD", None);
    publisher.raw("task.transfer", hidden.body().as_bytes(), Publisher::properties(&hidden)).await;
    assert_eq!(world.outcome(&hidden).await["state"], "settled");
}

#[tokio::test]
async fn nobody_is_answered_in_the_daemons_own_queues() {
    let (world, mut daemon, publisher) = World::at_work(&[]).await;
    world.open(["world", "alice"]).await;
    for queue in [&world.queue, &world.dead_letter_queue] {
        let task = pay();
        publisher.publish_with(&task, Publisher::properties(&task).with_reply_to(queue.as_str().into())).await;
        is_forbidden(&world, &task, "reply_to").await;
        // A message that is malformed anyway is not answered there, either.
        let odd = pay().without("amount");
        publisher.publish_with(&odd, Publisher::properties(&odd).with_reply_to(queue.as_str().into())).await;
        assert_eq!(world.dead_letter_of(&odd).await["reason"], "malformed");
    }
    daemon.counts("settled_tasks_received_total", &[], 6).await;
    daemon.empties_the_outbox().await;
    world.end(daemon).await;
    assert_eq!(world.messages(&world.dead_letter_queue).await, 0);
}

#[tokio::test]
async fn replies_go_where_the_settings_let_them() {
    let (world, _daemon, publisher) =
        World::at_work(&["authority.replies = [\"amq.rabbitmq.reply-to*\", \"*.listener.*\"]"]).await;
    let replies = Events::replies(&world).await;
    world.open(["world", "alice"]).await;
    let (fine, direct, forbidden) = (pay(), pay(), pay());
    let asking = |task: &Task, queue: &str| Publisher::properties(task).with_reply_to(queue.into());
    publisher.publish_with(&fine, asking(&fine, &replies.queue)).await;
    assert_eq!(replies.count(1).await[0].body["id"], json!(fine.id));
    let answers = Events::direct(&publisher.channel).await;
    publisher.publish_with(&direct, asking(&direct, "amq.rabbitmq.reply-to")).await;
    assert_eq!(answers.count(1).await[0].body["id"], json!(direct.id));
    publisher.publish_with(&forbidden, asking(&forbidden, "others")).await;
    is_forbidden(&world, &forbidden, "reply_to").await;
}

#[tokio::test]
async fn the_brokers_user_is_the_publisher_whatever_it_calls_itself() {
    let (world, _daemon, publisher) = World::at_work(&[]).await;
    let events = world.events().await;
    world.open(["world", "alice"]).await;
    let task = pay();
    let properties = Publisher::properties(&task).with_user_id("guest".into()).with_app_id("treasury".into());
    publisher.publish_with(&task, properties).await;
    assert_eq!(world.outcome(&task).await["publisher"], "guest");
    assert_eq!(events.of(&task).await.body["publisher"], "guest");
}

const RULES: &str = r#"publisher = [
    { name = "guest", types = ["open_account", "transfer", "refund", "cancel"], accounts = ["shop:*"],
      debit = ["shop:*", "world"], credit = ["shop:*"], replies = ["*.listener.*"] },
    { name = "till", types = ["*"], debit = ["*"], credit = ["*"], accounts = ["*"] },
]"#;

#[tokio::test]
async fn a_publisher_does_what_the_settings_let_it_and_nothing_else() {
    let (world, daemon) = World::with_daemon(&[]).await;
    world.open(["world", "alice", "shop:1"]).await;
    let (others, own, later) = (
        transfer("world", "alice", 50),
        transfer("world", "shop:1", 50),
        pay().with("execute_at", "2100-01-01T00:00:00Z"),
    );
    let publisher = world.publisher().await;
    publisher.publish_all([&others, &own, &later]).await;
    world.outcome(&own).await;
    world.becomes("scheduled", &later).await;
    daemon.stop().await;

    world.configure(&[RULES]);
    let replies = Events::replies(&world).await;
    let mut daemon = world.daemon().await;
    let cases = [
        (change("freeze_account", "shop:1"), "type"),
        (open("treasury", "USD", None), "account"),
        (transfer("alice", "shop:1", 1), "debit_account"),
        (transfer("world", "alice", 1), "credit_account"),
        (split(&[("shop:1", "shop:2", 1), ("shop:1", "alice", 1)]), "legs[1].credit_account"),
    ];
    for (task, field) in &cases {
        as_guest(&publisher, task).await;
        is_forbidden(&world, task, field).await;
    }
    // Who is not verified is nobody, by whatever name.
    let unverified = transfer("world", "shop:1", 1);
    publisher.publish_with(&unverified, Publisher::properties(&unverified).with_app_id("till".into())).await;
    is_forbidden(&world, &unverified, "user_id").await;
    let fine = transfer("world", "shop:1", 2);
    let asking = Publisher::properties(&fine).with_user_id("guest".into()).with_reply_to(replies.queue.as_str().into());
    publisher.publish_with(&fine, asking).await;
    assert_eq!(replies.count(1).await[0].body["state"], "settled");

    // It may act on a payment that it could have made, and on what it has published.
    let mine = transfer("world", "shop:1", 1).with("execute_at", "2100-01-01T00:00:00Z");
    as_guest(&publisher, &mine).await;
    let cases = [
        (follow_up("refund", &others, Some(1)), false),
        (follow_up("refund", &own, Some(1)), true),
        (follow_up("cancel", &later, None), false),
        (follow_up("cancel", &mine, None), true),
    ];
    for (task, is_allowed) in &cases {
        as_guest(&publisher, task).await;
        let row = world.outcome(task).await;
        let (state, reason) = if *is_allowed { ("settled", None) } else { ("rejected", Some("forbidden")) };
        assert_has(&row, json!({"state": state, "reason": reason}));
    }
    daemon.counts("settled_forbidden_total", &[("publisher", "guest")], 5 + 2).await;
    daemon.counts("settled_forbidden_total", &[("publisher", "other")], 1).await;
    world.end(daemon).await;
}

#[tokio::test]
async fn a_follow_up_that_comes_before_its_payment_is_held_to_the_same_rules() {
    let (world, daemon, publisher) = World::at_work(&["authority.verified = false", RULES]).await;
    let by = |task: &Task, name: &str| Publisher::properties(task).with_app_id(name.into());
    for name in ["world", "alice", "shop:1"] {
        let opening = open(name, "USD", None);
        publisher.publish_with(&opening, by(&opening, "till")).await;
    }
    let (others, own) = (transfer("world", "alice", 5), transfer("world", "shop:1", 5));
    let early = [&others, &own].map(|payment| follow_up("refund", payment, Some(1)));
    for task in &early {
        publisher.publish_with(task, by(task, "guest")).await;
        world.becomes("parked", task).await;
    }
    for task in [&others, &own] {
        publisher.publish_with(task, by(task, "till")).await;
    }
    assert_eq!(world.becomes("rejected", &early[0]).await["reason"], "forbidden");
    world.becomes("settled", &early[1]).await;
    // Who has no rules is nobody.
    let stranger = transfer("world", "alice", 1);
    publisher.publish(&stranger).await;
    is_forbidden(&world, &stranger, "app_id").await;
    world.end(daemon).await;
}

#[tokio::test]
async fn the_command_line_publishes_as_the_brokers_user() {
    let (world, _daemon, _publisher) = World::at_work(&[RULES]).await;
    world.succeeds(&["account", "open", "shop:9", "--currency", "USD"]).await;
    assert_eq!(world.rows("SELECT publisher FROM payment", &[]).await, [json!({"publisher": "guest"})]);
    let refused = world.run(&["account", "open", "treasury", "--currency", "USD", "--timeout", "20s"]).await;
    assert!(refused.code == 1 && refused.stdout.contains("does not allow"), "{refused:?}");
}

/// The configuration of a publisher's machine does not list publishers.
#[tokio::test]
async fn who_publishes_from_another_machine_is_verified_as_its_own_user() {
    let list =
        "publisher = [{ name = \"guest\", types = [\"*\"], debit = [\"*\"], credit = [\"*\"], accounts = [\"*\"] }]";
    let (world, daemon, publisher) = World::at_work(&[list]).await;
    for account in ["world", "alice"] {
        as_guest(&publisher, &open(account, "USD", None)).await;
    }
    world.configure(&[]);
    let (own, other) = (pay(), pay());
    let publish = async |name: &str, task: &Task| {
        world.run_with(&["publish", "--wait", "--publisher", name], &task.body()).await.code
    };
    assert_eq!((publish("guest", &own).await, publish("shop", &other).await), (0, 1));
    assert_has(&world.outcome(&own).await, json!({"state": "settled", "publisher": "guest"}));
    is_forbidden(&world, &other, "user_id").await;
    daemon.stop().await;
}
