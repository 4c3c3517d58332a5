//! The permissions of docs/operate/install.md, with the users and the names that stand there.

use futures_util::StreamExt;
use lapin::options::{BasicConsumeOptions, BasicGetOptions, BasicPublishOptions, BasicQosOptions, QueueDeclareOptions};
use lapin::types::FieldTable;
use lapin::{Channel, Connection};
use settled_testkit::harness::life::live;
use settled_testkit::harness::{
    Events, Publisher, SOON, Task, World, amqp, authorize, bind, declare_queue, eventually, open, servers, transfer,
};
use settled_testkit::servers::PrivateServers;

const INSTALL: &str = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/operate/install.md"));

/// The commands of the page that set permissions, word by word, under the comment that introduces them.
fn commands(under: &str) -> Vec<Vec<String>> {
    let (_, rest) = INSTALL.split_once(&format!("# {under}\n")).unwrap_or_else(|| panic!("no comment {under:?}"));
    let lines = rest.lines().map_while(|line| line.strip_prefix("$ rabbitmqctl set_"));
    let commands: Vec<Vec<String>> = lines
        .map(|line| format!("set_{line}").split_whitespace().map(|word| word.trim_matches('\'').to_owned()).collect())
        .collect();
    assert!(!commands.is_empty(), "no commands under {under:?}");
    commands
}

/// Carries out the commands in a virtual host.
async fn permit(servers: &PrivateServers, host: &str, under: &str) {
    for command in commands(under) {
        let (verb, user, rest) = (&command[0], &command[1], &command[2..]);
        let user = user_in(host, user);
        let mut words = vec![verb.as_str(), "-p", host, &user];
        words.extend(rest.iter().map(String::as_str));
        servers.rabbitmqctl(&words).await.expect("permissions");
    }
}

/// Users belong to the whole broker.
fn user_in(host: &str, user: &str) -> String {
    format!("{user}_{host}")
}

/// A virtual host with the users of the page and the daemon's default names. The test itself may do everything.
async fn world(overrides: &[&str]) -> (World, &'static PrivateServers) {
    let servers = servers().await;
    let mut world = World::on(servers, &[]).await;
    let host = world.name.clone();
    servers.rabbitmqctl(&["add_vhost", &host]).await.expect("a virtual host");
    servers.rabbitmqctl(&["set_permissions", "-p", &host, "guest", ".*", ".*", ".*"]).await.expect("all");
    for user in ["settled", "shop", "books", "reader", "ops"] {
        servers.rabbitmqctl(&["add_user", &user_in(&host, user), "secret"]).await.expect("a user");
    }
    world.exchange = "payments".to_owned();
    world.queue = "payments.tasks".to_owned();
    world.dead_letter_exchange = "payments.dead".to_owned();
    world.dead_letter_queue = "payments.tasks.dead".to_owned();
    world.events_exchange = "payments.events".to_owned();
    configure_as("settled", &mut world, servers, overrides);
    (world, servers)
}

/// Has daemons and commands connect as this user from now on, and the test as one who may do everything.
fn configure_as(user: &str, world: &mut World, servers: &PrivateServers, overrides: &[&str]) {
    world.amqp_uri = uri(world, servers, user);
    world.configure(overrides);
    world.amqp_uri = uri(world, servers, "guest");
}

fn uri(world: &World, servers: &PrivateServers, user: &str) -> String {
    let (_, server) = servers.amqp_uri().split_once('@').expect("a user");
    let server = server.split('/').next().expect("a server");
    let user =
        if user == "guest" { "guest:guest".to_owned() } else { format!("{}:secret", user_in(&world.name, user)) };
    format!("amqp://{user}@{server}/{}", world.name)
}

async fn connect(world: &World, servers: &PrivateServers, user: &str) -> Connection {
    amqp::connect(&uri(world, servers, user)).await
}

/// Waits until the broker closes the channel, on which something forbidden was done.
async fn is_refused(what: &str, channel: &Channel) {
    eventually(&format!("{what} is refused"), async || !channel.status().connected()).await;
}

async fn publish(channel: &Channel, exchange: &str, key: &str, task: &Task) {
    let (body, properties) = (task.body(), Publisher::properties(task));
    let options = BasicPublishOptions { mandatory: true, ..Default::default() };
    let _ = channel.basic_publish(exchange.into(), key.into(), options, body.as_bytes(), properties).await;
}

#[tokio::test]
async fn the_daemon_declares_and_does_everything_with_the_permissions_of_the_page() {
    let (world, servers) = world(&["payments.interval = \"50ms\""]).await;
    permit(servers, &world.name, "the daemon").await;
    let daemon = world.daemon().await;
    let (events, replies) = (world.events().await, Events::replies(&world).await);
    world.configure(&[]);
    let life = live(&world).await;
    events.of(&life.sale).await;
    let asking = transfer("bank", "buyer", 1);
    let properties = Publisher::properties(&asking).with_reply_to(replies.queue.as_str().into());
    world.publisher().await.publish_with(&asking, properties).await;
    replies.count(1).await;
    // What the broker gives up arrives through the dead-letter exchange and is read.
    let expiring = transfer("bank", "buyer", 2);
    let (_connection, channel) = world.channel().await;
    publish(&channel, "payments.dead", "task.transfer", &expiring).await;
    world.dead_letter_of(&expiring).await;
    let warned = daemon.log().lines().any(|line| line.contains("ACCESS_REFUSED") || line.contains("\"ERROR\""));
    assert!(!warned, "{}", daemon.log());
    world.end(daemon).await;
}

