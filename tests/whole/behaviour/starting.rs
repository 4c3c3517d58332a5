//! How it starts: with what is there, with what it declares, or with a clear refusal.

use lapin::options::{ExchangeDeclareOptions, QueueDeclareOptions};
use lapin::types::FieldTable;
use lapin::{Channel, Connection, ExchangeKind};
use settled_testkit::harness::amqp::{connect, declare_exchange, table};
use settled_testkit::harness::{Daemon, Publisher, World, connect as connect_to_postgres, open, transfer};

async fn channel(world: &World) -> (Connection, Channel) {
    let connection = connect(&world.amqp_uri).await;
    let channel = connection.create_channel().await.expect("a channel");
    (connection, channel)
}

async fn declare_queue(channel: &Channel, name: &str, arguments: FieldTable) {
    channel.queue_declare(name.into(), QueueDeclareOptions::durable(), arguments).await.expect("a queue");
}

/// The lines of the daemon's log that are warnings or worse.
fn warnings(daemon: &Daemon) -> Vec<String> {
    daemon.log().lines().filter(|line| line.contains("WARN") || line.contains("ERROR")).map(str::to_owned).collect()
}

async fn a_transfer_settles(world: &World) {
    let publisher = Publisher::only(world).await;
    let tasks = [open("world", "USD", None), open("alice", "USD", None), transfer("world", "alice", 1)];
    publisher.publish_all(&tasks).await;
    world.all_are("settled", &tasks).await;
}

#[tokio::test]
async fn a_wrong_configuration_ends_it_with_78_and_names_the_key() {
    let world = World::new(&["pipeline.lane = 4", "broker.prefetch = 1"]).await;
    let ended = world.run(&["run"]).await;
    assert_eq!(ended.code, 78, "{ended:?}");
    for part in ["lane", "did you mean", "lanes", "settled.toml"] {
        assert!(ended.stderr.contains(part), "{part:?} is not in {}", ended.stderr);
    }
}

#[tokio::test]
async fn on_an_empty_broker_it_declares_all_it_needs() {
    let world = World::new(&[]).await;
    let events = world.events().await;
    let daemon = world.daemon().await;
    a_transfer_settles(&world).await;
    events.count(3).await;
    let (_connection, channel) = channel(&world).await;
    for queue in [&world.queue, &world.dead_letter_queue] {
        let passive = QueueDeclareOptions { passive: true, ..Default::default() };
        channel.queue_declare(queue.as_str().into(), passive, FieldTable::default()).await.expect("it is there");
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
    assert_eq!(daemon.wait_exit().await.code(), Some(69), "{}", daemon.log());
    let log = daemon.log();
    assert!(log.contains(&world.queue) && log.contains("broker.declare"), "{log}");
}

#[tokio::test]
async fn with_a_queue_that_somebody_else_declared_it_needs_no_leave() {
    let world = World::new(&[]).await;
    let publisher = world.publisher().await;
    let _events = world.events().await;
    declare_exchange(&publisher.channel, &world.dead_letter_exchange).await;
    declare_queue(&publisher.channel, &world.dead_letter_queue, FieldTable::default()).await;
    world.configure(&["broker.declare = false"]);
    let daemon = world.daemon().await;
    a_transfer_settles(&world).await;
    assert_eq!(warnings(&daemon), [] as [String; 0]);
    world.audit().await;
}

#[tokio::test]
async fn a_task_queue_with_other_arguments_is_used_with_a_warning() {
    let world = World::new(&[]).await;
    let (_connection, channel) = channel(&world).await;
    declare_queue(&channel, &world.queue, FieldTable::default()).await;
    let daemon = world.daemon().await;
    a_transfer_settles(&world).await;
    let warnings = warnings(&daemon);
    assert!(
        matches!(&warnings[..], [one] if one.contains(&world.queue) && one.contains("other arguments")),
        "{warnings:?}"
    );
    world.audit().await;
}

#[tokio::test]
async fn exchanges_and_a_dead_letter_queue_with_other_arguments_are_used_with_a_warning() {
    let world = World::new(&[]).await;
    let (_connection, channel) = channel(&world).await;
    declare_queue(&channel, &world.dead_letter_queue, FieldTable::default()).await;
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
        assert!(
            warnings.iter().any(|line| line.contains(name) && line.contains("other arguments")),
            "{name}: {warnings:?}"
        );
    }
    world.audit().await;
}

#[tokio::test]
async fn on_a_database_that_cannot_hold_every_text_it_ends_at_once_and_says_which_encoding_it_needs() {
    for encoding in ["LATIN1", "SQL_ASCII"] {
        let world = World::new(&[]).await;
        let (admin, name) = (connect_to_postgres(None).await, &world.name);
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
