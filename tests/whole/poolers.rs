//! Behind a connection pooler: as a whole where it keeps sessions, not at all where it doesn't.

use serde_json::json;
use settled_testkit::harness::pooler::Pooler;
use settled_testkit::harness::{Ended, SOON, World, eventually, transfer};

/// Runs a verb that has to end by itself.
async fn ends(world: &World, arguments: &[&str]) -> Ended {
    let ended = tokio::time::timeout(SOON, world.run(arguments)).await;
    ended.unwrap_or_else(|_| panic!("settled {arguments:?} goes on"))
}

async fn is_refused_in_mode(mode: &str) {
    let world = World::new(&[]).await;
    world.succeeds(&["migrate"]).await;
    let pooler = Pooler::start(&world.postgres_url, mode).await;
    if mode.contains("round_robin") {
        // As many clients as there are server connections then, to be given out in turn.
        assert_eq!(pooler.left_behind().await, [""; 0]);
    }
    world.configure(&[&format!("postgres.url = {:?}", pooler.url())]);
    let discard: &[&str] = &["dead-letters", "discard", "--reason", "malformed", "--yes"];
    for arguments in [&["run"][..], &["migrate"], &["check", "--connect", "--json"], &["audit"], discard] {
        let ended = ends(&world, arguments).await;
        assert_eq!(ended.code, 78, "settled {arguments:?}: {ended:?}");
        let said = ended.stdout + &ended.stderr;
        for part in ["in transaction or statement mode", "pool_mode = session"] {
            assert!(said.contains(part), "settled {arguments:?} doesn't say {part:?}: {said}");
        }
    }
    assert_eq!(pooler.left_behind().await, [""; 0], "in force for other clients of the pooler");
}

#[tokio::test]
async fn a_pooler_in_transaction_mode_is_refused_before_anything_is_set_in_its_sessions() {
    is_refused_in_mode("transaction").await;
}

#[tokio::test]
async fn a_pooler_that_gives_out_its_server_connections_in_turn_is_refused_as_well() {
    is_refused_in_mode("transaction\nserver_round_robin = 1").await;
}

#[tokio::test]
async fn a_pooler_in_statement_mode_is_refused_before_anything_is_set_in_its_sessions() {
    is_refused_in_mode("statement").await;
}

/// Each statement that writes tells what is in force in its transaction.
const WITNESS: &str = "
    CREATE TABLE witnessed (what text, durable text, statement_limit text, lock_limit text, idle_limit text);
    CREATE FUNCTION witness() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        INSERT INTO witnessed VALUES (TG_TABLE_NAME, current_setting('synchronous_commit'),
            current_setting('statement_timeout'), current_setting('lock_timeout'),
            current_setting('idle_in_transaction_session_timeout'));
        RETURN NULL;
    END $$;
    DO $$ DECLARE t text; BEGIN
        FOREACH t IN ARRAY ARRAY['account', 'payment', 'agenda', 'outbox', 'dead_letter'] LOOP
            EXECUTE format('CREATE TRIGGER witness AFTER INSERT OR UPDATE ON %I EXECUTE FUNCTION witness()', t);
        END LOOP;
    END $$";

