//! What is not exactly the contract becomes a dead letter that names the field, and harms
//! nobody else.

use lapin::BasicProperties;
use serde_json::json;
use settled_testkit::harness::{Events, Publisher, Task, World, change, follow_up, open, transfer};
use uuid::Uuid;

/// A body, what is at fault in it, and properties.
struct Case {
    body: Vec<u8>,
    field: Option<&'static str>,
    properties: BasicProperties,
}

impl Case {
    fn of(body: impl Into<Vec<u8>>, field: impl Into<Option<&'static str>>) -> Self {
        let properties = BasicProperties::default().with_content_type("application/json".into());
        Self { body: body.into(), field: field.into(), properties }
    }
}

fn pay() -> Task {
    transfer("world", "alice", 1250).with("reference", "REF")
}

/// A task with a piece of its text replaced.
fn replaced(from: &str, to: &str) -> String {
    let body = pay().body();
    assert!(body.contains(from), "{body}");
    body.replacen(from, to, 1)
}

fn bad_utf8() -> Vec<u8> {
    let mut body = pay().body().into_bytes();
    let place = body.windows(3).position(|bytes| bytes == b"REF").expect("there");
    body[place] = 0xff;
    body
}

fn cases() -> Vec<Case> {
    let mut cases = vec![
        Case::of(pay().with("colour", "red").body(), "colour"),
        Case::of(pay().with("min_balance", 0).body(), "min_balance"),
        Case::of(open("x", "USD", None).with("amount", 5).body(), "amount"),
        Case::of(replaced("{", "{\"amount\":1250,"), "amount"),
        Case::of(bad_utf8(), "reference"),
        Case::of(replaced("REF", "a\\u0000b"), "reference"),
        Case::of(replaced("REF", "\\ud800"), "reference"),
        Case::of(replaced("\"REF\"", "\"\""), "reference"),
        Case::of(replaced("\"REF\"", "null"), "reference"),
        Case::of(pay().with("reference", "x".repeat(141)).body(), "reference"),
        Case::of(pay().with("metadata", json!({"k": 1})).body(), "metadata"),
        Case::of(pay().with("metadata", json!(["k"])).body(), "metadata"),
        Case::of(replaced("\"REF\"", "\"r\",\"metadata\":{\"k\":\"1\",\"k\":\"2\"}"), "metadata"),
        Case::of(replaced("\"REF\"", "\"r\",\"metadata\":{\"k\\u0000\":\"1\"}"), "metadata"),
        Case::of(pay().with("type", "gift").body(), "type"),
        Case::of(pay().with("id", "7").body(), "id"),
        Case::of(pay().with("id", pay().id.simple().to_string()).body(), "id"),
        Case::of(pay().with("id", Uuid::nil().to_string()).body(), "id"),
        Case::of(pay().with("after", Uuid::max().to_string()).body(), "after"),
        Case::of(follow_up("refund", &pay(), None).with("payment_id", Uuid::nil().to_string()).body(), "payment_id"),
        Case::of(open("x", "USD", None).with("min_balance", json!(null)).body(), "min_balance"),
        Case::of(change("set_limits", "world").with("max_balance", json!(null)).body(), "max_balance"),
        Case::of(pay().with("execute_at", "9999-12-31T23:59:59Z").body(), "execute_at"),
        Case::of(pay().with("currency", "usd").body(), "currency"),
        Case::of(pay().with("debit_account", "a b").body(), "debit_account"),
        Case::of(pay().with("credit_account", "x".repeat(65)).body(), "credit_account"),
        Case::of(json!([pay().id, "transfer", "world", "alice", 5, "USD"]).to_string(), None),
        Case::of("", None),
        Case::of("nonsense", None),
        Case::of("null", None),
        Case::of([0xff, 0xfe, 0x00], None),
        Case::of(format!("{}{}", pay().body(), pay().body()), None),
        Case::of("[".repeat(10_000), None),
    ];
    let amounts = ["12.5", "1.0", "1e2", "\"1250\"", "null", "true", "[1250]", "9223372036854775808", "-0.0"];
    let amounts = amounts.into_iter().chain(["99999999999999999999", "01250", "NaN"]);
    cases.extend(amounts.map(|amount| Case::of(replaced("1250", amount), "amount")));
    let required = ["id", "type", "debit_account", "credit_account", "amount", "currency"];
    cases.extend(required.map(|field| Case::of(pay().without(field).body(), field)));
    let mut case = Case::of(pay().body(), "content_type");
    case.properties = case.properties.with_content_type("text/xml".into());
    cases.push(case);
    for message_id in ["0192", "NUL \0 in it", &pay().id.to_string()] {
        let mut case = Case::of(pay().body(), "message_id");
        case.properties = case.properties.with_message_id(message_id.into());
        cases.push(case);
    }
    cases
}

