//! What a payment adds to the disk. The figures are published in `docs/operate/growth.md`.

use std::collections::BTreeMap;

use settled_core::contract::{Message, Properties};
use settled_testkit::harness::{Task, authorize, follow_up, open, postgres_with, transfer};
use settled_testkit::servers::ServersOptions;
use tokio_postgres::Client;

use super::{Ledger, get, message, submissions};

const ACCOUNTS: usize = 1_000;
const BATCH: usize = 500;

/// Payments of each kind.
const COUNT: usize = 10_000;

/// What is allowed over the published figures, for other versions of PostgreSQL and the split of a page more.
const MARGIN: f64 = 1.1;

/// Bytes of one payment in each table, with its indexes, and in the log.
type Bytes = BTreeMap<String, f64>;

/// What grows. Rows of the outbox and of the scheduler are deleted when they are done.
const TABLES: &str = "
    SELECT relname::text, pg_total_relation_size(relid)::float8 FROM pg_stat_user_tables
     WHERE relname IN ('account', 'payment', 'entry', 'leg', 'transition', 'dead_letter')
    UNION ALL SELECT 'log', (pg_current_wal_insert_lsn() - '0/0'::pg_lsn)::float8";

async fn sizes(client: &Client) -> Bytes {
    let rows = client.query(TABLES, &[]).await.expect("sizes");
    rows.iter().map(|row| (row.get(0), row.get(1))).collect()
}

/// Commits the messages in batches. Returns what each payment of them has added.
async fn added(ledger: &Ledger, client: &Client, payments: usize, messages: &[Message]) -> Bytes {
    // Pages that are written for the first time after a checkpoint are logged in full: that is once in five minutes.
    client.batch_execute("CHECKPOINT").await.expect("a checkpoint");
    let before = sizes(client).await;
    for batch in messages.chunks(BATCH) {
        ledger.answers(&submissions(batch)).await;
    }
    let after = sizes(client).await;
    let grown = after.into_iter().map(|(what, size)| (what.clone(), (size - before[&what]) / payments as f64));
    grown.filter(|(_, bytes)| *bytes > 0.5).collect()
}

fn messages(tasks: impl Iterator<Item = Task>) -> Vec<Message> {
    tasks.map(|task| message(&task)).collect()
}

fn account(number: usize) -> String {
    format!("account:{}", number % ACCOUNTS)
}

/// A table of the page: what is published there, by kind of payment.
fn published() -> BTreeMap<String, Bytes> {
    let page = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/operate/growth.md")).expect("a page");
    let cells =
        |line: &str| -> Vec<String> { line.trim_matches('|').split('|').map(|cell| cell.trim().to_owned()).collect() };
    let mut lines = page.lines().skip_while(|line| !line.starts_with("| kind"));
    let heads = cells(lines.next().expect("a table"));
    let rows = lines.skip(1).take_while(|line| line.starts_with('|')).map(|line| {
        let row = cells(line);
        let bytes = heads.iter().zip(&row).skip(1);
        let bytes = bytes.filter_map(|(head, cell)| Some((head.trim_matches('`').to_owned(), cell.parse().ok()?)));
        (row[0].clone(), bytes.collect())
    });
    rows.collect()
}

#[tokio::test]
async fn a_payment_adds_no_more_to_the_tables_and_to_the_log_than_is_published() {
    // The log is that of a server, so it is a server of its own.
    let server = postgres_with(ServersOptions::default()).await;
    let ledger = Ledger::on(server.postgres_url()).await;
    let client = ledger.client().await;
    let accounts = messages((0..ACCOUNTS).map(|number| open(&account(number), "USD", None)));
    added(&ledger, &client, ACCOUNTS, &accounts).await;

    let pay = |number: usize| transfer(&account(number), &account(number * 7 + 1), 100).with("reference", "order-123");
    let transfers = messages((0..COUNT).map(pay));
    let authorized: Vec<Task> = (0..COUNT).map(|n| authorize(&account(n), &account(n * 7 + 1), 100)).collect();
    let captures = messages(authorized.iter().map(|task| follow_up("capture", task, None)));
    let lives = [messages(authorized.into_iter()), captures].concat();
    let nobody = messages((0..COUNT).map(|number| transfer(&format!("nobody:{number}"), "account:0", 100)));
    let rubbish = |number: usize| {
        Message::read(format!("not a task: {number}").into_bytes(), Properties::default(), jiff::Timestamp::now())
    };
    let rubbish: Vec<Message> = (0..COUNT).map(rubbish).collect();
    let kinds = [
        ("a transfer", transfers),
        ("an authorization and its capture", lives),
        ("a decline because of a name that nobody has opened", nobody),
        ("a dead letter of 20 bytes", rubbish),
    ];
    let (mut over, published) = (Vec::new(), published());
    for (kind, messages) in kinds {
        let measured = added(&ledger, &client, COUNT, &messages).await;
        println!("{kind}: {measured:.0?}");
        let limit = |what: &String| published.get(kind).and_then(|bytes| bytes.get(what)).copied().unwrap_or_default();
        over.extend(
            measured.into_iter().filter(|(what, bytes)| *bytes > limit(what) * MARGIN).map(|what| (kind, what)),
        );
    }
    assert_eq!(over, [], "more than docs/operate/growth.md says");
    let applied: i64 =
        get(&client, "SELECT count(*) FROM payment WHERE type = 'capture' AND state = 'settled'", &[]).await;
    assert_eq!(applied, COUNT as i64, "what was measured was applied");
    drop(ledger);
    server.shutdown().await.expect("it stops");
}
