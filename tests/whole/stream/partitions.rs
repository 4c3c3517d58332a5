//! Streams with partitions. They need RabbitMQ 3.11: an older one is asserted to be refused, by each test.

use std::collections::BTreeMap;

use serde_json::Value;
use settled_amqp::EventStream;
use settled_testkit::harness::{Daemon, Task, World, authorize, eventually, follow_up, servers, transfer, within};
use uuid::Uuid;

use super::checks::{complains, praises};
use super::refusals::fails;
use super::*;

const STREAM: &str = "events.transport = \"stream\"";
const THREE: [&str; 2] = [STREAM, "events.partitions = 3"];

fn partitioned(world: &World, partitions: usize) -> EventStream {
    EventStream { settings: settings(world), partitions }
}

fn log_of(world: &World, partitions: usize) -> StreamLog {
    StreamLog::new(broker(&world.amqp_uri), partitioned(world, partitions))
}

async fn ctl(arguments: &[&str]) -> String {
    servers().await.rabbitmqctl(arguments).await.expect("it obeys")
}

/// Returns the version of the broker.
async fn version() -> String {
    ctl(&["eval", "io:format(\"~s\", [rabbit_misc:version()])."]).await.trim().trim_end_matches("ok").trim().to_owned()
}

/// Whether the broker has super streams. If it has none, a session says so.
async fn has_super_streams(world: &World) -> bool {
    let version = version().await;
    let mut numbers = version.split('.').map(|number| number.parse::<u32>().expect("a number"));
    let is_new = (numbers.next(), numbers.next()) >= (Some(3), Some(11));
    if !is_new {
        let parts = ["needs RabbitMQ 3.11", &version, "events.partitions = 1", "update RabbitMQ"];
        fails(&log_of(world, 3), false, &parts).await;
    }
    is_new
}

/// Reads all partitions from their beginnings, as soon as they have so many messages.
async fn read_all(world: &World, partitions: usize, count: usize) -> Vec<Vec<Read>> {
    let reading = async {
        loop {
            let mut all = Vec::new();
            for place in 0..partitions {
                all.push(read_stream(world, &format!("{}-{place}", world.stream), 0).await);
            }
            if self::count(&all) >= count {
                return all;
            }
        }
    };
    timeout(SOON, reading).await.expect("the messages come")
}

/// Returns the numbers of the events of each partition.
async fn numbers_of(world: &World, count: usize) -> Vec<Vec<u64>> {
    let all = read_all(world, 3, count).await;
    all.iter().map(|partition| partition.iter().map(Read::number).collect()).collect()
}

async fn generations(daemon: &mut Daemon, count: f64) {
    let counted = async || daemon.metric("settled_stream_generations_total", &[]).await == count;
    within(SOON, "a generation begins", counted).await;
}

#[tokio::test]
async fn a_broker_that_is_too_old_is_told_by_the_daemon_and_the_check_and_one_that_is_not_has_them() {
    let world = World::new(&THREE).await;
    let is_new = has_super_streams(&world).await;
    let mut daemon = world.starting_daemon();
    if is_new {
        daemon.ready().await;
        world.open_world_and_alice().await;
        assert_eq!(count(&read_all(&world, 3, 2).await), 2);
        assert_eq!(praises(&world).await, ("exists, with 3 partitions".to_owned(), Vec::new()));
        assert!(!daemon.log().contains("WARN"), "{}", daemon.log());
    } else {
        eventually("it answers", async || daemon.try_get("/livez").await.is_some()).await;
        eventually("it says what to do", async || {
            daemon.readiness().await.1.to_string().contains("needs RabbitMQ 3.11: this is 3.")
        })
        .await;
        let remedy = complains(&world, &["events.partitions is 3", "needs RabbitMQ 3.11"]).await;
        assert!(remedy.contains("events.partitions = 1"), "{remedy}");
    }
    daemon.stop().await;
}