#[tokio::test]
async fn every_malformed_message_is_kept_with_the_fields_name_and_its_neighbours_settle() {
    let world = World::new(&[]).await;
    let mut daemon = world.daemon().await;
    let publisher = world.publisher().await;
    publisher.publish_all(&[open("world", "USD", None), open("alice", "USD", Some(0))]).await;
    let cases = cases();
    let neighbours: Vec<Task> = cases.iter().map(|_| transfer("world", "alice", 1)).collect();
    for (case, neighbour) in cases.iter().zip(&neighbours) {
        publisher.raw("task.transfer", &case.body, case.properties.clone()).await;
        publisher.publish(neighbour).await;
    }
    world.all_are("settled", &neighbours).await;
    for case in &cases {
        let letter = world.dead_letter(&case.body).await;
        let shown = String::from_utf8_lossy(&case.body[..case.body.len().min(300)]).into_owned();
        assert_eq!(
            (&letter["reason"], &letter["field"]),
            (&json!("malformed"), &json!(case.field)),
            "{shown}: {letter}"
        );
        assert_eq!(letter["attempts"], 1, "{shown}");
        assert!(!letter["detail"].as_str().expect("a text").is_empty());
    }
    // The same again: another attempt on the same row.
    for case in &cases {
        publisher.raw("task.transfer", &case.body, case.properties.clone()).await;
    }
    let twice = "SELECT 1 FROM dead_letter HAVING count(*) = $1 AND min(attempts) = 2 AND max(attempts) = 2";
    world.row("each is another attempt", twice, &[&i64::try_from(cases.len()).expect("few")]).await;
    daemon.counts("settled_dead_letters_total", &[("reason", "malformed")], 2 * cases.len()).await;
    assert_eq!(world.account("alice").await["posted"], neighbours.len());
    daemon.stop().await;
    assert_eq!(world.waiting().await, 0);
    world.audit().await;
}

#[tokio::test]
async fn a_body_may_have_64_kib_and_not_a_byte_more() {
    const MOST: usize = 64 * 1024;
    let world = World::new(&[]).await;
    let _daemon = world.daemon().await;
    let publisher = world.publisher().await;
    publisher.publish_all(&[open("world", "USD", None), open("alice", "USD", Some(0))]).await;
    let (fits, too_long) = (pay(), pay());
    for (task, length) in [(&fits, MOST), (&too_long, MOST + 1)] {
        let mut body = task.body().into_bytes();
        body.resize(length, b' ');
        publisher.raw("task.transfer", &body, Publisher::properties(task)).await;
    }
    let huge = vec![b'x'; 3_000_000];
    publisher.raw("task.transfer", &huge, BasicProperties::default()).await;
    assert_eq!(world.outcome(&fits).await["state"], "settled");
    let oversize =
        "SELECT length(body) AS kept, field, detail FROM dead_letter WHERE reason = 'oversize' AND detail ~ $1";
    for length in [MOST + 1, huge.len()] {
        let letter = world.row("an oversize dead letter", oversize, &[&format!(" {length} bytes")]).await;
        assert_eq!((&letter["kept"], &letter["field"]), (&json!(MOST), &json!(null)), "{letter}");
    }
    assert_eq!(world.account("alice").await["posted"], 1250);
    world.audit().await;
}

#[tokio::test]
async fn odd_properties_harm_neither_the_task_nor_the_events_of_others() {
    let world = World::new(&[]).await;
    let events = world.events().await;
    let replies = Events::replies(&world).await;
    let mut daemon = world.daemon().await;
    let publisher = world.publisher().await;
    publisher.publish_all(&[open("world", "USD", None), open("alice", "USD", Some(0))]).await;
    let odd = |task: &Task| Publisher::properties(task).with_content_type("Application/JSON; charset=utf-8".into());
    let nul = "\0".repeat(200);
    let headers =
        |value: &str| settled_testkit::harness::amqp::table(&[("traceparent", value.into()), ("tracestate", 7.into())]);
    let tasks: Vec<Task> = (0..6).map(|_| pay()).collect();
    let properties = [
        odd(&tasks[0]).with_app_id("a\0b".into()),
        odd(&tasks[1]).with_reply_to(nul.as_str().into()),
        odd(&tasks[2]).with_reply_to(replies.queue.as_str().into()).with_correlation_id(nul.as_str().into()),
        odd(&tasks[3]).with_headers(headers("\0 is no trace")),
        odd(&tasks[4]).with_timestamp(u64::MAX),
        odd(&tasks[5]).with_message_id(tasks[5].id.to_string().to_uppercase().into()).with_reply_to("".into()),
    ];
    for (task, properties) in tasks.iter().zip(properties) {
        publisher.publish_with(task, properties).await;
    }
    world.all_are("settled", &tasks).await;
    for task in &tasks {
        events.of(task).await;
    }
    assert_eq!(replies.count(1).await[0].body["id"], json!(tasks[2].id));
    assert_eq!(world.outcome(&tasks[0]).await["publisher"], "a\u{fffd}b");
    assert_eq!(daemon.readiness().await.0, 200);
    daemon.stop().await;
    world.audit().await;
}
