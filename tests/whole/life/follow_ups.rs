//! Refunds, chargebacks, their reversal, cancel.

use serde_json::json;
use settled_testkit::harness::{follow_up, transfer};

use super::{balance, declined, done, with_accounts};

#[tokio::test]
async fn refunds_go_back_until_all_is_refunded_and_need_the_money() {
    let (world, _daemon) = with_accounts(&[], &[("alice", 100), ("shop", 0)]).await;
    let events = world.events().await;
    let payment = transfer("alice", "shop", 90);
    done(&world, "settled", &payment).await;
    let part = follow_up("refund", &payment, Some(30)).with("reference", "return-1");
    done(&world, "settled", &part).await;
    world.becomes("partially_refunded", &payment).await;
    // The shop has spent it.
    done(&world, "settled", &transfer("shop", "world", 60)).await;
    declined(&world, "insufficient_funds", &follow_up("refund", &payment, None)).await;
    declined(&world, "amount_exceeds_remaining", &follow_up("refund", &payment, Some(61))).await;
    done(&world, "settled", &transfer("world", "shop", 60)).await;
    let rest = follow_up("refund", &payment, None);
    assert_eq!(done(&world, "settled", &rest).await["amount"], 60);
    world.becomes("refunded", &payment).await;
    assert_eq!(balance(&world, "alice").await, (100, 0));
    declined(&world, "amount_exceeds_remaining", &follow_up("refund", &payment, None)).await;
    declined(&world, "payment_not_found", &follow_up("refund", &part, None)).await;
    let event = events.of(&part).await;
    assert_eq!((event.routing_key.as_str(), &event.body["reference"]), ("payment.refunded", &json!("return-1")));
    super::reckon(&world).await;
}

#[tokio::test]
async fn a_chargeback_goes_below_the_limit_and_says_so_until_credits_make_up_for_it() {
    let (world, mut daemon) =
        with_accounts(&["pipeline.lanes = 1", "pipeline.workers = 1"], &[("alice", 100), ("shop", 0)]).await;
    let events = world.events().await;
    let payment = transfer("alice", "shop", 100);
    let spent = transfer("shop", "world", 80);
    done(&world, "settled", &payment).await;
    done(&world, "settled", &spent).await;
    let chargeback = follow_up("chargeback", &payment, Some(50));
    done(&world, "settled", &chargeback).await;
    world.becomes("charged_back", &payment).await;
    assert_eq!(balance(&world, "shop").await, (-30, 0));
    assert_eq!(world.account("shop").await["shortfall"], 30);
    let event = events.of(&chargeback).await;
    assert_eq!(event.routing_key, "payment.charged_back");
    assert_eq!(event.body["balances"][0]["shortfall"], 30);
    daemon.counts("settled_shortfalls_total", &[], 1).await;
    super::reckon(&world).await;

    declined(&world, "insufficient_funds", &transfer("shop", "world", 1)).await;
    done(&world, "settled", &transfer("world", "shop", 10)).await;
    assert_eq!(world.account("shop").await["shortfall"], 20);
    done(&world, "settled", &follow_up("chargeback_reversal", &payment, Some(20))).await;
    assert_eq!(balance(&world, "shop").await, (0, 0));
    done(&world, "settled", &follow_up("chargeback_reversal", &payment, Some(30))).await;
    world.becomes("settled", &payment).await;
    assert_eq!(world.account("shop").await["shortfall"], 0);
    super::reckon(&world).await;
}

#[tokio::test]
async fn a_cancel_calls_off_what_waits_and_comes_too_late_for_the_rest() {
    let (world, _daemon) = with_accounts(&[], &[("alice", 100), ("shop", 0)]).await;
    let events = world.events().await;
    let later = transfer("alice", "shop", 10).with("execute_at", "2999-01-01T00:00:00Z");
    let cancel = follow_up("cancel", &later, None);
    done(&world, "scheduled", &later).await;
    done(&world, "settled", &cancel).await;
    world.becomes("canceled", &later).await;
    assert_eq!(events.of(&cancel).await.body["payment"]["state"], "canceled");
    declined(&world, "payment_canceled", &follow_up("cancel", &later, None)).await;
    let now = transfer("alice", "shop", 10);
    done(&world, "settled", &now).await;
    declined(&world, "already_applied", &follow_up("cancel", &now, None)).await;
    let orphan = follow_up("refund", &transfer("alice", "shop", 1), None);
    done(&world, "parked", &orphan).await;
    done(&world, "settled", &follow_up("cancel", &orphan, None)).await;
    world.becomes("canceled", &orphan).await;
    world.nothing_waits().await;
    super::reckon(&world).await;
}