/// How many messages the partitions have.
fn count(all: &[Vec<Read>]) -> usize {
    all.iter().map(Vec::len).sum()
}

/// The payment of an event, and the event's id.
fn told(event: &Read) -> (String, String) {
    let body: Value = serde_json::from_slice(&event.body).expect("JSON");
    let payment = body.get("payment_id").unwrap_or(&body["id"]);
    let id = event.properties.message_id().as_ref().expect("an id").to_string();
    (payment.as_str().expect("a text").to_owned(), id)
}

#[tokio::test]
async fn all_events_of_a_payment_are_in_one_partition_each_once_and_in_order() {
    let world = World::new(&THREE).await;
    if !has_super_streams(&world).await {
        return;
    }
    let daemon = world.daemon().await;
    world.open(["world", "alice", "shop"]).await;
    // RabbitMQ's clients publish with this id as the routing key to the last of three partitions.
    let id = Uuid::parse_str("019a5b1e-7c00-7000-8000-000000000001").expect("an id");
    world.settle(&[transfer("world", "alice", 1_000_000).identified(id)]).await;
    let payments: Vec<Task> = (0..30).map(|_| authorize("alice", "shop", 100)).collect();
    world.publisher().await.publish_all(&payments).await;
    world.become_all("authorized", &payments).await;
    let mut expected: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for payment in &payments {
        expected.entry(payment.id.to_string()).or_default().push(format!("{}/1", payment.id));
    }
    // The last one is declined: more than what is left.
    for (kind, amount) in [("capture", 40), ("refund", 10), ("refund", 10), ("refund", 90)] {
        let tasks: Vec<Task> = payments.iter().map(|payment| follow_up(kind, payment, Some(amount))).collect();
        world.publisher().await.publish_all(&tasks).await;
        world.all_are(if amount == 90 { "rejected" } else { "settled" }, &tasks).await;
        for (task, payment) in tasks.iter().zip(&payments) {
            expected.entry(payment.id.to_string()).or_default().push(format!("{}/1", task.id));
        }
    }
    let all = read_all(&world, 3, 4 + 5 * payments.len()).await;
    assert_eq!(count(&all), 4 + 5 * payments.len());
    let mut found: BTreeMap<String, Vec<(usize, String)>> = BTreeMap::new();
    for (place, partition) in all.iter().enumerate() {
        assert!(!partition.is_empty(), "partition {place} has nothing");
        for (payment, event) in partition.iter().map(told) {
            found.entry(payment).or_default().push((place, event));
        }
    }
    assert_eq!(found[&id.to_string()], [(2, format!("{id}/1"))]);
    for (payment, events) in expected {
        let place = found[&payment][0].0;
        let events: Vec<(usize, String)> = events.into_iter().map(|event| (place, event)).collect();
        assert_eq!(found[&payment], events, "{payment}");
    }
    daemon.stop().await;
}

/// What RabbitMQ knows of the exchange and the bindings of a super stream, without its name.
async fn made(name: &str) -> Vec<String> {
    let mut made = Vec::new();
    for arguments in [
        &["list_exchanges", "--silent", "name", "type", "durable", "auto_delete", "arguments"][..],
        &["list_bindings", "--silent", "source_name", "destination_name", "routing_key", "arguments"],
    ] {
        let listed = ctl(arguments).await;
        made.extend(
            listed.lines().filter(|line| line.starts_with(&format!("{name}\t"))).map(|line| line.replace(name, "s")),
        );
    }
    made.sort();
    made
}

