//! What the broker refuses, and what operators read then.

use std::net::TcpListener;

use settled_pipeline::health::Outage;
use settled_pipeline::settings::Live;
use settled_testkit::harness::{World, servers};

use super::*;

/// Attempts to open a session, which must fail for a reason with these parts, and with or without a refusal of access.
pub(super) async fn fails(log: &StreamLog, refused: bool, parts: &[&str]) {
    let opened = timeout(SOON, log.open(NAME)).await.expect("it fails soon");
    let Err(outage) = opened else { panic!("it opens, and must not because of {parts:?}") };
    assert!(parts.iter().all(|part| outage.reason.contains(part)), "not because of {parts:?}: {outage:?}");
    assert_eq!(outage, Outage { reason: outage.reason.clone(), refused });
}

fn log_as(world: &World, uri: &str) -> StreamLog {
    StreamLog::new(broker(uri), &settings(world))
}

#[tokio::test]
async fn a_login_that_is_refused_says_what_to_correct() {
    let world = World::new(&[]).await;
    let with = |from: &str, to: &str| log_as(&world, &world.amqp_uri.replace(from, to));
    for user in ["guest:wrong", "nobody:guest"] {
        let parts = ["AUTHENTICATION_FAILURE", "refuses the login", "broker.password_file"];
        fails(&with("guest:guest", user), true, &parts).await;
    }
    fails(&with("%2f", "nowhere"), true, &["VIRTUAL_HOST_ACCESS_FAILURE, `nowhere`", "refuses the login"]).await;
    session(&world).await.close().await;
}

#[tokio::test]
async fn a_password_that_is_corrected_by_a_reload_is_the_one_of_the_next_session() {
    let world = World::new(&[]).await;
    let with = |password: &str| broker(&world.amqp_uri.replace("guest:guest", &format!("guest:{password}")));
    let live = Live::from(with("wrong"));
    let log = StreamLog::new(live.clone(), &settings(&world));
    fails(&log, true, &["AUTHENTICATION_FAILURE"]).await;
    live.set(with("guest"));
    append(&mut log.open(NAME).await.expect("a session"), 1..=1).await;
    // A node that is away is left for the next one.
    let mut nodes = with("guest");
    nodes.uris.insert(0, "amqp://guest:guest@127.0.0.2/%2f".parse().expect("a URI"));
    live.set(nodes);
    let opened = [log.open(NAME).await.is_ok(), log.open(NAME).await.is_ok()];
    assert!(opened[0] != opened[1], "one of both nodes: {opened:?}");
}

#[tokio::test]
async fn a_permission_that_is_missing_is_named() {
    let (world, servers) = (World::new(&[]).await, servers().await);
    let user = format!("streams_{}", world.name);
    servers.rabbitmqctl(&["add_user", &user, "secret"]).await.expect("a user");
    let log = log_as(&world, &world.amqp_uri.replace("guest:guest", &format!("{user}:secret")));
    let all = format!("^{}$", world.stream);
    for (permission, [configure, write, read]) in
        [("configure", ["^$", &*all, &*all]), ("write", [&*all, "^$", &*all]), ("read", [&*all, &*all, "^$"])]
    {
        servers.rabbitmqctl(&["set_permissions", &user, configure, write, read]).await.expect("permissions");
        fails(&log, true, &[&user, &format!("lacks the permission {permission} for `{}`", world.stream)]).await;
    }
    servers.rabbitmqctl(&["set_permissions", &user, &all, &all, &all]).await.expect("permissions");
    let mut session = log.open(NAME).await.expect("no more is needed");
    append(&mut session, 1..=1).await;
    // A stream that exists needs not be declared.
    servers.rabbitmqctl(&["set_permissions", &user, "^$", &all, &all]).await.expect("permissions");
    let uri = world.amqp_uri.replace("guest:guest", &format!("{user}:secret"));
    let undeclared = StreamLog::new(BrokerSettings { declare: false, ..broker(&uri) }, &settings(&world));
    append(&mut undeclared.open(NAME).await.expect("a session"), 2..=2).await;
}

#[tokio::test]
async fn a_port_without_streams_says_how_to_enable_them() {
    let world = World::new(&[]).await;
    let port = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a port").port();
    let at = |port| StreamLog::new(broker(&world.amqp_uri), &StreamSettings { port, ..settings(&world) });
    let parts = [&*format!("port {port}"), "rabbitmq-plugins enable rabbitmq_stream", "stream.port"];
    fails(&at(port), false, &parts).await;
    // RabbitMQ's own port for AMQP 0-9-1, on which another protocol is spoken.
    let amqp = world.amqp_uri.rsplit(':').next().and_then(|rest| rest.split('/').next()).expect("a port");
    fails(&at(amqp.parse().expect("a port")), false, &["another server may listen"]).await;
    let silent = TcpListener::bind("127.0.0.1:0").expect("a port");
    let quick = BrokerSettings { connect_timeout: Duration::from_secs(1), ..broker(&world.amqp_uri) };
    let port = silent.local_addr().expect("an address").port();
    let log = StreamLog::new(quick, &StreamSettings { port, ..settings(&world) });
    fails(&log, false, &[&format!("127.0.0.1:{port}"), "no answer within 1s"]).await;
}

#[tokio::test]
async fn a_queue_is_no_stream_and_what_must_not_be_declared_has_to_exist() {
    let world = World::new(&[]).await;
    let undeclared = StreamLog::new(BrokerSettings { declare: false, ..broker(&world.amqp_uri) }, &settings(&world));
    fails(&undeclared, false, &[&*world.stream, "broker.declare is false", "broker.declare = true"]).await;
    let connection = amqp::connect(&world.amqp_uri).await;
    declare_classic(&connection, &world.stream).await;
    fails(&log(&world), false, &[&*world.stream, "is a queue, and no stream", "stream.name"]).await;
    delete(&connection, &world.stream).await;
    append(&mut session(&world).await, 1..=1).await;
    append(&mut undeclared.open(NAME).await.expect("it exists"), 2..=2).await;
}

#[tokio::test]
async fn a_permission_that_is_taken_away_ends_the_session() {
    let (world, servers) = (World::new(&[]).await, servers().await);
    let user = format!("streams_{}", world.name);
    servers.rabbitmqctl(&["add_user", &user, "secret"]).await.expect("a user");
    servers.rabbitmqctl(&["set_permissions", &user, ".*", ".*", ".*"]).await.expect("permissions");
    let log = log_as(&world, &world.amqp_uri.replace("guest:guest", &format!("{user}:secret")));
    let mut session = log.open(NAME).await.expect("a session");
    append(&mut session, 1..=1).await;
    servers.rabbitmqctl(&["delete_user", &user]).await.expect("deleted");
    // The broker remembers permissions, but closes connections of users that are gone.
    servers.rabbitmqctl(&["close_all_user_connections", &user, "gone"]).await.expect("closed");
    fails(&log, true, &["AUTHENTICATION_FAILURE"]).await;
}
