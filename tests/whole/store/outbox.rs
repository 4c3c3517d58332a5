//! The rows of the outbox, without a relay.

use std::time::Duration;

use settled_pipeline::store::{GaugeStore, OutboxStore, RowSize, Unrouted};
use settled_store::outbox::PostgresOutbox;

use super::{Ledger, get, payment};

const LEASE: Duration = Duration::from_secs(60);

/// A ledger with one row of the outbox, its id, and the outbox.
async fn with_a_row() -> (Ledger, i64, PostgresOutbox) {
    let ledger = Ledger::new().await;
    ledger.settle(&[payment()]).await;
    let id = get(&ledger.client().await, "SELECT max(id) FROM outbox", &[]).await;
    let outbox = PostgresOutbox::new(ledger.pool.clone());
    (ledger, id, outbox)
}

#[tokio::test]
async fn rows_that_no_queue_took_are_found_by_their_key_once_they_are_due_and_taken_once() {
    let (ledger, id, outbox) = with_a_row().await;
    let unrouted =
        |key: &str, events| Unrouted { key: key.to_owned(), reason: None, lines: key.as_bytes().to_vec(), events };
    outbox.hold(id, &[unrouted("a", 3), unrouted("b", 1)], Duration::ZERO).await.expect("held");
    let found = outbox.held_of("a", false, 10).await.expect("found");
    let [RowSize { id: row, events: 3, bytes: 1 }] = found[..] else { panic!("{found:?}") };
    assert_eq!(outbox.held_of("c", false, 10).await.expect("found"), []);
    assert_eq!(outbox.held_of("a", false, 0).await.expect("found"), []);

    let taken = outbox.take(&[row], LEASE).await.expect("taken");
    let [event_batch] = &taken[..] else { panic!("{taken:?}") };
    assert_eq!(
        (event_batch.id, &event_batch.body[..], event_batch.events, event_batch.held_key.as_deref()),
        (row, &b"a"[..], 3, Some("a"))
    );
    assert!(outbox.take(&[row], LEASE).await.expect("taken").is_empty(), "it is leased");
    assert_eq!(outbox.held_of("a", false, 10).await.expect("found"), [], "it is leased");

    // What is held again waits for its time.
    outbox.hold(row, &[unrouted("a", 3)], LEASE).await.expect("held");
    let kept = "SELECT id FROM outbox WHERE held_key = 'a'";
    assert_eq!(get::<i64>(&ledger.client().await, kept, &[]).await, row, "people know it by its number");
    assert_eq!(outbox.held_of("a", false, 10).await.expect("found"), []);
    let held = "SELECT count(*) FROM outbox WHERE held_key = 'a'";
    assert_eq!(get::<i64>(&ledger.client().await, held, &[]).await, 1);
}

#[tokio::test]
async fn refused_rows_are_tried_again_a_few_at_a_time_and_replies_are_dropped_after_a_while() {
    let (ledger, id, outbox) = with_a_row().await;
    ledger.client().await.execute("DELETE FROM outbox WHERE id <> $1", &[&id]).await.expect("deleted");
    let unrouted =
        |key: &str, reason: Option<String>| Unrouted { key: key.to_owned(), reason, lines: b"x\n".to_vec(), events: 1 };
    let mut held: Vec<Unrouted> = (0..5).map(|n| unrouted("a", Some(format!("refused {n}")))).collect();
    held.extend([
        unrouted("a", None),
        unrouted("a", None),
        unrouted("reply", Some("no".to_owned())),
        unrouted("reply:q", None),
    ]);
    outbox.hold(id, &held, Duration::ZERO).await.expect("held");
    // The oldest of each key that no queue took, and some of the refused ones.
    assert_eq!(outbox.probes(3).await.expect("found").len(), 2 + 3);
    assert_eq!(outbox.probes(10).await.expect("found").len(), 2 + 6);
    let (refused, others) = (outbox.held_of("a", true, 10).await, outbox.held_of("a", false, 10).await);
    assert_eq!((refused.expect("found").len(), others.expect("found").len()), (5, 2));
    let gauges = ledger.gauges();
    let depth = gauges.outbox().await.expect("measured");
    let oldest = gauges.outbox_oldest_seconds().await.expect("measured");
    assert_eq!((depth.held, depth.refused, oldest), (9, 6, 0.0));

    assert_eq!(outbox.drop_held_replies(LEASE).await.expect("looked"), 0, "they are not that old");
    let older = "UPDATE outbox SET created_at = now() - interval '1 hour'";
    ledger.client().await.execute(older, &[]).await.expect("older");
    assert_eq!(outbox.drop_held_replies(LEASE).await.expect("dropped"), 2);
    assert_eq!(gauges.outbox().await.expect("measured").held, 7);
}

#[tokio::test]
async fn events_that_two_relays_hold_are_held_once() {
    let (ledger, id, outbox) = with_a_row().await;
    let unrouted = [Unrouted { key: "payment.settled".to_owned(), reason: None, lines: b"x\n".to_vec(), events: 1 }];
    // As after a lease that ran out while its holder stood still.
    for _ in 0..2 {
        outbox.hold(id, &unrouted, LEASE).await.expect("held");
    }
    assert_eq!(ledger.gauges().outbox().await.expect("measured").held, 1);
    let held = "SELECT count(*) FROM outbox WHERE held_key IS NOT NULL";
    assert_eq!(ledger.client().await.query_one(held, &[]).await.expect("rows").get::<_, i64>(0), 1);
}

#[tokio::test]
async fn a_connection_whose_answer_nobody_waits_for_is_not_used_again() {
    let (ledger, id, outbox) = with_a_row().await;
    let mut other = ledger.client().await;
    let lock = other.transaction().await.expect("a transaction");
    lock.batch_execute("LOCK TABLE outbox IN ACCESS EXCLUSIVE MODE").await.expect("locked");
    let (ids, before) = ([id], ledger.pool.status().size);
    ledger.give_up_at_a_lock(outbox.delete(&ids)).await;
    assert_eq!(ledger.pool.status().size, before - 1, "it is thrown away");
    lock.rollback().await.expect("unlocked");
    outbox.delete(&ids).await.expect("deleted, by another one");
}