#[tokio::test]
async fn a_super_stream_is_declared_as_rabbitmqs_own_tools_do() {
    let world = World::new(&[]).await;
    if !has_super_streams(&world).await {
        return;
    }
    log_of(&world, 3).open(NAME).await.expect("a session").close().await;
    let own = format!("own.{}", world.name);
    let quoted = |each: &dyn Fn(usize) -> String| (0..3).map(each).collect::<Vec<_>>().join(", ");
    let (partitions, keys) =
        (quoted(&|place| format!("<<\"{own}-{place}\">>")), quoted(&|place| format!("<<\"{place}\">>")));
    let create = format!(
        "rabbit_stream_manager:create_super_stream(<<\"/\">>, <<\"{own}\">>, [{partitions}], #{{}}, [{keys}], <<\"guest\">>)."
    );
    assert!(ctl(&["eval", &create]).await.contains("ok"));
    let made = made(&world.stream).await;
    assert_eq!(made.len(), 4, "{made:?}");
    assert_eq!(made, self::made(&own).await);
}

#[tokio::test]
async fn another_number_of_partitions_is_refused_and_so_is_an_exchange_of_another_kind() {
    let world = World::new(&[]).await;
    if !has_super_streams(&world).await {
        return;
    }
    let undeclared = || BrokerSettings { declare: false, ..broker(&world.amqp_uri) };
    let log = StreamLog::new(undeclared(), partitioned(&world, 3));
    fails(&log, false, &[&world.stream, "broker.declare is false", "rabbitmq-streams add_super_stream"]).await;
    world.configure(&THREE);
    assert_eq!(praises(&world).await.0, "is not whole yet: `settled run` declares its partitions");
    log_of(&world, 3).open(NAME).await.expect("a session").close().await;
    StreamLog::new(undeclared(), partitioned(&world, 3)).open(NAME).await.expect("a session").close().await;
    for partitions in [2, 4] {
        let has = (0..3).map(|place| format!("{}-{place}", world.stream)).collect::<Vec<_>>().join(", ");
        let parts = [&*format!("other partitions than the {partitions} of events.partitions: {has}"), "stream.name"];
        fails(&log_of(&world, partitions), false, &parts).await;
        world.configure(&[STREAM, &format!("events.partitions = {partitions}")]);
        let remedy = complains(&world, &[&has]).await;
        assert!(remedy.contains("stream.name"), "{remedy}");
    }
    let other = World::new(&THREE).await;
    amqp::declare_exchange(&other.channel().await.1, &other.stream).await;
    fails(&log_of(&other, 3), false, &[&other.stream, "is an exchange, and no super stream", "stream.name"]).await;
    complains(&other, &["is an exchange, and no super stream"]).await;
}

#[tokio::test]
async fn each_partition_drops_what_it_has_and_the_highest_id_of_all_is_known_to_the_next_session() {
    let world = World::new(&[]).await;
    if !has_super_streams(&world).await {
        return;
    }
    let mut first = log_of(&world, 3).open(NAME).await.expect("a session");
    assert_eq!((first.last_id().await.expect("an answer"), first.is_renewed()), (0, false));
    append(&mut first, 1..=30).await;
    first.close().await;
    let mut second = log_of(&world, 3).open(NAME).await.expect("a session");
    assert_eq!((second.last_id().await.expect("an answer"), second.is_renewed()), (30, false));
    append(&mut second, 11..=60).await;
    let all = numbers_of(&world, 60).await;
    assert!(all.iter().all(|partition| !partition.is_empty() && partition.is_sorted()), "{all:?}");
    let mut all = all.concat();
    all.sort_unstable();
    assert_eq!(all, (1..=60).collect::<Vec<_>>());
}

/// Opens sessions until one has declared a partition anew: RabbitMQ tells of a deletion before it is done with it.
async fn renewed(log: &StreamLog) -> StreamSession {
    let opened = async {
        loop {
            match log.open(NAME).await {
                Ok(session) if session.is_renewed() => return session,
                _ => tokio::time::sleep(Duration::from_millis(20)).await,
            }
        }
    };
    timeout(SOON, opened).await.expect("a partition is declared anew")
}

