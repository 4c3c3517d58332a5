//! What operators do from the command line, on a running daemon.

use serde_json::{Value, json};
use settled_store::queries::dead_letter;
use settled_testkit::harness::amqp::declare_exchange;
use settled_testkit::harness::{World, assert_has, eventually};

const OPEN_ALICE: [&str; 5] = ["account", "open", "alice", "--currency", "USD"];

fn transfer(id: u128, amount: i64) -> Value {
    let id = uuid::Uuid::from_u128(0x0192_0000_0000_7000_8000_0000_0000_0000 + id);
    json!({"id": id, "type": "transfer", "debit_account": "world", "credit_account": "alice", "amount": amount,
           "currency": "USD", "reference": format!("order-{id}"), "metadata": {"longer": "1", "a": "ü"}})
}

#[tokio::test]
async fn accounts_are_opened_payments_published_and_looked_up() {
    let (world, _daemon) = World::with_daemon(&[]).await;
    let opened = world.prints(&["account", "open", "world", "--currency", "USD", "--min-balance", "none"]).await;
    assert_has(&opened, json!({"state": "settled", "min_balance": null}));
    world.succeeds(&OPEN_ALICE).await;
    let again = world.run(&OPEN_ALICE).await;
    assert_eq!(again.code, 1);
    assert!(again.stdout.starts_with("rejected: account_exists (AM05) alice"), "{again:?}");

    let lines = format!("{}\n\n{}\n", transfer(1, 1250), transfer(2, 50));
    let published = world.run_with(&["publish", "--wait", "--quiet"], &lines).await;
    assert_eq!((published.code, published.stderr.as_str()), (0, ""), "{published:?}");
    assert!(published.stdout.contains("2 tasks published") && published.stdout.contains("2 settled"), "{published:?}");

    let conflict = world.run_with(&["publish", "--wait", "--json"], &transfer(1, 1251).to_string()).await;
    assert_eq!(conflict.code, 1);
    assert_eq!(conflict.json()["outcomes"][0]["state"], "dead_letter");
    assert!(conflict.stdout.contains("amount"), "{conflict:?}");

    let repeated = world.run_with(&["publish", "--wait"], &transfer(1, 1250).to_string()).await;
    assert_eq!(repeated.code, 0, "the stored outcome stands: {repeated:?}");

    let show = world.prints(&["account", "show", "alice"]).await;
    assert_has(&show, json!({"posted": 1300, "available": 1300, "version": 2}));
    assert!(world.run(&["account", "show", "alice"]).await.stdout.contains("13.00 USD"));
    let missing = world.run(&["account", "show", "bob"]).await;
    assert_eq!((missing.code, missing.stdout.as_str()), (1, ""));

    let names = async |arguments: &[&str]| -> Vec<Value> {
        let listed = world.prints(&[&["account", "list"], arguments].concat()).await;
        listed.as_array().expect("a list").iter().map(|account| account["account"].clone()).collect()
    };
    assert_eq!(names(&[]).await, ["alice", "world"]);
    assert_eq!(names(&["--after", "alice"]).await, ["world"]);
    let history = world.prints(&["account", "history", "alice", "--limit", "1"]).await;
    assert_eq!(history[0]["seq"], 2);
    assert_eq!(history[0]["counter_account"], "world");
    let older = world.prints(&["account", "history", "alice", "--before", "2"]).await;
    assert_eq!((older.as_array().map(Vec::len), &older[0]["balance_after"]), (Some(1), &json!(1250)));

    let task = transfer(1, 1250);
    let id = task["id"].as_str().expect("an id");
    let payment = world.prints(&["payment", "show", id]).await;
    for field in ["id", "type", "debit_account", "credit_account", "amount", "currency", "reference", "metadata"] {
        assert_eq!(payment[field], task[field], "{field}");
    }
    assert_eq!(payment["publisher"], "settled-cli");
    // What was held in that moment isn't kept.
    assert_eq!(payment["balances"][1], json!({"account": "alice", "posted": 1250, "version": 1}));
    assert_eq!(payment["entries"][0]["amount"], -1250);
    let by_reference = ["payment", "list", "--reference", task["reference"].as_str().expect("text")];
    assert_eq!(world.prints(&by_reference).await[0]["id"], task["id"]);
    let rejected = world.prints(&["payment", "list", "--state", "rejected", "--since", "1h"]).await;
    assert_has(&rejected[0], json!({"reason": "account_exists", "account": "alice"}));
    let all = world.prints(&["payment", "list", "--account", "world"]).await;
    assert_eq!(all.as_array().map(Vec::len), Some(3));

    world.audit().await;
    let break_it = "UPDATE account SET posted = posted + 1 WHERE name = 'alice'";
    world.sql().await.batch_execute(break_it).await.expect("broken");
    let audit = world.run(&["audit"]).await;
    assert_eq!(audit.code, 1);
    assert!(audit.stdout.ends_with("\naudit: FAILED, 3 checks\n"), "{}", audit.stdout);
}

