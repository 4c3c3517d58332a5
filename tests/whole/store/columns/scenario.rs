//! Tasks whose rows have other values in each column, and all that the store reads of them.

use std::fmt::{Debug, Write};
use std::time::Duration;

use anyhow::{Context, Result};
use jiff::Timestamp;
use serde_json::{Value, json};
use settled_core::contract::{Authority, DeadLetter, DeadReason, Message, Properties};
use settled_core::ledger::{Arrival, NonePending, Rules};
use settled_pipeline::store::{BatchStore, GaugeStore, OutboxStore, Submission, Unrouted};
use settled_store::outbox::PostgresOutbox;
use settled_store::queries::account::{self, AccountFilter};
use settled_store::queries::dead_letter::{self, Resolution, Selection};
use settled_store::queries::payment::{self, Cursor, Life, PaymentFilter};
use settled_store::queries::{audit, outbox};
use settled_store::{Client, Pool, PostgresGauges, PostgresStore};
use settled_testkit::harness::{Task, authorize, follow_up, open, split, task, transfer};
use uuid::Uuid;

/// When messages were received, but for a few.
const RECEIVED: &str = "2001-02-03T04:05:06Z";
const RECEIVED_LATER: &str = "2011-12-13T14:15:16Z";

/// How long to search for payments.
const PATIENCE: Duration = Duration::from_secs(60);

/// What the scenario has found, as text.
pub(crate) struct Story {
    pub(crate) text: String,
    began: Timestamp,
}

impl Story {
    /// Begins with nothing; `began` is when the first scenario was played.
    pub(crate) const fn new(began: Timestamp) -> Self {
        Self { text: String::new(), began }
    }

    fn tell(&mut self, what: &str, value: &impl Debug) {
        self.line(&format!("{what}: {value:?}"));
    }

    /// Adds a line. A moment of this run becomes its distance in hours.
    fn line(&mut self, line: &str) {
        let mut rest = line;
        while let Some(at) = rest.find("20").filter(|_| rest.contains('T')) {
            let end = rest[at..].find(|c: char| !matches!(c, '0'..='9' | '-' | ':' | '.' | 'T' | 'Z' | '+'));
            let (moment, after) = rest[at..].split_at(end.unwrap_or(rest.len() - at));
            self.text.push_str(&rest[..at]);
            match moment.parse::<Timestamp>() {
                Ok(time) if time >= self.began && time.as_second() < 4_000_000_000 => {
                    let hours = (time.as_second() - self.began.as_second() + 1800) / 3600;
                    let _ = write!(self.text, "now+{hours}h");
                }
                _ => self.text.push_str(moment),
            }
            rest = after;
        }
        let _ = writeln!(self.text, "{rest}");
    }
}

/// The id of a task by its number.
pub(crate) fn id(number: u128) -> Uuid {
    Uuid::from_u128(0x0190_0000_0000_7000_8000_0000_0000_0000 + number)
}

fn message(number: u128, task: Task) -> Message {
    let body = task.identified(id(number)).body().into_bytes();
    let properties = Properties { publisher: Some(format!("publisher {number}").into()), ..Properties::default() };
    Message::read(body, properties, RECEIVED.parse().expect("a time"))
}

/// A dead letter of which only the message's id says which task it was.
fn unread() -> Message {
    let mut message = message(16, transfer("a", "b", 1));
    message.properties.message_id = Some(serde_json::from_value(json!(id(16))).expect("an id"));
    let (field, task_id) = (Some("a field".to_owned()), None);
    message.content =
        Err(DeadLetter { reason: DeadReason::Malformed, field, detail: "the detail".to_owned(), task_id });
    message
}

fn malformed() -> Message {
    message(15, transfer("a", "b", 1).with("amount", "much"))
}

/// The same message, received later.
fn later(message: Message) -> Message {
    Message { received_at: RECEIVED_LATER.parse().expect("a time"), ..message }
}

fn acts(kind: &str, payment: u128, amount: impl Into<Option<i64>>) -> Task {
    follow_up(kind, &Task { id: id(payment), json: Value::Null }, amount.into())
}