#[tokio::test]
async fn a_partition_that_is_deleted_is_declared_again_and_noticed_while_the_others_keep_what_they_have() {
    let world = World::new(&[]).await;
    if !has_super_streams(&world).await {
        return;
    }
    let (log, connection) = (log_of(&world, 3), amqp::connect(&world.amqp_uri).await);
    let mut next = 1;
    for place in [1, 2, 0] {
        let mut session = log.open(NAME).await.expect("a session");
        append(&mut session, next..=next + 29).await;
        next += 30;
        let deleted = format!("{}-{place}", world.stream);
        delete(&connection, &deleted).await;
        let reason = lost(&mut session).await;
        assert!(reason.contains(&format!("`{deleted}`")), "{reason}");
        let mut session = renewed(&log).await;
        let bound = made(&world.stream).await;
        assert_eq!(bound.len(), 4, "an exchange and three bindings: {bound:?}");
        assert!(session.last_id().await.expect("an answer") > 0);
        append(&mut session, next..=next + 29).await;
        next += 30;
        session.close().await;
        assert!(!log.open(NAME).await.expect("a session").is_renewed());
    }
    // Who was not there takes what lacks the last partition for another number of them.
    delete(&connection, &format!("{}-2", world.stream)).await;
    fails(&log_of(&world, 3), false, &["other partitions than the 3", "delete the exchange"]).await;
    log.open(NAME).await.expect("it knows better").close().await;
}

#[tokio::test]
async fn a_partition_counts_as_renewed_if_it_was_deleted_and_not_if_another_daemon_was_first_with_events() {
    let world = World::new(&[]).await;
    if !has_super_streams(&world).await {
        return;
    }
    let user = format!("renewed_{}", world.name);
    ctl(&["add_user", &user, "secret"]).await;
    let uri = world.amqp_uri.replace("guest:guest", &format!("{user}:secret"));
    // It declares what is missing, and fails.
    let (hindered, other) = (StreamLog::new(broker(&uri), partitioned(&world, 3)), log_of(&world, 3));
    let fails = async || {
        ctl(&["set_permissions", &user, ".*", "^$", ".*"]).await;
        fails(&hindered, true, &["lacks the permission write"]).await;
        ctl(&["set_permissions", &user, ".*", ".*", ".*"]).await;
    };
    fails().await;
    let mut session = other.open(NAME).await.expect("a session");
    assert!(!session.is_renewed());
    append(&mut session, 1..=30).await;
    assert!(!hindered.open(NAME).await.expect("a session").is_renewed(), "what it created was new");
    delete(&amqp::connect(&world.amqp_uri).await, &format!("{}-1", world.stream)).await;
    lost(&mut session).await;
    eventually("it is gone", async || {
        !ctl(&["list_queues", "--silent", "name"]).await.contains(&format!("{}-1", world.stream))
    })
    .await;
    fails().await;
    assert!(!other.open(NAME).await.expect("a session").is_renewed(), "who created it tells");
    assert!(hindered.open(NAME).await.expect("a session").is_renewed());
}

#[tokio::test]
async fn a_daemon_tells_of_a_partition_that_was_deleted_and_goes_on() {
    let world = World::new(&THREE).await;
    if !has_super_streams(&world).await {
        return;
    }
    let mut daemon = world.daemon().await;
    world.open(["world", "alice"]).await;
    world.settle(&(0..60).map(|_| transfer("world", "alice", 1)).collect::<Vec<_>>()).await;
    eventually("all is confirmed", async || world.count("stream_outbox").await == 0).await;
    let before = read_all(&world, 3, 62).await;
    delete(&amqp::connect(&world.amqp_uri).await, &format!("{}-1", world.stream)).await;
    generations(&mut daemon, 1.0).await;
    world.settle(&(0..60).map(|_| transfer("world", "alice", 1)).collect::<Vec<_>>()).await;
    let left = before[0].len() + before[2].len() + 60;
    assert_eq!(count(&read_all(&world, 3, left).await), left, "each once, but for what was deleted");
    assert_eq!(daemon.metric("settled_stream_generations_total", &[]).await, 1.0);
    daemon.stop().await;
}

