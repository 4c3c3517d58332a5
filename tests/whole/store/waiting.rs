//! What waits and what is held: that its amount costs nothing, and that it is counted.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use settled_core::contract::{Message, Properties};
use settled_core::ledger::Arrival;
use settled_pipeline::store::{BatchStore, GaugeStore, OutboxStore, Submission, Waiting};
use settled_store::outbox::PostgresOutbox;
use settled_store::queries::audit::audit;
use settled_store::{Client, PostgresGauges};
use settled_testkit::harness::{World, eventually, follow_up, transfer};

use super::{Ledger, get, payment};

/// How many tasks, holds and held events wait. More by hand, to see what an idle daemon costs:
/// `SETTLED_TEST_WAITING=10000000`.
fn many() -> i64 {
    std::env::var("SETTLED_TEST_WAITING").ok().and_then(|count| count.parse().ok()).unwrap_or(100_000)
}

/// Fills the ledger with tasks and holds that wait for next week, and events that no queue takes.
async fn fill(client: &Client, many: i64) {
    let fill = format!(
        "INSERT INTO payment (id, debit_account, credit_account, amount, currency, received_at, settled_at, type, state,
                              fingerprint, request)
         SELECT ('00000000-0000-7000-8000-' || lpad(n::text, 12, '0'))::uuid, a.id, b.id, 1, 'USD', now(), now(),
                'transfer', 'scheduled', decode(repeat('ab', 16), 'hex'), '{{}}'
           FROM generate_series(1, {many}) n, account a, account b WHERE a.name = 'a' AND b.name = 'b';
         INSERT INTO agenda (task_id, due_at, deadline, properties)
         SELECT id, now() + interval '7 days', now() + interval '7 days', '{{}}' FROM payment WHERE state = 'scheduled';
         INSERT INTO hold (payment_id, leg, account, amount, expires_at)
         SELECT gen_random_uuid(), 0, a.id, 1, now() + interval '7 days'
           FROM generate_series(1, {many}) n, account a WHERE a.name = 'a';
         INSERT INTO outbox (leased_until, held_key, events, body)
         SELECT now(), 'payment.settled', 1, 'x' FROM generate_series(1, {many});"
    );
    client.batch_execute(&fill).await.expect("what waits");
    client.batch_execute("VACUUM ANALYZE").await.expect("statistics");
}

/// Returns how many rows and entries of indexes were read since the statistics were reset, by table.
async fn read(client: &Client) -> Vec<(String, i64)> {
    let read = "
        SELECT t.relname::text,
               (t.seq_tup_read + coalesce(t.idx_tup_fetch, 0)
                + coalesce((SELECT sum(idx_tup_read) FROM pg_stat_user_indexes i WHERE i.relid = t.relid), 0))::bigint
          FROM pg_stat_user_tables t ORDER BY 2 DESC";
    client.query(read, &[]).await.expect("statistics").iter().map(|row| (row.get(0), row.get(1))).collect()
}

#[tokio::test]
async fn what_waits_is_not_read_to_find_what_is_due_or_to_measure_it() {
    const ROUNDS: usize = 10;
    let ledger = Ledger::new().await;
    let client = ledger.client().await;
    fill(&ledger.client().await, many()).await;
    // Sessions report what they did when they end, if not before.
    let others = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()
                     AND backend_type = 'client backend'";
    eventually("it is filled", async || get::<i64>(&client, others, &[]).await == 1).await;
    client.batch_execute("SELECT pg_stat_reset()").await.expect("reset");
    let (gauges, outbox) = (ledger.gauges(), PostgresOutbox::new(ledger.pool.clone()));
    for _ in 0..ROUNDS {
        assert!(ledger.store.due(1000).await.expect("what is due").is_empty());
        assert_eq!(outbox.abandoned(256).await.expect("rows"), [], "those that are not held are leased");
        assert_eq!(outbox.probes(8).await.expect("rows").len(), 1);
        let waiting = gauges.waiting().await.expect("measured");
        assert_eq!((waiting.scheduled, waiting.parked, waiting.holds), (many(), 0, many()));
        assert_eq!(waiting.held, [("USD".to_owned(), many() as f64)]);
        assert_eq!(gauges.holds_expiring().await.expect("measured"), 0);
        assert_eq!(gauges.dead_letters_open().await.expect("measured").count, 0);
        gauges.outbox_oldest_seconds().await.expect("measured");
        ledger.settle(&[payment()]).await;
    }
    ledger.pool.close();
    drop((gauges, outbox));
    eventually("their sessions end", async || get::<i64>(&client, others, &[]).await == 0).await;
    let read = read(&client).await;
    let most = 100 * ROUNDS as i64;
    assert!(read.iter().all(|(_, rows)| *rows < most), "more than {most} were read in {ROUNDS} rounds: {read:?}");
}