#[tokio::test]
async fn where_everything_is_declared_the_daemon_needs_less() {
    let (mut world, servers) = world(&[]).await;
    permit(servers, &world.name, "the daemon").await;
    world.daemon().await.stop().await;
    permit(servers, &world.name, "the daemon with broker.declare = false").await;
    configure_as("settled", &mut world, servers, &["broker.declare = false"]);
    let daemon = world.daemon().await;
    let (events, replies) = (world.events().await, Events::replies(&world).await);
    let tasks = [open("bank", "USD", None), open("buyer", "USD", None), transfer("bank", "buyer", 5)];
    world.settle(&tasks).await;
    events.count(3).await;
    let asking = transfer("bank", "buyer", 1);
    let properties = Publisher::properties(&asking).with_reply_to(replies.queue.as_str().into());
    world.publisher().await.publish_with(&asking, properties).await;
    replies.count(1).await;
    let given_up = transfer("bank", "buyer", 2);
    let (_connection, channel) = world.channel().await;
    publish(&channel, "payments.dead", "task.transfer", &given_up).await;
    world.dead_letter_of(&given_up).await;
    let checked = world.prints(&["check", "--connect"]).await;
    assert_eq!(checked["ok"], true, "{checked}");
    let refused = daemon.log().contains("ACCESS_REFUSED");
    assert!(!refused, "{}", daemon.log());
    // And it can do no more: neither publish tasks, nor declare, nor read what subscribers get.
    let connection = connect(&world, servers, "settled").await;
    let channel = connection.create_channel().await.expect("a channel");
    publish(&channel, "payments", "task.transfer", &transfer("bank", "buyer", 3)).await;
    is_refused("a task of the daemon's", &channel).await;
    let channel = connection.create_channel().await.expect("a channel");
    let declared = channel.queue_declare("payments.more".into(), QueueDeclareOptions::durable(), FieldTable::default());
    assert!(declared.await.is_err());
    let channel = connection.create_channel().await.expect("a channel");
    publish(&channel, "payments.events", "task.transfer", &transfer("bank", "buyer", 4)).await;
    is_refused("an event of no type", &channel).await;
    world.end(daemon).await;
}

#[tokio::test]
async fn events_reach_a_stream_with_the_permissions_of_the_page() {
    const STREAM: &str = "events.transport = \"stream\"";
    let (mut world, servers) = world(&[]).await;
    world.stream = "payments.events.log".to_owned();
    let mut events = 0;
    for (under, declare) in [
        ("the daemon whose events go to a stream; it needs no topic permission", "broker.declare = true"),
        ("the same with broker.declare = false", "broker.declare = false"),
    ] {
        permit(servers, &world.name, under).await;
        configure_as("settled", &mut world, servers, &[STREAM, declare]);
        world.prints(&["check", "--connect"]).await;
        let daemon = world.daemon().await;
        events += 1;
        world.open([format!("account-{events}")]).await;
        let logged = daemon.log();
        assert!(!logged.contains("REFUSED") && !logged.contains("lacks the permission"), "{logged}");
        daemon.stop().await;
        permit(servers, &world.name, "a reader of the stream").await;
        let connection = connect(&world, servers, "reader").await;
        let channel = connection.create_channel().await.expect("a channel");
        channel.basic_qos(10, BasicQosOptions::default()).await.expect("a prefetch");
        let first = amqp::table(&[("x-stream-offset", "first".into())]);
        let stream = world.stream.as_str().into();
        let mut consumer =
            channel.basic_consume(stream, "".into(), BasicConsumeOptions::default(), first).await.expect("a consumer");
        for _ in 0..events {
            let next = tokio::time::timeout(SOON, consumer.next()).await.expect("an event comes");
            next.expect("the stream is there").expect("a message");
        }
    }
}

