//! Closing, freezing, limits.

use settled_testkit::harness::{authorize, change, follow_up, transfer};
use settled_testkit::replay::Settings;

use super::{balance, declined, done, with_accounts};

#[tokio::test]
async fn an_account_is_closed_only_when_nothing_is_on_it() {
    let (world, _daemon) = with_accounts(&[], &[("alice", 100), ("shop", 0)]).await;
    let events = world.events().await;
    declined(&world, "account_not_empty", &change("close_account", "alice")).await;
    let hold = authorize("alice", "shop", 100);
    done(&world, "authorized", &hold).await;
    done(&world, "settled", &follow_up("capture", &hold, None)).await;
    let close = change("close_account", "alice");
    done(&world, "settled", &close).await;
    assert_eq!(events.of(&close).await.routing_key, "account.closed");
    declined(&world, "account_closed", &transfer("world", "alice", 1)).await;
    declined(&world, "account_closed", &follow_up("refund", &hold, None)).await;
    declined(&world, "account_closed", &change("freeze_account", "alice")).await;
    declined(&world, "account_not_found", &change("close_account", "nobody")).await;
    super::reckon(&world).await;
}

#[tokio::test]
async fn a_frozen_account_is_not_debited() {
    let (world, _daemon) = with_accounts(&[], &[("alice", 100), ("shop", 0)]).await;
    let hold = authorize("alice", "shop", 10);
    done(&world, "authorized", &hold).await;
    done(&world, "settled", &change("freeze_account", "alice")).await;
    declined(&world, "account_frozen", &transfer("alice", "shop", 1)).await;
    declined(&world, "account_frozen", &authorize("alice", "shop", 1)).await;
    declined(&world, "account_frozen", &follow_up("capture", &hold, None)).await;
    done(&world, "settled", &transfer("world", "alice", 1)).await;
    done(&world, "settled", &follow_up("void", &hold, None)).await;
    done(&world, "settled", &change("unfreeze_account", "alice")).await;
    declined(&world, "account_not_frozen", &change("unfreeze_account", "alice")).await;
    done(&world, "settled", &transfer("alice", "shop", 101)).await;
    super::reckon(&world).await;
}

#[tokio::test]
async fn a_frozen_account_takes_no_credits_where_the_operator_says_so() {
    let (world, _daemon) = with_accounts(&["payments.frozen_takes_credits = false"], &[("alice", 100)]).await;
    done(&world, "settled", &change("freeze_account", "alice")).await;
    declined(&world, "account_frozen", &transfer("world", "alice", 1)).await;
    super::reckon_by(&world, Settings { frozen_takes_credits: false, ..Settings::default() }).await;
}

#[tokio::test]
async fn limits_can_be_set_and_hold_from_then_on() {
    let (world, _daemon) = with_accounts(&[], &[("alice", 100), ("shop", 0)]).await;
    done(&world, "settled", &change("set_limits", "alice").with("min_balance", -50).with("max_balance", 120)).await;
    declined(&world, "limit_exceeded", &transfer("world", "alice", 21)).await;
    done(&world, "settled", &transfer("world", "alice", 20)).await;
    done(&world, "settled", &transfer("alice", "shop", 170)).await;
    declined(&world, "insufficient_funds", &transfer("alice", "shop", 1)).await;
    declined(&world, "insufficient_funds", &change("set_limits", "alice").with("min_balance", -49)).await;
    done(&world, "settled", &change("set_limits", "alice").with("max_balance", "none")).await;
    done(&world, "settled", &transfer("world", "alice", 1_000)).await;
    assert_eq!(balance(&world, "alice").await, (950, 0));
    assert_eq!(world.account("alice").await["min_balance"], -50, "what isn't named stays");
    super::reckon(&world).await;
}