/// Explains a statement that the only session of the pool has prepared. Returns the plan, and how many buffers it
/// touched.
async fn explained(ledger: &Ledger, table: &str, parameters: &str) -> (String, i64) {
    assert_eq!(ledger.pool.status().size, 1, "one session has prepared all statements");
    let session = ledger.pool.get().await.expect("the session");
    let name = format!(
        "SELECT name FROM pg_prepared_statements
          WHERE statement LIKE '%FROM {table} WHERE%statement_timestamp%' AND statement NOT LIKE '%pg_prepared%'"
    );
    let name: String = session.query_one(&name, &[]).await.expect("the statement").get(0);
    let explain = format!("EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) EXECUTE {name}({parameters})");
    let answer = session.simple_query(&explain).await.expect("a plan");
    let plan = answer.iter().find_map(|message| match message {
        tokio_postgres::SimpleQueryMessage::Row(row) => row.get(0),
        _ => None,
    });
    let plan = plan.expect("a plan").to_owned();
    let parsed: serde_json::Value = serde_json::from_str(&plan).expect("JSON");
    let buffers = |which: &str| parsed[0]["Plan"][which].as_i64().expect("a number");
    let touched = buffers("Shared Hit Blocks") + buffers("Shared Read Blocks");
    (plan, touched)
}

#[tokio::test]
async fn what_is_due_is_found_by_an_index_with_a_few_buffers() {
    let ledger = Ledger::new().await;
    let client = ledger.client().await;
    // Planned while nothing waits, as in a new installation. The plan stays.
    ledger.store.due(100).await.expect("what is due");
    fill(&client, many()).await;
    ledger.store.due(100).await.expect("what is due");
    let (tasks, touched) = explained(&ledger, "agenda", "100, 2000000").await;
    assert!(tasks.contains("agenda_due_since") && tasks.contains("Index Cond\": \"(due_at <="), "{tasks}");
    assert!(touched <= 20, "{touched} buffers: {tasks}");
    let (holds, touched) = explained(&ledger, "hold", "100").await;
    assert!(holds.contains("hold_expires") && holds.contains("Index Cond\": \"(expires_at <="), "{holds}");
    assert!(touched <= 20, "{touched} buffers: {holds}");

    // All for the same moment, as salaries are: a batch is found without sorting all of them, by the plan that was made
    // when nothing was due.
    let due = "UPDATE agenda SET due_at = now() - interval '1 minute',
                                 since = now() - right(task_id::text, 12)::bigint / 50 * interval '1 s'";
    client.batch_execute(due).await.expect("due");
    assert_eq!(ledger.store.due(100).await.expect("what is due").tasks.len(), 100);
    let (tasks, touched) = explained(&ledger, "agenda", "100, 2000000").await;
    assert!(touched <= 1_000, "{touched} buffers: {tasks}");
}

/// What there is, counted the long way.
async fn counted(client: &Client) -> (i64, i64, i64, f64) {
    let row = client
        .query_one(
            "SELECT (SELECT count(*) FROM agenda WHERE waits_for IS NULL), (SELECT count(waits_for) FROM agenda),
                    (SELECT count(*) FROM hold), (SELECT coalesce(sum(amount), 0)::float8 FROM hold)",
            &[],
        )
        .await
        .expect("counted");
    (row.get(0), row.get(1), row.get(2), row.get(3))
}

async fn measured(gauges: &PostgresGauges) -> (i64, i64, i64, f64) {
    let Waiting { scheduled, parked, holds, held, .. } = gauges.waiting().await.expect("measured");
    (scheduled, parked, holds, held.iter().map(|(_, amount)| amount).sum())
}

