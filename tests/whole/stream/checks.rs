//! `settled check --connect` looks at the stream, if events go to one, and creates nothing.

use std::net::TcpListener;

use serde_json::Value;
use settled_testkit::harness::{World, servers};

use super::*;

const STREAM: &str = "events.transport = \"stream\"";

/// Runs the check, which must end with this code. Returns its report.
async fn check(world: &World, code: i32) -> Value {
    let checked = world.run(&["check", "--connect", "--json"]).await;
    assert_eq!(checked.code, code, "{checked:?}");
    checked.json()
}

/// The one precondition that does not hold is the stream's, for a reason with these parts. Returns the remedy.
pub(super) async fn complains(world: &World, parts: &[&str]) -> String {
    let report = check(world, 78).await;
    let unmet: Vec<&Value> =
        report["preconditions"].as_array().expect("a list").iter().filter(|row| row["verdict"] != "ok").collect();
    let [row] = &unmet[..] else { panic!("one is not as it should be: {report}") };
    assert_eq!((row["what"].as_str(), row["verdict"].as_str()), (Some(&*what(world)), Some("impaired")), "{row}");
    let (detail, remedy) = (row["detail"].as_str().expect("a text"), row["remedy"].as_str().expect("a text"));
    assert!(parts.iter().all(|part| detail.contains(part)), "not because of {parts:?}: {row}");
    remedy.to_owned()
}

fn what(world: &World) -> String {
    format!("stream {}", world.stream)
}

/// What the check says about the stream of a world where nothing is wrong, and all that it warns of.
pub(super) async fn praises(world: &World) -> (String, Vec<String>) {
    let report = check(world, 0).await;
    let mut rows = report["preconditions"].as_array().expect("a list").iter();
    let row = rows.find(|row| row["what"] == what(world)).unwrap_or_else(|| panic!("no stream: {report}"));
    let warnings = report["warnings"].as_array().expect("a list").iter();
    let warnings = warnings.filter_map(Value::as_str).filter(|text| text.contains(&world.stream));
    (row["detail"].as_str().expect("a text").to_owned(), warnings.map(ToOwned::to_owned).collect())
}

/// Returns what the check says of the server at the port for streams: its state, and the detail.
fn server(report: &Value, port: u16) -> (&str, &str) {
    let mut servers = report["servers"].as_array().expect("a list").iter();
    let target = format!("127.0.0.1:{port}");
    let server = servers.find(|server| server["target"] == target).unwrap_or_else(|| panic!("no {target}: {report}"));
    (server["state"].as_str().expect("a text"), server["detail"].as_str().expect("a text"))
}

async fn exists(world: &World) -> bool {
    let (_connection, channel) = world.channel().await;
    let passive = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::durable() };
    channel.queue_declare(world.stream.as_str().into(), passive, FieldTable::default()).await.is_ok()
}

#[tokio::test]
async fn nothing_is_asked_of_streams_while_events_go_to_the_exchange() {
    let world = World::new(&["stream.port = 1"]).await;
    let report = check(&world, 0).await;
    assert!(!report.to_string().contains(&world.stream), "{report}");
    world.configure(&["stream.port = 1", STREAM]);
    let report = check(&world, 69).await;
    let (state, detail) = server(&report, 1);
    assert_eq!(state, "unreachable");
    for part in ["port 1", "rabbitmq-plugins enable rabbitmq_stream", "stream.port"] {
        assert_eq!(detail.matches(part).count(), 1, "{part:?}: {detail}");
    }
}

#[tokio::test]
async fn a_port_that_speaks_something_else_and_a_login_that_is_refused_are_said() {
    let world = World::new(&[STREAM]).await;
    assert_eq!(server(&check(&world, 0).await, world.stream_port), ("ok", "connected"));
    let silent = TcpListener::bind("127.0.0.1:0").and_then(|silent| Ok((silent.local_addr()?.port(), silent)));
    let (port, _silent) = silent.expect("a port");
    world.configure(&[STREAM, &format!("stream.port = {port}"), "broker.connect_timeout = \"1s\""]);
    let report = check(&world, 69).await;
    assert_eq!(server(&report, port), ("unreachable", &*format!("127.0.0.1:{port}: no answer within 1s")));
    let wrong = format!("broker.uris = [{:?}]", world.amqp_uri.replace("guest:guest", "guest:wrong"));
    world.configure(&[STREAM, &wrong]);
    let report = check(&world, 78).await;
    let (state, detail) = server(&report, world.stream_port);
    assert!(state == "refused" && detail.contains("refuses the login"), "{report}");
}