#[tokio::test]
async fn kills_of_two_daemons_leave_every_event_in_its_partition_once_and_in_order() {
    const EACH: u64 = 400;
    let world = World::new(&[&THREE[..], &["events.lease = \"1s\""]].concat()).await;
    if !has_super_streams(&world).await {
        return;
    }
    let mut daemons = [world.daemon().await, world.daemon().await];
    world.open(["world", "alice"]).await;
    let (publisher, before) = (world.publisher().await, world.count("payment").await);
    let mut transfers = 0;
    for kill in 0..6 {
        let tasks: Vec<Task> = (0..EACH).map(|_| transfer("world", "alice", 1)).collect();
        publisher.publish_all(&tasks).await;
        transfers += EACH;
        // In the middle of it, by turns.
        eventually("some are committed", async || world.count("payment").await > before + transfers - EACH / 2).await;
        daemons[kill % 2].kill();
        daemons[kill % 2] = world.daemon().await;
    }
    eventually("all are committed and confirmed", async || {
        world.count("payment").await == before + transfers && world.count("stream_outbox").await == 0
    })
    .await;
    let expected = 2 + usize::try_from(transfers).expect("few");
    let all = read_all(&world, 3, expected).await;
    assert_eq!(count(&all), expected, "each event once");
    for partition in all {
        let mut last = 0;
        for event in &partition {
            let body: Value = serde_json::from_slice(&event.body).expect("JSON");
            let balances = body["balances"].as_array().expect("a list");
            let Some(alice) = balances.iter().find(|balance| balance["account"] == "alice") else { continue };
            let version = alice["version"].as_u64().expect("a number");
            assert!(version > last || last == 0, "{version} is behind {last}");
            last = version;
        }
        assert!(last > 0, "a partition has nothing");
    }
    world.audit().await;
    for daemon in daemons {
        daemon.stop().await;
    }
}

#[tokio::test]
async fn what_the_check_asks_to_be_permitted_for_a_super_stream_is_enough() {
    let mut world = World::new(&[]).await;
    if !has_super_streams(&world).await {
        return;
    }
    let (user, guest) = (format!("parts_{}", world.name), world.amqp_uri.clone());
    ctl(&["add_user", &user, "secret"]).await;
    world.amqp_uri = guest.replace("guest:guest", &format!("{user}:secret"));
    world.configure(&THREE);
    world.amqp_uri = guest;
    let all_but = |name: &str| format!("^(?!{name}$).*");
    let exchange = all_but(&world.stream.replace('.', "\\."));
    let partition = all_but(&format!("{}-1", world.stream.replace('.', "\\.")));
    let of_exchange = format!("what declaring the super stream `{}` needs", world.stream);
    let of_partition = |permission: &str| format!("lacks the permission {permission} for `{}-1`", world.stream);
    for (patterns, lacks) in [
        ([&*exchange, ".*", ".*"], of_exchange.clone()),
        ([".*", ".*", &*exchange], of_exchange),
        ([&*partition, ".*", ".*"], of_partition("configure")),
        ([".*", ".*", &*partition], of_partition("read")),
    ] {
        ctl(&["set_permissions", &user, patterns[0], patterns[1], patterns[2]]).await;
        let remedy = complains(&world, &[&lacks]).await;
        let granted: Vec<&str> = remedy.split('\'').skip(5).step_by(2).take(3).collect();
        ctl(&["set_permissions", &user, granted[0], granted[1], granted[2]]).await;
        let (detail, warnings) = praises(&world).await;
        assert_eq!((&*detail, warnings), ("is not whole yet: `settled run` declares its partitions", Vec::new()));
    }
    let daemon = world.daemon().await;
    world.open(["alice"]).await;
    assert_eq!(count(&read_all(&world, 3, 1).await), 1);
    assert!(!daemon.log().contains("WARN"), "{}", daemon.log());
    daemon.stop().await;
    assert_eq!(praises(&world).await.0, "exists, with 3 partitions");
}
