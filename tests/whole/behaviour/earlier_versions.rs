//! What an earlier version has stored is read, shown and resumed, though nobody may publish it any more.

use jiff::{SignedDuration, Timestamp};
use serde_json::json;
use settled_testkit::harness::{Task, World, change, transfer};
use uuid::Uuid;

/// A change of limits that takes one away, for a moment that comes soon.
fn later(account: &str) -> Task {
    let at = (Timestamp::now() + SignedDuration::from_secs(3)).round(jiff::Unit::Second).expect("in range");
    change("set_limits", account).with("min_balance", "none").with("execute_at", at.to_string())
}

#[tokio::test]
async fn a_task_that_takes_a_limit_away_is_kept_in_the_form_that_every_version_reads() {
    let (world, daemon, publisher) = World::at_work(&[]).await;
    world.open_world_and_alice().await;
    let task = later("alice");
    publisher.publish(&task).await;
    let kept = world.becomes("scheduled", &task).await["request"].as_str().expect("a request").to_owned();
    let kept: serde_json::Value = serde_json::from_str(&kept).expect("JSON");
    assert_eq!(kept["min_balance"], json!(null), "{kept}");
    world.becomes("settled", &task).await;
    assert_eq!(world.account("alice").await["min_balance"], json!(null));
    let shown = world.run(&["payment", "show", &task.id.to_string()]).await;
    assert!(shown.stdout.contains("min_balance      none\n"), "{shown:?}");
    // The same task, in the word of today and in that of before.
    publisher.publish(&task).await;
    let before = task.clone().with("min_balance", json!(null));
    publisher.publish(&before).await;
    let letter = world.is_dead_letter(&before, json!({"reason": "malformed", "field": "min_balance"})).await;
    assert!(letter["detail"].as_str().is_some_and(|detail| detail.contains("write \"none\"")), "{letter}");
    daemon.stop().await;
    assert_eq!(world.count("dead_letter").await, 1, "the repetition is none");
    world.audit().await;
}

#[tokio::test]
async fn a_task_with_an_id_that_nobody_has_set_can_still_be_looked_up() {
    let (world, daemon) = World::with_daemon(&[]).await;
    let task = transfer("nobody", "world", 1).with("reference", "the-first");
    world.publisher().await.publish(&task).await;
    world.becomes("rejected", &task).await;
    let nil = Uuid::nil();
    let store = "CREATE TEMP TABLE stored AS SELECT * FROM payment; UPDATE stored SET id = '00000000-0000-0000-0000-000000000000';
                 INSERT INTO payment SELECT * FROM stored";
    world.sql().await.batch_execute(store).await.expect("stored, as a version before has");
    let shown = world.run(&["payment", "show", &nil.to_string()]).await;
    assert!(shown.code == 0 && shown.stdout.contains("the-first"), "{shown:?}");
    let listed = world.run(&["payment", "list", "--json"]).await.json();
    assert_eq!(listed[1]["id"], json!(nil), "{listed}");
    // Nobody is told any more that it is a duplicate of somebody else's payment.
    let other = transfer("nobody", "world", 2).identified(nil);
    world.publisher().await.publish(&other).await;
    world.is_dead_letter(&other, json!({"reason": "malformed", "field": "id"})).await;
    daemon.stop().await;
}
