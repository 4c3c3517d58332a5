//! How it starts: with what is there, with what it declares, or with a clear refusal.

use lapin::ExchangeKind;
use lapin::options::{ExchangeDeclareOptions, QueueDeclareOptions};
use lapin::types::FieldTable;
use settled_testkit::harness::amqp::{declare_exchange, table};
use settled_testkit::harness::{Daemon, World, connect, declare_queue, open, transfer};

/// The lines of the daemon's log that are warnings or worse.
fn warnings(daemon: &Daemon) -> Vec<String> {
    daemon.log().lines().filter(|line| line.contains("WARN") || line.contains("ERROR")).map(str::to_owned).collect()
}

async fn a_transfer_settles(world: &World) {
    let tasks = [open("world", "USD", None), open("alice", "USD", None), transfer("world", "alice", 1)];
    world.settle(&tasks).await;
}

#[tokio::test]
async fn on_an_empty_broker_it_declares_all_it_needs() {
    let (world, daemon) = World::with_daemon(&[]).await;
    let events = world.events().await;
    a_transfer_settles(&world).await;
    events.count(3).await;
    for queue in [&world.queue, &world.dead_letter_queue] {
        assert_eq!(world.messages(queue).await, 0, "it is there");
    }
    // The same again finds it all there, and nothing to complain about.
    daemon.stop().await;
    let daemon = world.daemon().await;
    assert_eq!(warnings(&daemon), [] as [String; 0]);
    world.audit().await;
}

#[tokio::test]
async fn without_its_queue_and_leave_to_declare_it_ends_with_69() {
    let world = World::new(&["broker.declare = false"]).await;
    let mut daemon = world.starting_daemon();
    daemon.exits(69).await;
    let log = daemon.log();
    assert!(log.contains(&world.queue) && log.contains("broker.declare"), "{log}");
}

#[tokio::test]
async fn with_a_queue_that_somebody_else_declared_it_needs_no_leave() {
    let world = World::new(&[]).await;
    let publisher = world.publisher().await;
    let _events = world.events().await;
    declare_exchange(&publisher.channel, &world.dead_letter_exchange).await;
    declare_queue(&publisher.channel, &world.dead_letter_queue, QueueDeclareOptions::durable(), FieldTable::default())
        .await;
    world.configure(&["broker.declare = false"]);
    let daemon = world.daemon().await;
    a_transfer_settles(&world).await;
    assert_eq!(warnings(&daemon), [] as [String; 0]);
    world.audit().await;
}

#[tokio::test]
async fn a_task_queue_with_other_arguments_is_used_with_a_warning() {
    let world = World::new(&[]).await;
    let (_connection, channel) = world.channel().await;
    declare_queue(&channel, &world.queue, QueueDeclareOptions::durable(), FieldTable::default()).await;
    let daemon = world.daemon().await;
    a_transfer_settles(&world).await;
    let warnings = warnings(&daemon);
    assert_eq!(warnings.len(), 1, "{warnings:?}");
    assert!(warnings[0].contains(&world.queue) && warnings[0].contains("other arguments"), "{warnings:?}");
    world.audit().await;
}

#[tokio::test]
async fn exchanges_and_a_dead_letter_queue_with_other_arguments_are_used_with_a_warning() {
    let world = World::new(&[]).await;
    let (_connection, channel) = world.channel().await;
    declare_queue(&channel, &world.dead_letter_queue, QueueDeclareOptions::durable(), FieldTable::default()).await;
    for exchange in [&world.exchange, &world.events_exchange, &world.dead_letter_exchange] {
        let durable = ExchangeDeclareOptions { durable: true, ..Default::default() };
        let arguments = table(&[("alternate-exchange", "nowhere".into())]);
        let declared = channel.exchange_declare(exchange.as_str().into(), ExchangeKind::Topic, durable, arguments);
        declared.await.expect("an exchange");
    }
    let daemon = world.daemon().await;
    a_transfer_settles(&world).await;
    let warnings = warnings(&daemon);
    for name in [&world.exchange, &world.events_exchange, &world.dead_letter_exchange, &world.dead_letter_queue] {
        let is_told = warnings.iter().any(|line| line.contains(name) && line.contains("other arguments"));
        assert!(is_told, "{name}: {warnings:?}");
    }
    world.audit().await;
}

#[tokio::test]
async fn on_a_database_that_cannot_hold_every_text_it_ends_at_once_and_says_which_encoding_it_needs() {
    for encoding in ["LATIN1", "SQL_ASCII"] {
        let world = World::new(&[]).await;
        let (admin, name) = (connect(None).await, &world.name);
        let make = format!(
            "CREATE DATABASE {name} ENCODING '{encoding}' TEMPLATE template0 LOCALE_PROVIDER libc LC_COLLATE 'C' LC_CTYPE 'C'"
        );
        admin.batch_execute(&format!("DROP DATABASE {name}")).await.expect("dropped");
        admin.batch_execute(&make).await.expect("made again");
        for arguments in [&["run"][..], &["migrate"], &["migrate", "--dry-run"]] {
            let ended = world.run(arguments).await;
            assert_ne!(ended.code, 0, "{ended:?}");
            assert!(ended.stderr.contains(encoding) && ended.stderr.contains("expected UTF8"), "{ended:?}");
        }
    }
}
