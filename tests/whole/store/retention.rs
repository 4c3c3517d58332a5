//! Rows that are kept for a limited time, and only those.

use std::time::Duration;

use settled_core::contract::{Message, Properties};
use settled_core::ledger::Arrival;
use settled_pipeline::labels::Kept;
use settled_pipeline::store::{RetentionStore, Submission};
use settled_store::{Client, PostgresRetention};
use settled_testkit::harness::{World, eventually, transfer};

use super::{Ledger, get};

const DAY: Duration = Duration::from_secs(24 * 3600);

const COUNT: &str = "SELECT count(*) FROM dead_letter";

/// Dead letters, all of which are open.
async fn dead_letters(ledger: &Ledger, count: u32) {
    let messages: Vec<Message> = (0..count)
        .map(|number| {
            let body = format!("not a task: {number}").into_bytes();
            Message::read(body, Properties::default(), jiff::Timestamp::now())
        })
        .collect();
    let letters = messages.iter().zip(0..).map(|(message, n)| Submission::of(Arrival(n), message));
    ledger.answers(&letters.collect::<Vec<_>>()).await;
}

async fn change(client: &Client, statement: &str) {
    client.batch_execute(statement).await.expect("changed");
}

fn retention(ledger: &Ledger) -> PostgresRetention {
    PostgresRetention::beside(&ledger.gauges())
}

#[tokio::test]
async fn dead_letters_are_removed_that_were_resolved_long_ago_and_no_others() {
    let ledger = Ledger::new().await;
    let (client, retention) = (ledger.client().await, retention(&ledger));
    dead_letters(&ledger, 9).await;
    let resolved = "UPDATE dead_letter SET resolution = 'discarded', resolved_at = now() - id * interval '7 hours'
                     WHERE id > 1";
    change(&client, resolved).await;
    // Open, though it came long ago.
    change(&client, "UPDATE dead_letter SET first_seen = '2001-01-01', last_seen = '2001-01-01' WHERE id = 1").await;

    // Seven hours times 4 are more than a day: ids 4 to 9, the oldest first.
    assert_eq!(retention.remove(Kept::DeadLetter, DAY, 2).await.expect("removed"), 2);
    assert_eq!(get::<i64>(&client, "SELECT max(id) FROM dead_letter", &[]).await, 7);
    assert_eq!(retention.remove(Kept::DeadLetter, DAY, 100).await.expect("removed"), 4);
    assert_eq!(retention.remove(Kept::DeadLetter, DAY, 100).await.expect("removed"), 0);
    let left: Vec<i64> = get(&client, "SELECT array_agg(id ORDER BY id) FROM dead_letter", &[]).await;
    assert_eq!(left, [1, 2, 3]);
}

#[tokio::test]
async fn a_dead_letter_that_somebody_changes_at_the_moment_is_not_waited_for() {
    let ledger = Ledger::new().await;
    let (mut other, retention) = (ledger.client().await, retention(&ledger));
    dead_letters(&ledger, 2).await;
    change(&other, "UPDATE dead_letter SET resolution = 'discarded', resolved_at = '2001-01-01'").await;
    let at_work = other.transaction().await.expect("a transaction");
    at_work.batch_execute("UPDATE dead_letter SET attempts = 2 WHERE id = 1").await.expect("changed");
    assert_eq!(retention.remove(Kept::DeadLetter, DAY, 100).await.expect("removed"), 1);
    at_work.commit().await.expect("committed");
    assert_eq!(retention.remove(Kept::DeadLetter, DAY, 100).await.expect("removed"), 1);
}

#[tokio::test]
async fn events_are_removed_that_were_discarded_long_ago() {
    let ledger = Ledger::new().await;
    let (client, retention) = (ledger.client().await, retention(&ledger));
    let discarded = "INSERT INTO outbox_discarded (id, created_at, events, held_key, body, reason, discarded_at)
                     SELECT n, now(), 1, 'payment.settled', 'x', 'why', now() - n * interval '7 hours'
                       FROM generate_series(1, 9) n";
    change(&client, discarded).await;
    assert_eq!(retention.remove(Kept::OutboxDiscarded, DAY, 100).await.expect("removed"), 6);
    assert_eq!(get::<i64>(&client, "SELECT max(id) FROM outbox_discarded", &[]).await, 3);
}

#[tokio::test]
async fn rows_whose_time_is_not_over_are_not_read() {
    let ledger = Ledger::new().await;
    let client = ledger.client().await;
    let many = "INSERT INTO dead_letter (digest, reason, detail, body, properties, first_seen, last_seen, resolution,
                                         resolved_at)
                SELECT decode(lpad(n::text, 16, '0'), 'hex'), 'malformed', 'x', 'x', '{}', now(), now(), 'discarded', now()
                  FROM generate_series(1, 20000) n";
    change(&client, many).await;
    change(&client, "VACUUM ANALYZE dead_letter").await;
    change(&client, "SELECT pg_stat_reset()").await;
    let retention = retention(&ledger);
    assert_eq!(retention.remove(Kept::DeadLetter, DAY, 1000).await.expect("removed"), 0);
    drop(retention);
    let read = "SELECT (seq_tup_read + coalesce(idx_tup_fetch, 0))::bigint FROM pg_stat_user_tables
                 WHERE relname = 'dead_letter' AND idx_scan > 0";
    eventually("its session has ended", async || client.query_opt(read, &[]).await.expect("statistics").is_some())
        .await;
    assert!(get::<i64>(&client, read, &[]).await < 10);
}

#[tokio::test]
async fn a_daemon_removes_what_was_resolved_and_keeps_what_is_open() {
    let (world, daemon, publisher) = World::at_work(&[]).await;
    let letters = [1, 2].map(|amount| transfer("world", "alice", amount).with("amount", "much"));
    publisher.publish_all(&letters).await;
    for letter in &letters {
        world.dead_letter_of(letter).await;
    }
    let first = world.dead_letter_of(&letters[0]).await["id"].to_string();
    world.succeeds(&["dead-letters", "discard", &first]).await;
    daemon.stop().await;
    let sql = world.sql().await;
    // Without limits nothing is removed, however old it is.
    change(&sql, "UPDATE dead_letter SET resolved_at = '2001-01-01' WHERE resolved_at IS NOT NULL").await;
    let mut daemon = world.daemon().await;
    daemon.ready().await;
    daemon.stop().await;
    assert_eq!(get::<i64>(&sql, COUNT, &[]).await, 2);

    world.configure(&["retention.dead_letters = \"2160h\"", "retention.discarded_events = \"2160h\""]);
    let mut daemon = world.daemon().await;
    daemon.counts("settled_rows_removed_total", &[("table", "dead_letter")], 1).await;
    assert_eq!(get::<i64>(&sql, "SELECT count(*) FROM dead_letter WHERE resolution IS NULL", &[]).await, 1);
    assert_eq!(get::<i64>(&sql, COUNT, &[]).await, 1);
    daemon.stop().await;
}
