//! What operators are shown of lives that are more than a transfer: through the real binary, on
//! what the real daemon has made.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use settled_testkit::harness::{Task, World, assert_has, authorize, follow_up, life, open, transfer};

async fn shown(world: &World, task: &Task) -> (Value, String) {
    let id = task.id.to_string();
    let json = world.prints(&["payment", "show", &id]).await;
    (json, world.succeeds(&["payment", "show", &id]).await)
}

fn states(shown: &Value) -> Vec<&str> {
    let steps = shown["steps"].as_array().expect("steps").iter();
    steps.map(|step| step["state"].as_str().expect("a state")).collect()
}

#[tokio::test]
async fn a_task_is_shown_with_all_that_has_become_of_it() {
    let (world, _daemon) = World::with_daemon(&[]).await;
    let life = life::live(&world).await;

    let (held, drawn) = shown(&world, &life.held).await;
    assert_eq!((&held["payment"]["held"], &held["iso_status"]), (&json!(450), &json!("ACSP")));
    assert_eq!(states(&held), ["authorized", "partially_captured"]);
    let capture = &held["follow_ups"][0];
    assert_has(capture, json!({"type": "capture", "amount": 250, "publisher": "settled-cli"}));
    assert_eq!((&capture["id"], &capture["entries"][0]["amount"]), (&held["steps"][1]["cause"], &json!(-250)));
    let told = json!({"id": format!("{}/1", capture["id"].as_str().expect("an id")), "type": "payment.captured"});
    assert_eq!(held["steps"][1]["event"], told);
    assert!(drawn.contains("● partially_captured (ACSP), version 2"), "{drawn}");
    assert!(drawn.contains("◌ what is still held is released"), "{drawn}");

    let (split, drawn) = shown(&world, &life.split).await;
    let legs = &split["payment"]["legs"];
    assert_eq!((&legs[0]["refunded"], &legs[1]["refunded"]), (&json!(90), &json!(10)));
    assert_eq!((split["entries"].as_array().map(Vec::len), states(&split).len()), (Some(4), 2));
    assert!(drawn.contains("entry 2 of fee") && drawn.contains("REFUNDED"), "{drawn}");

    let (sale, _) = shown(&world, &life.sale).await;
    assert_eq!(states(&sale), ["settled", "partially_refunded", "charged_back", "charged_back"]);
    let chargeback = sale["follow_ups"][1]["id"].as_str().expect("an id").to_owned();
    let chargeback = world.prints(&["payment", "show", &chargeback]).await;
    let moved = json!({"version": 3, "from": "partially_refunded", "to": "charged_back"});
    assert_has(&chargeback["parent"], json!({"id": sale["id"], "moved": moved, "amount": 5_000}));

    let (later, drawn) = shown(&world, &life.later).await;
    assert_eq!(later["waits"]["deadline"], "2099-01-01T00:00:00Z");
    assert_eq!(later["execute_at"], "2099-01-01T00:00:00Z");
    assert!(drawn.contains("2099-01-01T00:00:00.000Z ◌ applied"), "{drawn}");
    let (waiting, drawn) = shown(&world, &life.waiting).await;
    assert_eq!(waiting["waits"]["waits_for"], waiting["payment_id"]);
    assert!(drawn.contains("which is not there yet") && drawn.contains("● parked (RCVD)"), "{drawn}");

    let (expired, drawn) = shown(&world, &life.expired).await;
    assert_eq!((states(&expired), &expired["steps"][1]["cause"]), (vec!["authorized", "expired"], &Value::Null));
    let told = json!({"id": format!("{}/2", life.expired.id), "type": "payment.expired"});
    assert_eq!(expired["steps"][1]["event"], told);
    assert!(drawn.contains("the hold ran out"), "{drawn}");
}

#[tokio::test]
async fn payments_are_found_by_state_type_account_and_payment() {
    let (world, _daemon) = World::with_daemon(&[]).await;
    let life = life::live(&world).await;
    let list = async |filter: &[&str]| -> Vec<Value> {
        world.prints(&[&["payment", "list"], filter].concat()).await.as_array().expect("a list").clone()
    };
    // Sorted: those of one batch were decided at the same moment.
    let references = |payments: &[Value]| -> Vec<String> {
        let references = payments.iter().map(|payment| payment["reference"].as_str().unwrap_or("-").to_owned());
        let mut references: Vec<String> = references.collect();
        references.sort();
        references
    };
    assert_eq!(references(&list(&["--state", "authorized"]).await), ["held-legs"]);
    assert_eq!(references(&list(&["--state", "parked"]).await), ["waiting"]);
    assert_eq!(references(&list(&["--state", "canceled", "--since", "1h"]).await), ["called-off"]);
    assert_eq!(references(&list(&["--type", "refund"]).await), ["captured-refund", "sale-refund", "split-refund"]);
    let sale = life.sale.id.to_string();
    let of_sale = list(&["--of", &sale]).await;
    let mut types: Vec<&str> = of_sale.iter().filter_map(|payment| payment["type"].as_str()).collect();
    types.sort_unstable();
    assert_eq!(types, ["chargeback", "chargeback_reversal", "refund"]);
    assert_eq!(list(&["--of", &sale, "--type", "refund"]).await.len(), 1);

    let of_fee = list(&["--account", "fee", "--type", "transfer"]).await;
    assert_eq!(references(&of_fee), ["-", "split"]);
    let split = of_fee.iter().find(|payment| payment["reference"] == "split").expect("the one with legs");
    assert_has(split, json!({"legs": 2, "amount": 200, "currency": "USD"}));
    let table = world.run(&["payment", "list"]).await.stdout;
    let line = |of: &str| table.lines().find(|line| line.contains(of)).unwrap_or_else(|| panic!("{of} in {table}"));
    assert!(line("split-refund").contains("2 legs") && line("split-refund").contains("1.00  USD"), "{table}");
    assert!(line(" void ").contains("of 0"), "{table}");

    let wrong = world.run(&["payment", "list", "--state", "lost"]).await;
    assert!(wrong.code == 2 && wrong.stderr.contains("partially_captured"), "{wrong:?}");
}