#[tokio::test]
async fn a_publisher_publishes_the_types_that_it_may_and_nothing_else() {
    let (world, servers) = world(&[]).await;
    for of in ["the daemon", "a publisher of transfers and refunds"] {
        permit(servers, &world.name, of).await;
    }
    let daemon = world.daemon().await;
    world.open(["bank", "buyer"]).await;
    let connection = connect(&world, servers, "shop").await;
    let channel = connection.create_channel().await.expect("a channel");
    let replies = Events::direct(&channel).await;
    let task = transfer("bank", "buyer", 5);
    let properties = Publisher::properties(&task)
        .with_reply_to("amq.rabbitmq.reply-to".into())
        .with_user_id(user_in(&world.name, "shop").into());
    let (body, options) = (task.body(), BasicPublishOptions { mandatory: true, ..Default::default() });
    let published =
        channel.basic_publish("payments".into(), "task.transfer".into(), options, body.as_bytes(), properties);
    published.await.expect("published");
    world.becomes("settled", &task).await;
    replies.count(1).await;

    for (exchange, key) in [
        ("payments", "task.authorize"),
        ("payments", "task.open_account"),
        ("payments", "task.transfer.more"),
        ("", "payments.tasks"),
        ("payments.events", "payment.settled"),
        ("payments.dead", "task.transfer"),
    ] {
        let channel = connection.create_channel().await.expect("a channel");
        publish(&channel, exchange, key, &authorize("bank", "buyer", 5)).await;
        is_refused(&format!("{key} to {exchange:?}"), &channel).await;
    }
    for queue in ["payments.tasks", "payments.tasks.dead"] {
        let channel = connection.create_channel().await.expect("a channel");
        assert!(channel.basic_get(queue.into(), BasicGetOptions::default()).await.is_err(), "{queue}");
        let channel = connection.create_channel().await.expect("a channel");
        assert!(channel.queue_purge(queue.into(), Default::default()).await.is_err(), "{queue}");
        let channel = connection.create_channel().await.expect("a channel");
        assert!(channel.queue_delete(queue.into(), Default::default()).await.is_err(), "{queue}");
    }
    world.end(daemon).await;
}

#[tokio::test]
async fn a_subscriber_reads_the_events_that_it_may_and_nothing_else() {
    let (world, servers) = world(&[]).await;
    for of in ["the daemon", "a subscriber to events of payments"] {
        permit(servers, &world.name, of).await;
    }
    let daemon = world.daemon().await;
    let connection = connect(&world, servers, "books").await;
    let channel = connection.create_channel().await.expect("a channel");
    declare_queue(&channel, "books.events", QueueDeclareOptions::durable(), FieldTable::default()).await;
    bind(&channel, "books.events", "payments.events", "payment.*").await;
    let consumed =
        channel.basic_consume("books.events".into(), "".into(), BasicConsumeOptions::default(), FieldTable::default());
    consumed.await.expect("a consumer");
    let refused = async |exchange: &str, key: &str| {
        let channel = connection.create_channel().await.expect("a channel");
        let bound = channel.queue_bind(
            "books.events".into(),
            exchange.into(),
            key.into(),
            Default::default(),
            FieldTable::default(),
        );
        assert!(bound.await.is_err(), "{key} of {exchange}");
    };
    for key in ["#", "*.*", "account.*", "task.dead_lettered"] {
        refused("payments.events", key).await;
    }
    for exchange in ["payments", "payments.dead"] {
        refused(exchange, "payment.settled").await;
    }
    let channel = connection.create_channel().await.expect("a channel");
    assert!(channel.basic_get("payments.tasks".into(), BasicGetOptions::default()).await.is_err());
    for (exchange, key) in
        [("payments", "task.transfer"), ("payments.events", "payment.settled"), ("", "payments.tasks")]
    {
        let channel = connection.create_channel().await.expect("a channel");
        publish(&channel, exchange, key, &transfer("bank", "buyer", 5)).await;
        is_refused(&format!("{key} to {exchange:?}"), &channel).await;
    }
    drop(daemon);
}

#[tokio::test]
async fn an_operator_publishes_and_replays_and_nothing_else() {
    let (mut world, servers) = world(&[]).await;
    for of in ["the daemon", "an operator who publishes and replays"] {
        permit(servers, &world.name, of).await;
    }
    let daemon = world.daemon().await;
    configure_as("ops", &mut world, servers, &[]);
    let tasks = [open("bank", "USD", None), open("buyer", "USD", None), transfer("bank", "buyer", 5)];
    let lines: Vec<String> = tasks.iter().map(Task::body).collect();
    let published = world.run_with(&["publish", "--wait"], &lines.join("\n")).await;
    assert_eq!(published.code, 0, "{published:?}");
    world.succeeds(&["account", "open", "seller", "--currency", "USD"]).await;
    world.publisher().await.raw("task.transfer", b"{\"id\": 1}", Default::default()).await;
    world.dead_letter(b"{\"id\": 1}").await;
    world.succeeds(&["dead-letters", "replay", "--all"]).await;
    world.row("it came back", "SELECT 1 AS one FROM dead_letter WHERE attempts = 2", &[]).await;
    let connection = connect(&world, servers, "ops").await;
    for (exchange, key) in [("payments.events", "payment.settled"), ("", "payments.tasks")] {
        let channel = connection.create_channel().await.expect("a channel");
        publish(&channel, exchange, key, &transfer("bank", "buyer", 5)).await;
        is_refused(&format!("{key} to {exchange:?}"), &channel).await;
    }
    world.end(daemon).await;
}
