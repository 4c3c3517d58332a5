//! Runs on servers that are somebody else's.

use std::sync::LazyLock;

use lapin::options::QueueDeclareOptions;
use lapin::types::FieldTable;
use lapin::{Connection, ConnectionProperties};
use settled_testkit::harness::Daemon;
use tokio_postgres::{Client, NoTls};

use crate::support::{Ended, Place, SETTLED, loadtest_at};

async fn run(servers: &Place, more: &str) -> Ended {
    tokio::task::block_in_place(|| loadtest_at(servers, &format!("run --json {more}")))
}

async fn session(servers: &Place) -> Client {
    let (client, connection) = tokio_postgres::connect(&servers.postgres_url, NoTls).await.expect("a session");
    tokio::spawn(connection);
    client
}

/// What the accounts of each run begin with.
async fn marks(servers: &Place) -> Vec<String> {
    let query = "SELECT DISTINCT split_part(name, ':', 1) FROM account";
    let rows = session(servers).await.query(query, &[]).await.expect("accounts");
    rows.iter().map(|row| row.get(0)).collect()
}

async fn queue_exists(servers: &Place, queue: &str) -> bool {
    let connection = Connection::connect(&servers.amqp_uri, ConnectionProperties::default()).await;
    let connection = connection.expect("a connection");
    let channel = connection.create_channel().await.expect("a channel");
    let options = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
    channel.queue_declare(queue.into(), options, FieldTable::default()).await.is_ok()
}

#[tokio::test(flavor = "multi_thread")]
async fn runs_on_given_servers_are_judged_by_their_own_messages_and_leave_no_queue() {
    let servers = Place::new();
    let mixes = "--rate 300 --duration 1s --duplicates 2% --malformed 2% --altered 1%";
    let first = run(&servers, mixes).await.passed();
    let second = run(&servers, mixes).await.passed();
    assert_eq!((&first["settled"], &second["settled"]), (&285.into(), &285.into()));
    assert_eq!(second["dead_lettered"]["idempotency_conflict"], 3);
    assert_eq!(second["postgres"]["cpu_seconds"], 0.0);
    let marks = marks(&servers).await;
    assert_eq!(marks.len(), 2, "{marks:?}");
    assert!(queue_exists(&servers, "payments.tasks").await);
    for mark in marks {
        assert!(!queue_exists(&servers, &format!("{mark}.events")).await, "{mark}");
    }
}

/// The 20th payment of a run vanishes, and the 21st is applied once more.
const TAMPERING: &str = "
    CREATE FUNCTION tamper() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        IF NEW.reference = 'order-1120' THEN
            DELETE FROM payment WHERE id = NEW.id;
        ELSIF NEW.reference = 'order-1121' THEN
            INSERT INTO entry VALUES (NEW.debit_account, 1000000, -NEW.amount, 0, NEW.id);
        END IF;
        RETURN NULL;
    END $$;
    CREATE TRIGGER tamper AFTER INSERT ON payment FOR EACH ROW EXECUTE FUNCTION tamper()";

#[tokio::test(flavor = "multi_thread")]
async fn a_payment_that_is_lost_or_applied_twice_is_counted() {
    let servers = Place::new();
    run(&servers, "--rate 100 --count 1").await.passed();
    session(&servers).await.batch_execute(TAMPERING).await.expect("tampered with");
    let ended = run(&servers, "--rate 300 --duration 1s --slo doubled=0,lost<=1").await;
    assert_eq!(ended.code, Some(1), "{ended:#?}");
    let summary = ended.json();
    assert_eq!((&summary["published"], &summary["lost"]), (&300.into(), &1.into()), "{summary:#}");
    // The one that is there twice, and the entries of the one that is not there.
    assert_eq!((&summary["doubled"], &summary["events_unexpected"]), (&2.into(), &1.into()));
    assert_eq!((&summary["slo"][0]["held"], &summary["slo"][1]["held"]), (&false.into(), &true.into()));
    assert_eq!(summary["audit"]["passed"], false);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_daemon_that_runs_already_is_used_and_left_running() {
    let servers = Place::new();
    let dir = tempfile::tempdir().expect("a directory");
    let Place { amqp_uri, postgres_url } = &servers;
    let listen = "[admin]\nlisten = \"127.0.0.1:0\"";
    let text = format!("[broker]\nuris = [{amqp_uri:?}]\n[postgres]\nurl = {postgres_url:?}\n{listen}\n");
    let config = dir.path().join("settled.toml");
    std::fs::write(&config, text).expect("a configuration");
    LazyLock::force(&SETTLED);
    let mut daemon = Daemon::spawn(&config, dir.path().join("settled.log"));
    daemon.ready().await;
    let admin = daemon.admin().expect("an address");
    let load = "--rate 300 --duration 1s --duplicates 2% --no-spawn";
    let with_counters = run(&servers, &format!("{load} --admin http://{admin}/")).await.passed();
    assert_eq!(with_counters["duplicates"], 6);
    let without = run(&servers, load).await.passed();
    assert_eq!((&without["settled"], &without["events"]), (&294.into(), &294.into()));
    assert!(daemon.is_running(), "the daemon has ended");
}