#[tokio::test]
async fn nothing_is_published_unless_every_line_is_a_task() {
    let world = World::new(&[]).await;
    let lines = format!("{}\n{{\"id\": 5}}\n", transfer(1, 1));
    let ended = world.run_with(&["publish"], &lines).await;
    assert_eq!((ended.code, ended.stdout.as_str()), (1, ""));
    assert!(ended.stderr.contains("nothing published") && ended.stderr.contains("line 2: `id`"), "{ended:?}");
    assert_eq!(world.run(&["publish"]).await.code, 1);
    // No daemon has been here yet.
    let ended = world.run_with(&["publish"], &transfer(1, 1).to_string()).await;
    assert!(ended.stderr.contains("has no exchange"), "{ended:?}");
    assert_eq!(ended.code, 1);

    let (_connection, channel) = world.channel().await;
    declare_exchange(&channel, &world.exchange).await;
    let ended = world.run_with(&["publish"], &transfer(1, 1).to_string()).await;
    assert!(ended.stderr.contains("no queue takes `task.transfer`") && ended.stderr.contains("0 of 1"), "{ended:?}");
    assert_eq!(ended.code, 1);
}

#[tokio::test]
async fn what_does_not_answer_ends_with_69() {
    let (world, mut daemon) = World::with_daemon(&[]).await;
    world.succeeds(&OPEN_ALICE).await;
    daemon.kill();
    let ended = world.run(&["account", "open", "bob", "--currency", "USD", "--timeout", "300ms"]).await;
    assert_eq!(ended.code, 69, "{ended:?}");
    assert!(ended.stdout.contains("has no outcome yet"), "{ended:?}");
    let ended =
        world.run_with(&["publish", "--wait", "--timeout", "300ms", "--json"], &transfer(1, 1).to_string()).await;
    assert_eq!((ended.code, &ended.json()["outcomes"][0]["state"]), (69, &json!("unknown")));

    world.configure(&["broker.uris = ['amqp://127.0.0.1:1/%2f']", "postgres.url = 'postgresql://127.0.0.1:1/settled'"]);
    for verb in [&["audit"][..], &["account", "list"], &["payment", "list"], &["dead-letters", "list"]] {
        let ended = world.run(verb).await;
        assert_eq!((ended.code, ended.stdout.as_str()), (69, ""), "{ended:?}");
    }
    let ended = world.run_with(&["publish"], &transfer(1, 1).to_string()).await;
    assert_eq!(ended.code, 69);
    assert!(ended.stderr.contains("127.0.0.1:1"), "{ended:?}");
}

