//! What operators do from the command line, on a running daemon.

use std::time::Duration;

use serde_json::{Value, json};
use settled_store::queries::dead_letter;
use settled_testkit::harness::{Installation, connect};

/// Waits until the daemon has declared its exchange and takes tasks.
async fn open(settled: &Installation, arguments: &[&str]) -> Value {
    for _ in 0..100 {
        let ended = settled.run(&[&["account", "open", "--json"], arguments].concat(), "").await;
        if ended.code == 0 {
            return ended.json();
        }
        assert!(ended.stderr.contains("has no exchange") || ended.stderr.contains("no queue takes"), "{ended:?}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("the daemon declares nothing");
}

fn transfer(id: u128, amount: i64) -> Value {
    let id = uuid::Uuid::from_u128(0x0192_0000_0000_7000_8000_0000_0000_0000 + id);
    json!({"id": id, "type": "transfer", "debit_account": "world", "credit_account": "alice", "amount": amount,
           "currency": "USD", "reference": format!("order-{id}"), "metadata": {"longer": "1", "a": "ü"}})
}

#[tokio::test]
async fn accounts_are_opened_payments_published_and_looked_up() {
    let settled = Installation::new().await;
    let _daemon = settled.daemon();
    let opened = open(&settled, &["world", "--currency", "USD", "--min-balance", "none"]).await;
    assert_eq!((&opened["state"], &opened["min_balance"]), (&json!("settled"), &Value::Null));
    open(&settled, &["alice", "--currency", "USD"]).await;
    let again = settled.run(&["account", "open", "alice", "--currency", "USD"], "").await;
    assert_eq!(again.code, 1);
    assert!(again.stdout.starts_with("rejected: account_exists (AM05) alice"), "{again:?}");

    let lines = format!("{}\n\n{}\n", transfer(1, 1250), transfer(2, 50));
    let published = settled.run(&["publish", "--wait"], &lines).await;
    assert_eq!((published.code, published.stderr.as_str()), (0, ""), "{published:?}");
    assert!(published.stdout.contains("2 tasks published") && published.stdout.contains("2 settled"), "{published:?}");

    let conflict = settled.run(&["publish", "--wait", "--json"], &transfer(1, 1251).to_string()).await;
    assert_eq!(conflict.code, 1);
    assert_eq!(conflict.json()["outcomes"][0]["state"], "dead_letter");
    assert!(conflict.stdout.contains("amount"), "{conflict:?}");

    let repeated = settled.run(&["publish", "--wait"], &transfer(1, 1250).to_string()).await;
    assert_eq!(repeated.code, 0, "the stored outcome stands: {repeated:?}");

    let show = settled.run(&["account", "show", "alice", "--json"], "").await.json();
    assert_eq!((&show["posted"], &show["available"], &show["version"]), (&json!(1300), &json!(1300), &json!(2)));
    assert!(settled.run(&["account", "show", "alice"], "").await.stdout.contains("13.00 USD"));
    let missing = settled.run(&["account", "show", "bob"], "").await;
    assert_eq!((missing.code, missing.stdout.as_str()), (1, ""));

    let names = |ended: settled_testkit::harness::Ended| -> Vec<Value> {
        ended.json().as_array().expect("a list").iter().map(|account| account["account"].clone()).collect()
    };
    assert_eq!(names(settled.run(&["account", "list", "--json"], "").await), ["alice", "world"]);
    assert_eq!(names(settled.run(&["account", "list", "--json", "--after", "alice"], "").await), ["world"]);
    let history = settled.run(&["account", "history", "alice", "--json", "--limit", "1"], "").await.json();
    assert_eq!(history[0]["seq"], 2);
    assert_eq!(history[0]["counter_account"], "world");
    let older = settled.run(&["account", "history", "alice", "--json", "--before", "2"], "").await.json();
    assert_eq!((older.as_array().map(Vec::len), &older[0]["balance_after"]), (Some(1), &json!(1250)));

    let task = transfer(1, 1250);
    let id = task["id"].as_str().expect("an id");
    let payment = settled.run(&["payment", "show", id, "--json"], "").await.json();
    for field in ["id", "type", "debit_account", "credit_account", "amount", "currency", "reference", "metadata"] {
        assert_eq!(payment[field], task[field], "{field}");
    }
    assert_eq!(payment["publisher"], "settled-cli");
    // What was held in that moment isn't kept.
    assert_eq!(payment["balances"][1], json!({"account": "alice", "posted": 1250, "version": 1}));
    assert_eq!(payment["entries"][0]["amount"], -1250);
    let by_reference = ["payment", "list", "--json", "--reference", task["reference"].as_str().expect("text")];
    assert_eq!(settled.run(&by_reference, "").await.json()[0]["id"], task["id"]);
    let rejected = settled.run(&["payment", "list", "--json", "--state", "rejected", "--since", "1h"], "").await.json();
    assert_eq!((&rejected[0]["reason"], &rejected[0]["account"]), (&json!("account_exists"), &json!("alice")));
    let all = settled.run(&["payment", "list", "--json", "--account", "world"], "").await.json();
    assert_eq!(all.as_array().map(Vec::len), Some(3));

    let audit = settled.run(&["audit", "--json"], "").await;
    assert_eq!((audit.code, &audit.json()["passed"]), (0, &json!(true)), "{audit:?}");
    let break_it = "UPDATE account SET posted = posted + 1 WHERE name = 'alice'";
    connect(Some(&settled.database)).await.batch_execute(break_it).await.expect("broken");
    let audit = settled.run(&["audit"], "").await;
    assert_eq!(audit.code, 1);
    assert!(audit.stdout.ends_with("\naudit: FAILED, 3 checks\n"), "{}", audit.stdout);
}

#[tokio::test]
async fn nothing_is_published_unless_every_line_is_a_task() {
    let settled = Installation::new().await;
    let lines = format!("{}\n{{\"id\": 5}}\n", transfer(1, 1));
    let ended = settled.run(&["publish"], &lines).await;
    assert_eq!((ended.code, ended.stdout.as_str()), (1, ""));
    assert!(ended.stderr.contains("nothing published") && ended.stderr.contains("line 2: `id`"), "{ended:?}");
    assert_eq!(settled.run(&["publish"], "").await.code, 1);
    // No daemon has been here yet.
    let ended = settled.run(&["publish"], &transfer(1, 1).to_string()).await;
    assert!(ended.stderr.contains("has no exchange"), "{ended:?}");
    assert_eq!(ended.code, 1);

    let broker = lapin::Connection::connect(
        settled_testkit::harness::servers().await.amqp_uri(),
        lapin::ConnectionProperties::default(),
    );
    let broker = broker.await.expect("a connection");
    let channel = broker.create_channel().await.expect("a channel");
    let durable = lapin::options::ExchangeDeclareOptions { durable: true, ..Default::default() };
    let exchange = format!("{}.payments", settled.database).into();
    let declared = channel.exchange_declare(exchange, lapin::ExchangeKind::Topic, durable, Default::default());
    declared.await.expect("an exchange without a queue");
    let ended = settled.run(&["publish"], &transfer(1, 1).to_string()).await;
    assert!(ended.stderr.contains("no queue takes `task.transfer`") && ended.stderr.contains("0 of 1"), "{ended:?}");
    assert_eq!(ended.code, 1);
}

#[tokio::test]
async fn what_does_not_answer_ends_with_69() {
    let settled = Installation::new().await;
    let mut daemon = settled.daemon();
    open(&settled, &["alice", "--currency", "USD"]).await;
    daemon.kill();
    let ended = settled.run(&["account", "open", "bob", "--currency", "USD", "--timeout", "300ms"], "").await;
    assert_eq!(ended.code, 69, "{ended:?}");
    assert!(ended.stdout.contains("has no outcome yet"), "{ended:?}");
    let ended = settled.run(&["publish", "--wait", "--timeout", "300ms", "--json"], &transfer(1, 1).to_string()).await;
    assert_eq!((ended.code, &ended.json()["outcomes"][0]["state"]), (69, &json!("unknown")));

    let nobody = settled.elsewhere("amqp://127.0.0.1:1/%2f", "postgresql://127.0.0.1:1/settled");
    for verb in [&["audit"][..], &["account", "list"], &["payment", "list"], &["dead-letters", "list"]] {
        let ended = nobody.run(verb, "").await;
        assert_eq!((ended.code, ended.stdout.as_str()), (69, ""), "{ended:?}");
    }
    let ended = nobody.run(&["publish"], &transfer(1, 1).to_string()).await;
    assert_eq!(ended.code, 69);
    assert!(ended.stderr.contains("127.0.0.1:1"), "{ended:?}");
}

#[tokio::test]
async fn a_dead_letter_that_comes_back_while_it_is_dealt_with_stays_open() {
    let settled = Installation::new().await;
    let client = connect(Some(&settled.database)).await;
    let rows = "INSERT INTO dead_letter (digest, reason, detail, body, properties, first_seen, last_seen, attempts)
                VALUES ('1', 'oversize', 'too long', '\\xff00', '{}', now(), now(), 1),
                       ('2', 'malformed', 'odd', '{}', '{}', now(), now(), 3) RETURNING id";
    let ids: Vec<i64> = client.query(rows, &[]).await.expect("rows").iter().map(|row| row.get(0)).collect();
    let seen = [(ids[0], 1), (ids[1], 2)];
    let marked = dead_letter::resolve(&client, &seen, dead_letter::Resolution::Replayed).await.expect("marked");
    assert_eq!(marked, [ids[0]]);

    let oversize = ids[0].to_string();
    let shown = settled.run(&["dead-letters", "show", &oversize, "--json"], "").await.json();
    assert_eq!((&shown["body_hex"], &shown["resolution"]), (&json!("ff00"), &json!("replayed")));
    let replay = settled.run(&["dead-letters", "replay", &oversize, "99999", "--dry-run", "--json"], "").await;
    assert_eq!(replay.code, 1);
    assert_eq!((&replay.json()["oversize"], &replay.json()["missing"]), (&json!([ids[0]]), &json!([99999])));
}

#[tokio::test]
async fn dead_letters_are_listed_replayed_and_discarded() {
    let settled = Installation::new().await;
    let _daemon = settled.daemon();
    open(&settled, &["alice", "--currency", "USD"]).await;
    let client = connect(Some(&settled.database)).await;
    let task = transfer(7, 5).to_string();
    let sent = settled.run(&["publish", "--unchecked"], "{\"id\": 5}\nno JSON\n").await;
    assert_eq!(sent.code, 0, "{sent:?}");
    let list = async |arguments: &[&str]| -> Vec<Value> {
        let ended = settled.run(&[&["dead-letters", "list", "--json"], arguments].concat(), "").await;
        ended.json().as_array().expect("a list").clone()
    };
    for _ in 0..100 {
        if list(&[]).await.len() == 2 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let letters = list(&["--reason", "malformed"]).await;
    assert_eq!(letters.len(), 2);
    let id = |letter: &Value| letter["id"].to_string();
    let with_field = letters.iter().find(|letter| letter["field"] == "id").expect("the field is named");
    let shown = settled.run(&["dead-letters", "show", &id(with_field), "--json"], "").await.json();
    assert_eq!(shown["body"], "{\"id\": 5}");
    assert_eq!(shown["properties"]["publisher"], "settled-cli");

    let mend = "UPDATE dead_letter SET body = $1 WHERE id = $2";
    client.execute(mend, &[&task.as_bytes(), &with_field["id"].as_i64()]).await.expect("mended");
    let dry = settled.run(&["dead-letters", "replay", "--all", "--dry-run", "--json"], "").await.json();
    assert_eq!((dry["done"].as_array().map(Vec::len), list(&[]).await.len()), (Some(2), 2));
    let replayed = settled.run(&["dead-letters", "replay", "--all"], "").await;
    assert_eq!(replayed.code, 0, "{replayed:?}");
    let payment = transfer(7, 5)["id"].as_str().expect("an id").to_owned();
    let mut attempts = 0;
    // The mended one becomes a payment; the other comes back, and is open again.
    while settled.run(&["payment", "show", &payment], "").await.code != 0 || list(&[]).await.len() != 1 {
        attempts += 1;
        assert!(attempts < 100, "{:?}", list(&["--all"]).await);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let open = list(&[]).await;
    assert_eq!((open[0]["attempts"].as_i64(), &open[0]["reason"]), (Some(2), &json!("malformed")));

    assert_eq!(settled.run(&["dead-letters", "discard", "--reason", "malformed"], "").await.code, 2);
    let discarded = settled.run(&["dead-letters", "discard", &id(&open[0])], "").await;
    assert_eq!((discarded.code, discarded.stdout.as_str()), (0, "1 dead letter discarded\n"));
    assert_eq!(settled.run(&["dead-letters", "discard", &id(&open[0])], "").await.code, 1);
    assert_eq!((list(&[]).await.len(), list(&["--all"]).await.len()), (0, 2));
}
