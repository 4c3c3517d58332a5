//! A ledger with tasks of every type in every state that they can reach.

use uuid::Uuid;

use super::task::{authorize, change, follow_up, split};
use super::{Installation, Task, eventually, open, transfer};

/// The tasks that tests look up, named by their state.
pub struct Life {
    /// An authorization, partly captured; the rest is still held.
    pub held: Task,
    /// A payment with two legs, partly refunded.
    pub split: Task,
    /// A payment that was refunded and charged back.
    pub sale: Task,
    /// A payment scheduled for later.
    pub later: Task,
    /// A capture that waits for its payment.
    pub waiting: Task,
    /// An authorization whose hold has expired.
    pub expired: Task,
}

/// Creates the tasks with the daemon of this installation.
pub async fn live(settled: &Installation) -> Life {
    eventually("the daemon takes tasks", async || {
        let task = open("bank", "USD", None).identified(Uuid::from_u128(0xba1c));
        settled.run(&["publish", "--wait"], &task.body()).await.code == 0
    })
    .await;
    let settle = async |tasks: &[&Task]| {
        let lines: Vec<String> = tasks.iter().map(|task| task.body()).collect();
        let ended = settled.run(&["publish", "--wait"], &lines.join("\n")).await;
        assert_eq!(ended.code, 0, "{ended:?}");
    };
    for name in ["buyer", "seller", "fee", "ice", "gone"] {
        settle(&[&open(name, "USD", Some(0))]).await;
    }
    settle(&[&transfer("bank", "buyer", 50_000)]).await;

    let held = authorize("buyer", "seller", 700).with("reference", "held");
    let voided = authorize("buyer", "seller", 60).with("reference", "voided");
    let captured = authorize("bank", "buyer", 800).with("reference", "captured");
    let held_legs = split(&[("buyer", "seller", 90), ("buyer", "fee", 10)]).with("type", "authorize");
    let expired = authorize("buyer", "seller", 70).with("reference", "expired").with("expires_in", 1);
    let sale = transfer("buyer", "seller", 5_000).with("reference", "sale");
    let split = split(&[("buyer", "seller", 180), ("buyer", "fee", 20)]).with("reference", "split");
    settle(&[&held, &voided, &captured, &held_legs.with("reference", "held-legs"), &expired, &sale, &split]).await;
    let refund = |payment: &Task, amount: i64, reference: &str| {
        follow_up("refund", payment, Some(amount)).with("reference", reference)
    };
    settle(&[
        &follow_up("capture", &held, Some(250)).with("final", false).with("reference", "part"),
        &follow_up("void", &voided, None),
        &follow_up("capture", &captured, None),
        &refund(&sale, 1_200, "sale-refund"),
        &refund(&split, 100, "split-refund"),
    ])
    .await;
    settle(&[&refund(&captured, 300, "captured-refund"), &transfer("seller", "fee", 4_000)]).await;
    settle(&[&follow_up("chargeback", &sale, Some(500))]).await;
    settle(&[&follow_up("chargeback_reversal", &sale, Some(100))]).await;

    settle(&[&change("set_limits", "fee").with("min_balance", -5).with("max_balance", 90_000)]).await;
    settle(&[&change("set_limits", "fee").with("max_balance", 80_000)]).await;
    settle(&[&change("freeze_account", "ice"), &change("close_account", "gone")]).await;

    let at_last = "2099-01-01T00:00:00Z";
    let later = transfer("buyer", "seller", 1).with("execute_at", at_last).with("reference", "later");
    let called_off = transfer("buyer", "seller", 2).with("execute_at", at_last).with("reference", "called-off");
    let first = transfer("buyer", "seller", 3).with("reference", "first");
    let second = transfer("buyer", "seller", 4).with("after", first.id.to_string()).with("reference", "second");
    let nowhere = Task { id: Uuid::now_v7(), json: serde_json::Value::Null };
    let waiting = follow_up("capture", &nowhere, None).with("reference", "waiting");
    for task in [&later, &called_off, &second, &waiting] {
        assert_eq!(settled.run(&["publish"], &task.body()).await.code, 0);
    }
    for (task, is) in [(&later, "scheduled"), (&called_off, "scheduled"), (&second, "parked"), (&waiting, "parked")] {
        settled.world.becomes(is, task).await;
    }
    settle(&[&follow_up("cancel", &called_off, None), &first]).await;
    settled.world.becomes("settled", &second).await;
    settled.world.becomes("expired", &expired).await;
    Life { held, split, sale, later, waiting, expired }
}
