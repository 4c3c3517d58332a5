//! Authorize, capture, void.

use serde_json::json;
use settled_testkit::harness::{assert_has, authorize, eventually, follow_up, transfer};

use super::{balance, declined, done, with_accounts};

#[tokio::test]
async fn what_is_authorized_is_held_and_a_capture_posts_it() {
    let (world, _daemon) = with_accounts(&[], &[("alice", 100), ("shop", 0)]).await;
    let events = world.events().await;

    let hold = authorize("alice", "shop", 60);
    done(&world, "authorized", &hold).await;
    assert_eq!(balance(&world, "alice").await, (100, 60));
    declined(&world, "insufficient_funds", &transfer("alice", "shop", 41)).await;
    declined(&world, "insufficient_funds", &authorize("alice", "shop", 41)).await;

    let part = follow_up("capture", &hold, Some(20)).with("final", false);
    done(&world, "settled", &part).await;
    assert_eq!(balance(&world, "alice").await, (80, 40));
    let row = world.becomes("partially_captured", &hold).await;
    assert_has(&row, json!({"captured": 20, "version": 2}));
    declined(&world, "amount_exceeds_remaining", &follow_up("capture", &hold, Some(41))).await;

    let rest = follow_up("capture", &hold, Some(30));
    done(&world, "settled", &rest).await;
    assert_eq!(balance(&world, "alice").await, (50, 0), "a final capture releases what it doesn't post");
    assert_eq!(balance(&world, "shop").await, (50, 0));
    world.becomes("settled", &hold).await;
    declined(&world, "already_captured", &follow_up("capture", &hold, None)).await;
    declined(&world, "already_captured", &follow_up("void", &hold, None)).await;

    let event = events.of(&rest).await;
    assert_eq!(event.routing_key, "payment.captured");
    let payment = &event.body["payment"];
    assert_has(payment, json!({"state": "settled", "version": 3}));
    assert_has(payment, json!({"captured": 50, "held": 0}));
    assert_eq!(event.body["amount"], 30);
    assert_eq!(event.body["balances"][0], json!({"account": "alice", "posted": 50, "held": 0, "version": 3}));
    let event = events.of(&hold).await;
    assert_eq!(event.routing_key, "payment.authorized");
    assert_eq!(event.body["balances"], json!([{"account": "alice", "posted": 100, "held": 60, "version": 1}]));
    super::reckon(&world).await;
}

#[tokio::test]
async fn a_void_releases_what_is_held_and_nothing_can_follow() {
    let (world, mut daemon) = with_accounts(&[], &[("alice", 100), ("shop", 0)]).await;
    let events = world.events().await;
    let hold = authorize("alice", "shop", 100);
    let void = follow_up("void", &hold, None);
    done(&world, "authorized", &hold).await;
    eventually("the gauges say what is held", async || {
        daemon.metric("settled_held_amount", &[("currency", "USD")]).await == 100.0
            && daemon.metric("settled_holds", &[]).await == 1.0
    })
    .await;
    done(&world, "settled", &void).await;
    eventually("the gauge says that nothing is held", async || {
        daemon.metric("settled_held_amount", &[("currency", "USD")]).await == 0.0
    })
    .await;
    assert_eq!(balance(&world, "alice").await, (100, 0));
    for kind in ["capture", "void", "refund"] {
        declined(&world, "payment_voided", &follow_up(kind, &hold, None)).await;
    }
    assert_eq!(events.of(&void).await.body["payment"]["state"], "voided");
    super::reckon(&world).await;
}

#[tokio::test]
async fn authorize_capture_and_refund_in_one_batch_leave_what_one_by_one_would() {
    let (world, mut daemon) =
        with_accounts(&["pipeline.lanes = 1", "pipeline.workers = 1"], &[("alice", 100), ("shop", 0)]).await;
    let hold = authorize("alice", "shop", 80);
    let capture = follow_up("capture", &hold, Some(50));
    let refund = follow_up("refund", &hold, Some(20));
    let over = follow_up("refund", &hold, Some(31));
    let tasks = [hold.clone(), capture, refund, over.clone()];
    world.in_one_batch(&mut daemon, 4, async |publisher| publisher.publish_all(&tasks).await).await;
    let row = world.becomes("partially_refunded", &hold).await;
    assert_has(&row, json!({"captured": 50, "refunded": 20, "version": 3}));
    assert_eq!(world.becomes("rejected", &over).await["reason"], "amount_exceeds_remaining");
    assert_eq!(balance(&world, "alice").await, (70, 0));
    assert_eq!(balance(&world, "shop").await, (30, 0));
    super::reckon(&world).await;
}