/// A payment of which 60 % is captured, a quarter goes back and 5 % is charged back.
fn acted_on(number: u128, payment: u128, amount: i64, leg: Option<i64>) -> [Message; 3] {
    let acts = |kind: &str, percent: i64| {
        let task = acts(kind, payment, amount * percent / 100);
        if let Some(leg) = leg { task.with("leg", leg) } else { task }
    };
    [
        message(number, acts("capture", 60).with("final", false)),
        message(number + 1, acts("refund", 25).with("reference", "back")),
        message(number + 2, acts("chargeback", 5)),
    ]
}

/// Writes the scenario by way of `pool`.
pub(crate) async fn write(pool: &Pool, store: &PostgresStore, story: &mut Story) -> Result<()> {
    let parts = |task: Task| task.with("reference", "the reference").with("metadata", json!({"k": "v"}));
    let after = |task: Task, number: u128| task.with("after", id(number).to_string());
    let opened = [("a", None), ("b", None), ("c", Some(-500)), ("m", Some(0))];
    let opened = (1..).zip(opened).map(|(number, (name, limit))| message(number, open(name, "USD", limit)));
    commit(store, story, &opened.collect::<Vec<_>>()).await?;
    let tasks = [
        message(10, parts(transfer("a", "b", 300))),
        message(11, transfer("c", "b", 40)),
        message(12, transfer("m", "b", 999)),
        message(13, transfer("a", "m", 500)),
        message(14, transfer("m", "a", 480)),
        malformed(),
        malformed(),
    ];
    commit(store, story, &tasks).await?;
    // All of a life in one batch, so that its rows are written with what has become of them.
    let mut tasks = vec![
        message(20, parts(authorize("a", "b", 1000)).with("expires_in", 3600)),
        message(30, authorize("a", "b", 2000)),
        message(31, split(&[("a", "b", 11), ("a", "m", 13)])),
        message(32, split(&[("a", "b", 100), ("a", "c", 60)]).with("type", "authorize")),
        message(40, split(&[("a", "b", 200), ("c", "b", 80)]).with("type", "authorize")),
        later(message(41, open("z", "USD", Some(-77)).with("execute_at", "2999-01-01T00:00:00Z"))),
        message(42, after(transfer("a", "b", 61), 60)),
        message(43, after(authorize("a", "b", 400), 60)),
        message(44, after(transfer("m", "b", 9999), 60)),
        message(45, after(split(&[("a", "b", 21), ("c", "b", 22)]).with("type", "authorize"), 60)),
        message(46, after(transfer("a", "b", 66), 99)),
        message(47, task::change("set_limits", "m").with("min_balance", -7).with("max_balance", 9000)),
        message(48, authorize("c", "b", 70)),
        message(49, after(transfer("c", "b", 90), 99)),
        message(50, after(transfer("c", "b", 91), 99)),
        unread(),
    ];
    tasks.extend(acted_on(21, 20, 1000, None));
    tasks.extend(acted_on(33, 32, 100, Some(0)));
    commit(store, story, &tasks).await?;
    // Not at some time that depends on the machine.
    store.postpone(id(50), Duration::from_secs(3600)).await?;
    // What was there is acted on, and what some tasks wait for comes.
    let mut tasks = vec![
        message(60, transfer("c", "a", 5)),
        message(61, acts("chargeback", 13, 300)),
        message(62, acts("void", 48, None)),
        message(10, transfer("a", "b", 301)),
        later(malformed()),
        message(63, acts("cancel", 49, None)),
    ];
    tasks.extend(acted_on(64, 30, 2000, None));
    tasks.extend(acted_on(67, 40, 200, Some(0)));
    commit(store, story, &tasks).await?;
    store.postpone(id(46), Duration::ZERO).await?;
    let due = store.due(10).await?;
    let mut due = due.tasks;
    due.sort_by_key(|message| message.content.as_ref().map_or(Uuid::nil(), |task| task.id));
    for task in &due {
        story.tell("due", &(task.received_at, &task.properties.publisher, String::from_utf8_lossy(&task.body)));
    }
    let resumed = due.len();
    due.extend(acted_on(70, 43, 400, None));
    due.extend([
        message(75, acts("refund", 30, 7)),
        message(76, acts("refund", 40, 3).with("leg", 0)),
        later(message(10, transfer("a", "b", 301))),
        later(unread()),
    ]);
    commit_resumed(store, story, &due, resumed).await?;
    tables(
        pool,
        story,
        &[
            ("account", "id"),
            ("payment", "id"),
            ("entry", "account, seq"),
            ("leg", "payment_id, leg"),
            ("hold", "payment_id, leg"),
            ("transition", "payment_id, version"),
            ("agenda", "task_id"),
            ("dead_letter", "id"),
            ("(SELECT id, created_at, leased_until, events FROM outbox)", "id"),
        ],
    )
    .await
}