#[tokio::test]
async fn an_account_is_shown_as_it_is_and_as_it_was() {
    let (world, _daemon) = World::with_daemon(&[]).await;
    life::live(&world).await;
    let account = async |name: &str| world.prints(&["account", "show", name]).await;
    let buyer = account("buyer").await;
    let holds: Vec<&Value> = buyer["holds"].as_array().expect("a list").iter().map(|hold| &hold["amount"]).collect();
    assert_eq!((holds, &buyer["held"]), (vec![&json!(450), &json!(90), &json!(10)], &json!(550)));
    let drawn = world.run(&["account", "show", "buyer", "--holds", "1"]).await.stdout;
    assert!(!drawn.contains("held-legs") && drawn.ends_with("… and 2 more\n"), "{drawn}");
    let seller = account("seller").await;
    assert_has(&seller, json!({"posted": -253, "shortfall": 253}));
    let fee = account("fee").await;
    assert_has(&fee, json!({"min_balance": -5, "max_balance": 80_000}));
    for (name, status) in [("ice", "frozen"), ("gone", "closed")] {
        assert_eq!(account(name).await["status"], status);
    }

    let history = world.prints(&["account", "history", "buyer"]).await;
    let history: Vec<&Value> = history.as_array().expect("a list").iter().rev().collect();
    let capture = history.iter().find(|entry| entry["amount"] == -250).expect("the capture's entry");
    assert_has(capture, json!({"type": "capture", "counter_account": "seller"}));
    assert!(capture["parent_id"].is_string(), "{capture}");
    let of_fee = history.iter().find(|entry| entry["amount"] == -20).expect("the entry of a leg");
    assert_has(of_fee, json!({"counter_account": "fee", "leg": 1}));

    // Of the entries of one moment the last is the balance of that moment.
    let moments: BTreeMap<&str, &Value> =
        history.iter().map(|entry| (entry["settled_at"].as_str().expect("a time"), &entry["balance_after"])).collect();
    assert!(moments.len() > 5, "{moments:?}");
    for (moment, posted) in moments {
        let then = world.prints(&["account", "show", "buyer", "--at", moment]).await;
        assert_eq!(&then["posted"], posted, "{moment}");
    }
    let at_first = buyer["opened_at"].as_str().expect("a time");
    let then = world.prints(&["account", "show", "buyer", "--at", at_first]).await;
    assert_has(&then, json!({"posted": 0, "version": 0, "payment_id": null}));
    let before = world.run(&["account", "show", "buyer", "--at", "1d"]).await;
    assert!(before.code == 1 && before.stderr.contains("had no balance then: opened "), "{before:?}");
    let to_come = world.run(&["account", "show", "buyer", "--at", "2099-01-01T00:00:00Z"]).await;
    assert!(to_come.code == 2 && to_come.stderr.contains("a time that has passed"), "{to_come:?}");
}

#[tokio::test]
async fn publish_waits_for_what_is_parked_and_not_for_what_is_scheduled() {
    let (world, _daemon) = World::with_daemon(&[]).await;
    life::live(&world).await;
    let publish = async |tasks: &[&Task], timeout: &str| {
        let lines: Vec<String> = tasks.iter().map(|task| task.body()).collect();
        world.run_with(&["publish", "--wait", "--timeout", timeout], &lines.join("\n")).await
    };
    let scheduled = transfer("buyer", "seller", 5).with("execute_at", "2099-01-01T00:00:00Z");
    let ended = publish(&[&scheduled], "60s").await;
    assert!(ended.code == 0 && ended.stdout.contains(" scheduled for 2099-01-01T00:00:00.000Z"), "{ended:?}");

    let payment = authorize("buyer", "seller", 9);
    let capture = follow_up("capture", &payment, None);
    assert_eq!(world.run_with(&["publish"], &capture.body()).await.code, 0);
    world.becomes("parked", &capture).await;
    let ended = publish(&[&capture], "300ms").await;
    assert!(ended.code == 69 && ended.stdout.contains(" parked"), "{ended:?}");
    let ended = publish(&[&capture, &payment], "60s").await;
    assert!(ended.code == 0 && ended.stdout.contains(" settled\n"), "{ended:?}");

    let ended = publish(&[&follow_up("cancel", &scheduled, None)], "60s").await;
    assert_eq!(ended.code, 0, "{ended:?}");
    let ended = publish(&[&scheduled], "60s").await;
    assert!(ended.code == 1 && ended.stdout.contains(" canceled"), "{ended:?}");
    let ended = publish(&[&follow_up("void", &payment, None), &open("late", "USD", None)], "60s").await;
    assert!(ended.code == 1 && ended.stdout.contains("1 rejected: already_captured"), "{ended:?}");
}