#[tokio::test]
async fn what_waits_is_counted_right_while_it_changes_and_two_daemons_measure() {
    const CHANGES: usize = 60;
    let ledger = Ledger::new().await;
    let (client, writer) = (ledger.client().await, ledger.client().await);
    let changes = async {
        for _ in 0..CHANGES {
            let change = "
                INSERT INTO agenda (task_id, due_at, deadline, properties)
                SELECT gen_random_uuid(), now(), now(), '{}' FROM generate_series(1, 3);
                UPDATE agenda SET waits_for = gen_random_uuid()
                 WHERE task_id = (SELECT task_id FROM agenda WHERE waits_for IS NULL LIMIT 1);
                DELETE FROM agenda WHERE task_id = (SELECT max(task_id::text)::uuid FROM agenda);
                INSERT INTO hold SELECT gen_random_uuid(), 0, id, 10, now() FROM account WHERE name IN ('a', 'b');
                UPDATE hold SET amount = 7 WHERE payment_id = (SELECT payment_id FROM hold WHERE amount = 10 LIMIT 1);
                DELETE FROM hold WHERE payment_id = (SELECT max(payment_id::text)::uuid FROM hold)";
            writer.batch_execute(change).await.expect("changed");
        }
    };
    let (one, other) = (ledger.gauges(), ledger.gauges());
    let measure = async |gauges: &PostgresGauges| while gauges.waiting().await.is_ok() {};
    tokio::select! {
        biased;
        () = changes => {}
        () = measure(&one) => panic!("it can't be measured"),
        () = measure(&other) => panic!("it can't be measured"),
    }
    let there = counted(&client).await;
    assert!(there.0 > 0 && there.1 > 0 && there.2 > 0, "{there:?}");
    assert_eq!([measured(&one).await, measured(&other).await], [there, there]);
    let parts = get::<i64>(&client, "SELECT count(*) FROM waiting_count", &[]).await;
    assert!(parts < 200, "{parts} parts are left of {} changes", CHANGES * 6);
    client.batch_execute("DELETE FROM hold; DELETE FROM agenda").await.expect("deleted");
    assert_eq!(measured(&one).await, (0, 0, 0, 0.0));
    assert_eq!(one.waiting().await.expect("measured").held, [], "nothing is held in any currency");
}

#[tokio::test]
async fn what_waits_at_an_upgrade_is_counted_and_has_waited_since_it_came() {
    let world = World::new(&[]).await;
    let mut client = world.sql().await;
    settled_store::migrate_to(&mut client, 11).await.expect("the schema of the version before");
    // As the version before writes them, before and after.
    let write = "
        INSERT INTO payment (id, type, state, debit_account, credit_account, amount, currency, received_at, settled_at,
                             fingerprint)
        SELECT gen_random_uuid(), 'transfer', 'parked', 1, 2, 5, 'USD', now(), now() - interval '1 hour', '\\xab'
          FROM generate_series(1, 3);
        INSERT INTO agenda (task_id, due_at, deadline, properties, waits_for)
        SELECT id, now(), now(), '{}', gen_random_uuid() FROM payment ON CONFLICT DO NOTHING;
        INSERT INTO account (name, status, currency, opened_at) VALUES ('a' || (SELECT count(*) FROM account), 'open',
                                                                       'USD', now());
        INSERT INTO hold SELECT gen_random_uuid(), 0, max(id), 4, now() FROM account";
    client.batch_execute(write).await.expect("before");
    settled_store::migrate(&mut client).await.expect("migrated");
    let url = format!(
        "{}/{}",
        settled_testkit::harness::servers().await.postgres_url().rsplit_once('/').expect("a URL").0,
        world.name
    );
    let mut settings = settled_store::PostgresSettings::default();
    settings.use_url(&url).expect("a PostgreSQL URL");
    let gauges = PostgresGauges::new(settings.clone()).expect("a pool");
    assert_eq!(measured(&gauges).await, (0, 3, 1, 4.0));
    let oldest = gauges.waiting().await.expect("measured").parked_oldest_seconds;
    assert!((3_600.0..3_700.0).contains(&oldest), "{oldest}");
    client.batch_execute(write).await.expect("beside the new version");
    assert_eq!(measured(&gauges).await, (0, 6, 2, 8.0));
    assert_eq!(counted(&client).await, (0, 6, 2, 8.0));
}

#[tokio::test]
async fn the_age_of_what_waits_does_not_depend_on_the_clocks_of_the_hosts() {
    let ledger = Ledger::new().await;
    let gauges = ledger.gauges();
    for shift in [-600, 600] {
        let received = Timestamp::now() + SignedDuration::from_secs(shift);
        let orphan = follow_up("refund", &transfer("a", "b", 1), None);
        let orphan = Message::read(orphan.body().into_bytes(), Properties::default(), received);
        ledger.answers(&[Submission::of(Arrival(0), &orphan)]).await;
        let later = transfer("a", "b", 1).with("execute_at", "2999-01-01T00:00:00Z");
        let later = Message::read(later.body().into_bytes(), Properties::default(), received);
        ledger.answers(&[Submission::of(Arrival(0), &later)]).await;
    }
    let pause = Duration::from_millis(20);
    tokio::time::sleep(pause).await;
    let waiting = gauges.waiting().await.expect("measured");
    assert_eq!((waiting.scheduled, waiting.parked), (2, 2));
    let ages = [waiting.scheduled_oldest_seconds, waiting.parked_oldest_seconds];
    assert!(ages.iter().all(|age| (pause.as_secs_f64()..300.0).contains(age)), "{ages:?}");
    let audit = audit(&mut ledger.client().await).await.expect("an audit");
    assert!(audit.passed, "{:?}", audit.checks);
}