/// Has a daemon settle payments, and somebody discard a dead letter, on a database whose default is
/// to acknowledge commits before they are durable.
async fn writes_with_its_own_settings(world: &World, url: &str) {
    let admin = world.sql().await;
    let careless = format!("ALTER DATABASE {} SET synchronous_commit = off", world.name);
    admin.batch_execute(&careless).await.expect("altered");
    let limits = ["statement_timeout = \"7s\"", "lock_timeout = \"1s\"", "idle_in_transaction_timeout = \"9s\""];
    world.configure(&[&format!("postgres = {{ url = {url:?}, {} }}", limits.join(", "))]);
    world.succeeds(&["migrate"]).await;
    admin.batch_execute(WITNESS).await.expect("a witness");
    let mut daemon = world.daemon().await;
    let publisher = world.publisher().await;
    world.open_world_and_alice().await;
    let payments: Vec<_> = (0..50).map(|_| transfer("world", "alice", 1)).collect();
    world.settle(&payments).await;
    let later = transfer("world", "alice", 1).with("execute_at", "2999-01-01T00:00:00Z");
    publisher.publish(&later).await;
    world.becomes("scheduled", &later).await;
    let wrong = transfer("world", "alice", 1).with("amount", "much");
    publisher.publish(&wrong).await;
    world.dead_letter_of(&wrong).await;
    world.succeeds(&["dead-letters", "discard", "--reason", "malformed", "--yes"]).await;
    let seen = world.rows("SELECT DISTINCT * FROM witnessed ORDER BY what", &[]).await;
    let witnessed =
        |what| json!({"what": what, "durable": "on", "statement_limit": "7s", "lock_limit": "1s", "idle_limit": "9s"});
    assert_eq!(seen, ["account", "agenda", "dead_letter", "outbox", "payment"].map(witnessed));

    admin.batch_execute("BEGIN; SELECT FROM account FOR UPDATE").await.expect("locked");
    let held_up = transfer("world", "alice", 1);
    publisher.publish(&held_up).await;
    daemon.pauses("lock timeout").await;
    admin.batch_execute("COMMIT").await.expect("unlocked");
    world.all_are("settled", &[held_up]).await;
    daemon.stop().await;
    world.succeeds(&["audit"]).await;
}

#[tokio::test]
async fn behind_a_pooler_in_session_mode_everything_is_written_with_the_daemons_limits_and_durably() {
    let world = World::new(&[]).await;
    // It refuses startup parameters that it doesn't know, as it does unless told otherwise.
    let pooler = Pooler::start(&world.postgres_url, "session").await;
    writes_with_its_own_settings(&world, &pooler.url()).await;
    assert_eq!(pooler.left_behind().await, [""; 0]);
}

#[tokio::test]
async fn without_a_pooler_a_default_that_is_not_durable_is_overruled_wherever_something_is_written() {
    let world = World::new(&[]).await;
    writes_with_its_own_settings(&world, &world.postgres_url).await;
}

#[tokio::test]
async fn a_startup_parameter_that_a_pooler_refuses_is_an_error_of_the_configuration() {
    let world = World::new(&[]).await;
    let pooler = Pooler::start(&world.postgres_url, "session").await;
    world.configure(&[&format!("postgres.url = \"{}?options=-c%20work_mem%3D8MB\"", pooler.url())]);
    for arguments in [&["run"][..], &["check", "--connect", "--json"]] {
        let ended = ends(&world, arguments).await;
        assert_eq!(ended.code, 78, "settled {arguments:?}: {ended:?}");
        let said = ended.stdout + &ended.stderr;
        for part in ["unsupported startup parameter", "remove `options` from it"] {
            assert!(said.contains(part), "settled {arguments:?} doesn't say {part:?}: {said}");
        }
    }
}

#[tokio::test]
async fn a_pooler_that_is_switched_to_transaction_mode_makes_it_wait_and_lose_nothing() {
    let world = World::new(&[]).await;
    let pooler = Pooler::start(&world.postgres_url, "session").await;
    world.configure(&[&format!("postgres.url = {:?}", pooler.url())]);
    let mut daemon = world.daemon().await;
    let publisher = world.publisher().await;
    world.open_world_and_alice().await;
    pooler.change("transaction");
    let mut payments = Vec::new();
    eventually("it sees that its sessions are gone", async || {
        let payment = transfer("world", "alice", 1);
        publisher.publish(&payment).await;
        payments.push(payment);
        let (_, report) = daemon.readiness().await;
        report["paused"]["reason"].as_str().is_some_and(|reason| reason.contains("pooler in transaction mode"))
    })
    .await;
    pooler.change("session");
    world.all_are("settled", &payments).await;
    daemon.ready().await;
    daemon.stop().await;
    assert_eq!(world.count("dead_letter").await, 0);
}