async fn commit(store: &PostgresStore, story: &mut Story, messages: &[Message]) -> Result<()> {
    commit_resumed(store, story, messages, 0).await
}

/// Commits a batch that begins with `resumed` tasks which have waited.
async fn commit_resumed(store: &PostgresStore, story: &mut Story, messages: &[Message], resumed: usize) -> Result<()> {
    let batch: Vec<Submission<'_>> = (0..)
        .map(Arrival)
        .zip(messages)
        .enumerate()
        .map(|(place, (arrival, message))| Submission { resumes: place < resumed, ..Submission::of(arrival, message) })
        .collect();
    let committed = Box::pin(store.commit(&batch, &[], &NonePending, true)).await?;
    story.tell("answers", &committed.answers);
    story.tell("woken, shortfalls", &(committed.woken, committed.shortfalls));
    let Some(event_batch) = committed.event_batch else { return Ok(()) };
    story.tell("outbox row", &(event_batch.id, event_batch.events));
    for line in event_batch.body.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
        let event: Value = serde_json::from_slice(line)?;
        let data = &event["data"];
        story.line(&format!("event: {} {} {}", event["id"], data["balances"], data["payment"]));
    }
    Ok(())
}

/// Tells every column of some tables by its name.
async fn tables(pool: &Pool, story: &mut Story, tables: &[(&str, &str)]) -> Result<()> {
    let client = pool.get().await?;
    for (table, order) in tables {
        let rows = format!("SELECT jsonb_strip_nulls(to_jsonb(t))::text AS row FROM {table} t ORDER BY {order}");
        for row in client.query(&rows, &[]).await? {
            story.line(&format!("{table}: {}", row.get::<_, &str>("row")));
        }
    }
    Ok(())
}

/// Has everything read that changes nothing.
pub(crate) async fn look(gauges: &PostgresGauges, client: &mut Client, story: &mut Story) -> Result<()> {
    // What is measured is years apart, so that nothing can be taken for another.
    let ages = "UPDATE agenda SET since = '2001-02-03', due_at = '2011-12-13' WHERE waits_for IS NOT NULL";
    client.batch_execute(ages).await?;
    let (waiting, expiring) = (gauges.waiting().await?, gauges.holds_expiring().await?);
    let ages = [waiting.scheduled_oldest_seconds, waiting.scheduled_overdue_seconds, waiting.parked_oldest_seconds];
    let is_later = ages.windows(2).all(|pair| pair[0] + 300_000_000.0 < pair[1]);
    story.tell("waiting", &(waiting.scheduled, waiting.parked, is_later, waiting.holds, expiring));
    story.tell("held", &waiting.held);
    let accounts = AccountFilter { currency: Some("USD"), unopened: true, after: Some("a"), limit: 3 };
    story.tell("accounts", &account::list(&*client, &accounts).await?);
    story.tell("account", &account::show(&*client, "m").await?);
    story.tell("holds", &account::holds(&*client, "a", 2).await?);
    story.tell("balance", &account::balance_at(&*client, "m", Timestamp::now()).await?);
    story.tell("history", &account::history(&*client, "a", Some(9), 3).await?);
    let payments = PaymentFilter {
        state: Some("settled"),
        task_type: Some("transfer"),
        account: Some("a"),
        reference: Some("the reference"),
        publisher: Some("publisher 10"),
        before: None,
        since: Some(RECEIVED.parse().expect("a time")),
        limit: 10,
        payment: None,
    };
    story.tell("payments", &payment::list(client, &payments, PATIENCE).await?.payments);
    let on_payment = PaymentFilter {
        state: Some("settled"),
        task_type: Some("refund"),
        account: Some("a"),
        reference: None,
        publisher: None,
        payment: Some(id(20)),
        before: Some(Cursor::at("2999-01-01T00:00:00Z".parse().expect("a time"))),
        since: None,
        limit: 10,
    };
    story.tell("follow-ups", &payment::list(client, &on_payment, PATIENCE).await?.payments);
    for number in [10, 12, 20, 21, 31, 33, 32, 46, 49, 4, 41] {
        let life = Life::load(client, id(number)).await?;
        let waits = life.as_ref().and_then(|life| life.waits.as_ref());
        story.tell("is due before the deadline", &waits.map(|waits| waits.due_at < waits.deadline));
        story.tell("life", &life);
    }
    let letters = Selection { resolved: true, ..Selection::default() };
    let listed = dead_letter::list(&*client, letters, 9, 3).await?;
    story.tell("dead letters", &listed);
    story.tell("dead letters", &dead_letter::load(&*client, letters, 1, 9).await?);
    story.tell("dead letter", &dead_letter::of_task(&*client, id(10)).await?);
    story.tell("dead letter", &dead_letter::of_task(&*client, id(16)).await?);
    story.tell("attempts", &dead_letter::attempts(&*client, &[id(10)]).await?);
    Ok(())
}

