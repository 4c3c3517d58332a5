//! Schedules, dependencies, and follow-ups that are too early.

use jiff::Timestamp;
use settled_testkit::harness::{authorize, eventually, follow_up, transfer};

use super::{balance, declined, done, soon, with_accounts};

#[tokio::test]
async fn a_scheduled_payment_is_applied_when_it_is_due_also_after_a_restart() {
    let (world, daemon) = with_accounts(&[], &[("alice", 100), ("shop", 0)]).await;
    let events = world.events().await;
    let due = soon(2_000);
    let payment = transfer("alice", "shop", 10).with("execute_at", due.clone());
    let due: Timestamp = due.parse().expect("a time");
    done(&world, "scheduled", &payment).await;
    assert_eq!(balance(&world, "shop").await, (0, 0));
    daemon.stop().await;
    let _daemons = [world.daemon().await, world.daemon().await];
    let row = world.becomes("settled", &payment).await;
    let at: Timestamp = row["settled_at"].as_str().expect("a time").parse().expect("a time");
    assert!(at >= due, "{at} is before {due}");
    assert_eq!(balance(&world, "shop").await, (10, 0));
    let kinds = [format!("{}/1", payment.id), format!("{}/2", payment.id)];
    for (id, key) in kinds.iter().zip(["payment.scheduled", "payment.settled"]) {
        let event = events.find(id, |event| event.message_id() == id).await;
        assert_eq!(event.routing_key, key);
    }
    // One whose time has passed is applied at once.
    done(&world, "settled", &transfer("alice", "shop", 1).with("execute_at", "2002-02-01T00:00:00+02:00")).await;
    super::reckon(&world).await;
}

#[tokio::test]
async fn a_task_waits_for_the_one_it_comes_after_and_fails_with_it() {
    let (world, _daemon) = with_accounts(&[], &[("alice", 100), ("shop", 0)]).await;
    let first = transfer("alice", "shop", 10);
    let second = transfer("shop", "alice", 10).with("after", first.id.to_string());
    done(&world, "parked", &second).await;
    done(&world, "settled", &first).await;
    world.becomes("settled", &second).await;
    let fails = transfer("alice", "shop", 1_000);
    let behind = transfer("alice", "shop", 1).with("after", fails.id.to_string());
    let last = transfer("alice", "shop", 1).with("after", behind.id.to_string());
    done(&world, "parked", &last).await;
    done(&world, "parked", &behind).await;
    done(&world, "rejected", &fails).await;
    for task in [&behind, &last] {
        assert_eq!(world.becomes("rejected", task).await["reason"], "dependency_failed");
    }
    // One that has had its outcome is not waited for.
    done(&world, "settled", &transfer("alice", "shop", 1).with("after", second.id.to_string())).await;
    world.nothing_waits().await;
    super::reckon(&world).await;
}

#[tokio::test]
async fn two_tasks_that_wait_for_each_other_are_looked_at_ever_more_seldom() {
    let (world, _daemon) = with_accounts(&[], &[("alice", 100), ("shop", 0)]).await;
    let (one, other) = (transfer("alice", "shop", 1), transfer("alice", "shop", 1));
    let one = one.with("after", other.id.to_string());
    let other = other.with("after", one.id.to_string());
    world.publisher().await.publish_all([&one, &other]).await;
    let looked = "SELECT max(looked) AS most FROM agenda HAVING count(*) = 2";
    let row = world.row("both were looked at some times", &format!("{looked} AND min(looked) >= 4"), &[]).await;
    assert!(row["most"].as_i64().is_some_and(|most| most < 20), "{row}: they keep each other awake");
    super::reckon(&world).await;
}

#[tokio::test]
async fn who_repeats_a_parked_task_changes_nothing_and_who_alters_it_is_a_dead_letter() {
    let (world, mut daemon) = with_accounts(&[], &[("alice", 100), ("shop", 0)]).await;
    let hold = authorize("alice", "shop", 10);
    let capture = follow_up("capture", &hold, Some(7));
    done(&world, "parked", &capture).await;
    let publisher = world.publisher().await;
    publisher.publish(&capture).await;
    daemon.counts("settled_outcomes_total", &[("outcome", "duplicate")], 1).await;
    let altered = capture.clone().with("amount", 8);
    publisher.publish(&altered).await;
    assert_eq!(world.dead_letter_of(&altered).await["field"], "amount");
    publisher.publish(&hold).await;
    world.becomes("settled", &capture).await;
    publisher.publish(&capture).await;
    daemon.counts("settled_outcomes_total", &[("outcome", "duplicate")], 2).await;
    assert_eq!(balance(&world, "shop").await, (7, 0));
    super::reckon(&world).await;
}

#[tokio::test]
async fn a_scheduled_follow_up_and_a_scheduled_parent_meet() {
    let (world, _daemon) = with_accounts(&[], &[("alice", 100), ("shop", 0)]).await;
    let hold = authorize("alice", "shop", 10).with("execute_at", soon(1_500));
    let capture = follow_up("capture", &hold, None).with("execute_at", soon(500));
    done(&world, "scheduled", &capture).await;
    done(&world, "scheduled", &hold).await;
    world.becomes("settled", &capture).await;
    assert_eq!(balance(&world, "shop").await, (10, 0));
    declined(&world, "already_captured", &follow_up("void", &hold, None)).await;
    super::reckon(&world).await;
}

#[tokio::test]
async fn gauges_are_measured_while_the_scheduler_is_busy() {
    let patient =
        ["postgres = { lock_timeout = '120s', statement_timeout = '130s' }", "admin.liveness_timeout = '200s'"];
    let (world, mut daemon) = with_accounts(&patient, &[("alice", 100), ("bob", 100), ("shop", 0)]).await;
    done(&world, "scheduled", &transfer("alice", "shop", 10).with("execute_at", "2999-01-01T00:00:00Z")).await;
    // What is due waits for the lock of an account for as long as this lasts.
    let busy = world.sql().await;
    busy.batch_execute("BEGIN; SELECT FROM account WHERE name = 'alice' FOR UPDATE").await.expect("locked");
    world.sql().await.batch_execute("UPDATE agenda SET due_at = now()").await.expect("due");
    let waits = "SELECT FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'";
    eventually("the scheduler waits", async || world.rows(waits, &[]).await.len() == 1).await;
    let orphan = transfer("bob", "shop", 1).with("after", uuid::Uuid::now_v7().to_string());
    done(&world, "parked", &orphan).await;
    done(&world, "authorized", &authorize("bob", "shop", 30)).await;
    eventually("they are measured", async || {
        let held = daemon.metric("settled_held_amount", &[("currency", "USD")]).await;
        (daemon.metric("settled_parked", &[]).await, daemon.metric("settled_holds", &[]).await, held)
            == (1.0, 1.0, 30.0)
    })
    .await;
    assert_eq!(world.rows(waits, &[]).await.len(), 1, "the scheduler still waits");
    busy.batch_execute("ROLLBACK").await.expect("unlocked");
}
