//! In which currencies accounts are opened, and what becomes of those that are open in another one.

use settled_testkit::harness::{Task, World, authorize, change, follow_up, open, transfer};

fn kuna(task: Task) -> Task {
    task.with("currency", "HRK")
}

#[tokio::test]
async fn money_in_a_withdrawn_currency_is_paid_out_refunded_shown_and_its_account_closed() {
    let (world, daemon) = World::with_daemon(&["payments.currencies = [\"HRK:2\", \"BTC:8\"]"]).await;
    world.settle(&[open("bank", "HRK", None), open("shop", "HRK", Some(0)), open("coins", "BTC", None)]).await;
    let (sale, held) = (kuna(transfer("bank", "shop", 1250)), kuna(authorize("bank", "shop", 800)));
    world.publisher().await.publish_all(&[sale.clone(), held.clone()]).await;
    world.becomes("settled", &sale).await;
    world.becomes("authorized", &held).await;
    let shown = world.run(&["account", "list"]).await.stdout;
    assert!(shown.contains("12.50"), "{shown}");
    daemon.stop().await;

    // As after an upgrade, or on the day on which ISO 4217 withdraws the code.
    world.configure(&[]);
    let daemon = world.daemon().await;
    let late =
        [open("late", "HRK", None), open("test", "XTS", None), open("none", "XXX", None), open("late", "BTC", None)];
    world.publisher().await.publish_all(&late).await;
    for task in &late {
        assert_eq!(world.becomes("rejected", task).await["reason"], "unknown_currency", "{}", task.json);
    }
    let foreign = transfer("bank", "shop", 1);
    world.publisher().await.publish(&foreign).await;
    assert_eq!(world.becomes("rejected", &foreign).await["reason"], "currency_mismatch");

    world.settle(&[follow_up("capture", &held, Some(300)), follow_up("refund", &sale, Some(250))]).await;
    world.settle(&[follow_up("chargeback", &sale, Some(100))]).await;
    world.settle(&[follow_up("chargeback_reversal", &sale, Some(100))]).await;
    let left = world.account("shop").await["posted"].as_i64().expect("a balance");
    assert_eq!(left, 1250 + 300 - 250);
    world.settle(&[kuna(transfer("shop", "bank", left)), change("set_limits", "bank").with("min_balance", -5)]).await;
    let listed = world.succeeds(&["account", "list", "--currency", "HRK"]).await;
    assert!(listed.contains("shop") && !listed.contains("coins"), "{listed}");
    let history = world.succeeds(&["account", "history", "shop"]).await;
    assert!(history.contains("-13.00"), "{history}");
    let shown = world.succeeds(&["payment", "show", &sale.id.to_string()]).await;
    assert!(shown.contains("12.50 HRK"), "{shown}");
    world.settle(&["shop", "bank", "coins"].map(|name| change("close_account", name))).await;
    world.end(daemon).await;
}