#[tokio::test]
async fn a_dead_letter_that_comes_back_while_it_is_dealt_with_stays_open() {
    let world = World::new(&[]).await;
    world.succeeds(&["migrate"]).await;
    let client = world.sql().await;
    let rows = "INSERT INTO dead_letter (digest, reason, detail, body, properties, first_seen, last_seen, attempts)
                VALUES ('1', 'oversize', 'too long', '\\xff00', '{}', now(), now(), 1),
                       ('2', 'malformed', 'odd', '{}', '{}', now(), now(), 3) RETURNING id";
    let ids: Vec<i64> = client.query(rows, &[]).await.expect("rows").iter().map(|row| row.get(0)).collect();
    let seen = [(ids[0], 1), (ids[1], 2)];
    let marked = dead_letter::resolve(&client, &seen, dead_letter::Resolution::Replayed).await.expect("marked");
    assert_eq!(marked, [ids[0]]);

    let oversize = ids[0].to_string();
    let shown = world.prints(&["dead-letters", "show", &oversize]).await;
    assert_has(&shown, json!({"body_hex": "ff00", "resolution": "replayed"}));
    let replay = world.run(&["dead-letters", "replay", &oversize, "99999", "--dry-run", "--json"]).await;
    assert_eq!(replay.code, 1);
    assert_eq!((&replay.json()["oversize"], &replay.json()["missing"]), (&json!([ids[0]]), &json!([99999])));
}

#[tokio::test]
async fn dead_letters_are_listed_replayed_and_discarded() {
    let (world, _daemon) = World::with_daemon(&[]).await;
    world.succeeds(&OPEN_ALICE).await;
    let task = transfer(7, 5).to_string();
    let sent = world.run_with(&["publish", "--unchecked"], "{\"id\": 5}\nno JSON\n").await;
    assert_eq!(sent.code, 0, "{sent:?}");
    let list = async |arguments: &[&str]| -> Vec<Value> {
        world.prints(&[&["dead-letters", "list"], arguments].concat()).await.as_array().expect("a list").clone()
    };
    eventually("both are dead letters", async || list(&[]).await.len() == 2).await;
    let letters = list(&["--reason", "malformed"]).await;
    assert_eq!(letters.len(), 2);
    let id = |letter: &Value| letter["id"].to_string();
    let with_field = letters.iter().find(|letter| letter["field"] == "id").expect("the field is named");
    let shown = world.prints(&["dead-letters", "show", &id(with_field)]).await;
    assert_eq!(shown["body"], "{\"id\": 5}");
    assert_eq!(shown["properties"]["publisher"], "settled-cli");

    let mend = "UPDATE dead_letter SET body = $1 WHERE id = $2";
    world.sql().await.execute(mend, &[&task.as_bytes(), &with_field["id"].as_i64()]).await.expect("mended");
    let dry = world.prints(&["dead-letters", "replay", "--all", "--dry-run"]).await;
    assert_eq!((dry["done"].as_array().map(Vec::len), list(&[]).await.len()), (Some(2), 2));
    world.succeeds(&["dead-letters", "replay", "--all"]).await;
    let payment = transfer(7, 5)["id"].as_str().expect("an id").to_owned();
    eventually("the mended one becomes a payment; the other comes back, and is open again", async || {
        world.run(&["payment", "show", &payment]).await.code == 0 && list(&[]).await.len() == 1
    })
    .await;
    let open = list(&[]).await;
    assert_eq!((open[0]["attempts"].as_i64(), &open[0]["reason"]), (Some(2), &json!("malformed")));

    assert_eq!(world.run(&["dead-letters", "discard", "--reason", "malformed"]).await.code, 2);
    let discarded = world.run(&["dead-letters", "discard", &id(&open[0])]).await;
    assert_eq!((discarded.code, discarded.stdout.as_str()), (0, "1 dead letter discarded\n"));
    assert_eq!(world.run(&["dead-letters", "discard", &id(&open[0])]).await.code, 1);
    assert_eq!((list(&[]).await.len(), list(&["--all"]).await.len()), (0, 2));
}