#[tokio::test]
async fn each_permission_that_is_missing_is_named_before_and_after_the_stream_exists() {
    let (mut world, servers) = (World::new(&[]).await, servers().await);
    let (user, guest) = (format!("checks_{}", world.name), world.amqp_uri.clone());
    servers.rabbitmqctl(&["add_user", &user, "secret"]).await.expect("a user");
    world.amqp_uri = guest.replace("guest:guest", &format!("{user}:secret"));
    world.configure(&[STREAM]);
    world.amqp_uri = guest;
    let others = format!("^(?!{}$).*", world.stream.replace('.', "\\."));
    let permit = async |[configure, write, read]: [&str; 3]| {
        servers.rabbitmqctl(&["set_permissions", &user, configure, write, read]).await.expect("permissions");
    };
    for (detail, count) in [("does not exist yet: `settled run` declares it", 1), ("exists", 2)] {
        for (permission, patterns) in
            [("configure", [&*others, ".*", ".*"]), ("write", [".*", &*others, ".*"]), ("read", [".*", ".*", &*others])]
        {
            permit(patterns).await;
            let lacks = format!("lacks the permission {permission} for `{}`", world.stream);
            let remedy = complains(&world, &[&user, &lacks]).await;
            // What the remedy says is enough.
            let granted: Vec<&str> = remedy.split('\'').skip(5).step_by(2).take(3).collect();
            permit(granted.try_into().expect("three patterns")).await;
            assert_eq!(praises(&world).await, (detail.to_owned(), Vec::new()));
        }
        assert_eq!(exists(&world).await, detail == "exists", "a check creates nothing");
        let daemon = world.daemon().await;
        world.open([format!("account-{count}")]).await;
        assert!(read(&world, count).await.len() == count);
        assert!(!daemon.log().contains("WARN"), "{}", daemon.log());
        daemon.stop().await;
    }
}

#[tokio::test]
async fn what_must_not_be_declared_has_to_exist_and_the_check_says_how() {
    let world = World::new(&[]).await;
    world.daemon().await.stop().await;
    let undeclared = "broker.declare = false";
    world.configure(&[STREAM, undeclared]);
    let remedy = complains(&world, &[&world.stream, "broker.declare is false"]).await;
    assert!(remedy.contains("rabbitmqadmin") && remedy.contains("broker.declare = true"), "{remedy}");
    assert!(!exists(&world).await, "a check creates nothing");
    // The queue of the command is the one that it asks for.
    let (_, arguments) = remedy.split_once("arguments='").expect("arguments");
    let (arguments, _) = arguments.split_once('\'').expect("arguments");
    let arguments: serde_json::Map<String, Value> = serde_json::from_str(arguments).expect("JSON");
    let mut table = FieldTable::default();
    for (name, value) in arguments {
        let text = value.as_str().map(|text| AMQPValue::LongString(text.into()));
        let value = text.or_else(|| value.as_i64().map(AMQPValue::LongLongInt)).expect("a text or a number");
        table.insert(name.into(), value);
    }
    let (_connection, channel) = world.channel().await;
    let declared = channel.queue_declare(world.stream.as_str().into(), QueueDeclareOptions::durable(), table);
    declared.await.expect("a stream");
    assert_eq!(praises(&world).await, ("exists".to_owned(), Vec::new()));
    for declares in [&[STREAM][..], &[STREAM, undeclared]] {
        world.configure(&[declares, &["stream.max_age = \"1h\"", "stream.segment_bytes = 16777216"]].concat());
        let (detail, warnings) = praises(&world).await;
        assert_eq!((&*detail, warnings.len()), ("exists", 2), "{warnings:?}");
        assert!(warnings[0].contains("has x-max-age = 604800s, expected 3600s (stream.max_age)"), "{warnings:?}");
        assert!(warnings[1].contains("expected 16777216 (stream.segment_bytes)"), "{warnings:?}");
    }
}

#[tokio::test]
async fn a_queue_of_the_streams_name_is_said_to_be_none() {
    let world = World::new(&[STREAM]).await;
    let (connection, _channel) = world.channel().await;
    declare_classic(&connection, &world.stream).await;
    let remedy = complains(&world, &[&world.stream, "is a queue, and no stream"]).await;
    assert!(remedy.contains("stream.name") && remedy.contains("delete_queue"), "{remedy}");
    world.configure(&["broker.declare = false", STREAM]);
    let report = check(&world, 78).await;
    assert_eq!(report.to_string().matches("is a queue, and no stream").count(), 1, "{report}");
}
