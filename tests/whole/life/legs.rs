//! Payments between several accounts.

use serde_json::json;
use settled_testkit::harness::{follow_up, open, split};

use super::{balance, declined, done, with_accounts};

#[tokio::test]
async fn all_legs_are_posted_or_none() {
    let (world, _daemon) = with_accounts(&[], &[("alice", 100), ("bob", 5), ("seller", 0), ("fee", 0)]).await;
    let events = world.events().await;
    let sale = split(&[("alice", "seller", 90), ("alice", "fee", 7), ("bob", "fee", 3)]);
    done(&world, "settled", &sale).await;
    assert_eq!(balance(&world, "alice").await, (3, 0));
    assert_eq!(balance(&world, "fee").await, (10, 0));
    let too_much = split(&[("alice", "seller", 3), ("bob", "fee", 3)]);
    declined(&world, "insufficient_funds", &too_much).await;
    assert_eq!(balance(&world, "alice").await, (3, 0), "the first leg alone could have been posted");
    let event = events.of(&sale).await;
    assert_eq!(event.routing_key, "payment.settled");
    assert_eq!(event.body["payment"]["amount"], 100);
    assert_eq!(event.body["payment"]["legs"][1]["captured"], 7);
    assert_eq!(event.body["legs"].as_array().map(Vec::len), Some(3));
    super::reckon(&world).await;
}

#[tokio::test]
async fn a_refund_of_legs_goes_in_proportion_and_loses_no_minor_unit() {
    let (world, _daemon) = with_accounts(&[], &[("alice", 100), ("seller", 0), ("fee", 0), ("tax", 0)]).await;
    let sale = split(&[("alice", "seller", 80), ("alice", "fee", 13), ("alice", "tax", 7)]);
    done(&world, "settled", &sale).await;
    done(&world, "settled", &follow_up("refund", &sale, Some(33))).await;
    // 26.4, 4.29 and 2.31: the unit that is left goes to the largest remainder.
    assert_eq!(balance(&world, "seller").await, (53, 0));
    assert_eq!(balance(&world, "fee").await, (9, 0));
    assert_eq!(balance(&world, "tax").await, (5, 0));
    done(&world, "settled", &follow_up("refund", &sale, Some(9)).with("leg", 1)).await;
    declined(&world, "amount_exceeds_remaining", &follow_up("refund", &sale, Some(1)).with("leg", 1)).await;
    declined(&world, "leg_not_found", &follow_up("refund", &sale, Some(1)).with("leg", 3)).await;
    world.becomes("partially_refunded", &sale).await;
    done(&world, "settled", &follow_up("refund", &sale, None)).await;
    world.becomes("refunded", &sale).await;
    assert_eq!(balance(&world, "alice").await, (100, 0));
    super::reckon(&world).await;
}

#[tokio::test]
async fn legs_can_be_held_and_captured_together_also_in_several_currencies() {
    let (world, _daemon) = with_accounts(&[], &[("alice", 100), ("shop", 0)]).await;
    let events = world.events().await;
    done(&world, "settled", &open("alice:eur", "EUR", None)).await;
    done(&world, "settled", &open("shop:eur", "EUR", None)).await;
    let hold = split(&[("alice", "shop", 50), ("alice:eur", "shop:eur", 20)]).with("type", "authorize");
    let mut json = hold.json.clone();
    json["legs"][1]["currency"] = "EUR".into();
    let hold = settled_testkit::harness::Task { json, ..hold };
    done(&world, "authorized", &hold).await;
    assert_eq!(balance(&world, "alice").await, (100, 50));
    declined(&world, "leg_required", &follow_up("capture", &hold, Some(10))).await;
    let part = follow_up("capture", &hold, Some(10)).with("leg", 1).with("final", false);
    done(&world, "settled", &part).await;
    assert_eq!(balance(&world, "alice:eur").await, (-10, 10));
    let rest = follow_up("capture", &hold, None);
    done(&world, "settled", &rest).await;
    assert_eq!(balance(&world, "alice").await, (50, 0));
    assert_eq!(balance(&world, "shop:eur").await, (20, 0));
    let body = events.of(&rest).await.body;
    assert_eq!(body["amount"], json!(null), "there is no sum of two currencies");
    assert_eq!(body["payment"]["legs"][1]["captured"], 20);
    done(&world, "settled", &follow_up("chargeback", &hold, Some(5)).with("leg", 0)).await;
    world.becomes("charged_back", &hold).await;
    super::reckon(&world).await;
}