pub(crate) async fn audit(client: &mut Client, story: &mut Story) -> Result<()> {
    // Something to be found.
    client.batch_execute("SET synchronous_commit = off").await?;
    let audit = audit::audit(client).await?;
    let broken: Vec<_> = audit.checks.iter().filter(|check| check.violations > 0).collect();
    story.tell("audit", &broken);
    story.tell("totals", &audit.totals);
    Ok(())
}

/// Has dead letters and the outbox changed as an operator and the relay do.
pub(crate) async fn change(gauges: &PostgresGauges, pool: &Pool, client: &Client, story: &mut Story) -> Result<()> {
    let seen = [(1, 3), (2, 2)];
    let resolved = dead_letter::resolve(client, &seen, Resolution::Discarded).await;
    story.tell("resolved", &resolved?);
    let relay = PostgresOutbox::new(pool.clone());
    let unrouted = |key: &str, reason: Option<&str>, lines: &str, events| Unrouted {
        key: key.to_owned(),
        reason: reason.map(str::to_owned),
        lines: lines.as_bytes().to_vec(),
        events,
    };
    let held = [unrouted("key", Some("reason"), "lines\n", 3), unrouted("other", None, "x\n", 1)];
    relay.hold(1, &held, Duration::ZERO).await?;
    relay.hold(2, &held[..1], Duration::ZERO).await?;
    let rows = relay.held_of("key", true, 10).await?;
    story.tell("held", &rows);
    relay
        .hold(
            rows.first().context("no row is held")?.id,
            &[unrouted("key", Some("another"), "more lines\n", 4)],
            Duration::ZERO,
        )
        .await?;
    story.tell("probes", &relay.probes(10).await?);
    let (depth, oldest) = (gauges.outbox().await?, gauges.outbox_oldest_seconds().await?);
    let letters = gauges.dead_letters_open().await?.count;
    story.tell("measured", &(depth.rows, depth.events, depth.held, depth.refused, oldest < 60.0, letters));
    let ids: Vec<i64> = rows.iter().map(|row| row.id).collect();
    let taken = relay.take(&ids, Duration::from_secs(7200)).await?;
    for row in &taken {
        story.tell("taken", &(row.id, String::from_utf8_lossy(&row.body), row.events, &row.held_key, &row.held_reason));
    }
    relay.renew(&[3], Duration::from_secs(10_800)).await?;
    relay.delete(&[4, 5]).await?;
    story.tell("held rows", &outbox::list(client, 0, 10).await?);
    story.tell("held row", &outbox::load(client, ids[0]).await?);
    story.tell("due again", &outbox::retry(client, Some(&ids[..1])).await?);
    story.tell("discarded", &outbox::discard(client, &ids[1..], "why").await?);
    let changed = [
        ("dead_letter", "id"),
        ("(SELECT * FROM outbox WHERE held_key IS NOT NULL)", "id"),
        ("(SELECT id, leased_until FROM outbox WHERE held_key IS NULL)", "id"),
        ("outbox_discarded", "id"),
    ];
    tables(pool, story, &changed).await?;
    Ok(())
}

/// A store as the daemon has it, without anything remembered.
pub(crate) fn store(pool: &Pool, settings: &settled_store::PostgresSettings) -> PostgresStore {
    PostgresStore::new(pool.clone(), settings, Rules::default(), 100, "settled", Duration::from_secs(60))
        .with(Authority::default(), true)
}
