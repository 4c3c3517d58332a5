//! What breaks while a session is open.

use settled_testkit::harness::{World, own_servers};

use super::*;

#[tokio::test]
async fn a_stream_that_is_deleted_ends_the_session_which_says_so() {
    let world = World::new(&[]).await;
    let mut session = session(&world).await;
    append(&mut session, 1..=2).await;
    delete(&amqp::connect(&world.amqp_uri).await, &world.stream).await;
    let reason = lost(&mut session).await;
    assert!(reason.contains(&world.stream) && reason.contains("was deleted"), "{reason}");
    let lines = lines(3..=3, 10);
    assert_eq!(session.append(3, &events(&lines)).await.unwrap_err().to_string(), reason);
    assert_eq!(session.last_id().await.unwrap_err().to_string(), reason);
    // The next session declares another one.
    let mut session = super::session(&world).await;
    assert_eq!(session.last_id().await.expect("an answer"), 0);
    append(&mut session, 1..=1).await;
}

#[tokio::test]
async fn what_was_confirmed_is_there_after_the_broker_was_killed() {
    const MANY: u64 = 400;
    let servers = own_servers().await;
    let world = World::on(&servers, &[]).await;
    let mut session = session(&world).await;
    append(&mut session, 1..=1).await;
    // What RabbitMQ knows of its first stream is written within a second. A crash before would leave it without a leader.
    servers.rabbitmqctl(&["eval", "[dets:sync(Table) || Table <- dets:all()]."]).await.expect("written");
    let lines = lines(2..=MANY, 100);
    session.append(2, &events(&lines)).await.expect("appended");
    let mut ids = vec![1];
    while ids.len() < 50 {
        session.confirmed(&mut ids).await.expect("confirmed");
    }
    servers.kill_rabbitmq().await.expect("killed");
    while session.confirmed(&mut ids).await.is_ok() {}
    let refused = log(&world).open(NAME).await.err().expect("nobody listens");
    assert!(refused.reason.contains("nobody listens") && !refused.refused, "{refused:?}");
    servers.start_rabbitmq().await.expect("started");
    let mut session = reopened(&world).await;
    let last = session.last_id().await.expect("an answer");
    let confirmed = ids.into_iter().max().expect("some");
    assert!(last >= confirmed, "{last} is known, and {confirmed} was confirmed");
    let rest = super::lines(last + 1..=MANY + 1, 100);
    session.append(last + 1, &events(&rest)).await.expect("appended");
    confirms(&mut session, usize::try_from(MANY + 1 - last).expect("few")).await.expect("confirmed");
    assert_eq!(numbers(&world, 401).await, (1..=MANY + 1).collect::<Vec<_>>());
    servers.shutdown().await.expect("nothing is left");
}

/// Opens a session as soon as the stream has a leader, which takes a minute at worst. Until then it says so.
async fn reopened(world: &World) -> StreamSession {
    let (log, mut last) = (log(world), None);
    let opened = async {
        loop {
            match log.open(NAME).await {
                Ok(session) => return session,
                Err(outage) => last = Some(outage),
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    let opened = timeout(SOON * 2, opened).await;
    opened.unwrap_or_else(|_| panic!("the stream has no leader: {last:?}"))
}

#[tokio::test]
async fn while_its_disk_is_full_the_broker_confirms_nothing_and_the_session_waits() {
    let servers = own_servers().await;
    let world = World::on(&servers, &[]).await;
    let settings = BrokerSettings {
        heartbeat: Duration::from_secs(1),
        connect_timeout: Duration::from_secs(1),
        ..broker(&world.amqp_uri)
    };
    let log = StreamLog::new(settings, &super::settings(&world));
    let mut session = log.open(NAME).await.expect("a session");
    append(&mut session, 1..=1).await;
    servers.rabbitmqctl(&["set_disk_free_limit", "1000000GB"]).await.expect("it obeys");
    let alarm = "rabbit_alarm:get_alarms().";
    settled_testkit::harness::eventually("the alarm is on", async || {
        servers.rabbitmqctl(&["eval", alarm]).await.is_ok_and(|alarms| alarms.contains("disk"))
    })
    .await;
    let lines = lines(2..=3, 10);
    let events = events(&lines);
    // The first one may still be read: the broker asks for more before it looks at the alarm.
    session.append(2, &events[..1]).await.expect("handed over");
    session.append(3, &events[1..]).await.expect("handed over");
    // Several heartbeats long.
    let mut ids = Vec::new();
    let waited = async {
        while ids.len() < 2 {
            session.confirmed(&mut ids).await.expect("the connection is alive");
        }
    };
    assert!(timeout(Duration::from_secs(5), waited).await.is_err(), "the broker has read all of it");
    let outage = log.open("another").await.err().expect("no publisher");
    assert!(outage.reason.contains("disk alarm") && !outage.refused, "{outage:?}");
    servers.rabbitmqctl(&["set_disk_free_limit", "50MB"]).await.expect("it obeys");
    while ids.len() < 2 {
        timeout(SOON, session.confirmed(&mut ids)).await.expect("soon").expect("the connection was kept");
    }
    assert_eq!(ids, [2, 3]);
    assert_eq!(numbers(&world, 3).await, [1, 2, 3]);
    servers.shutdown().await.expect("nothing is left");
}

#[tokio::test]
async fn any_node_passes_on_what_is_for_the_leader() {
    let servers = own_servers().await;
    let node = servers.join_node(2).await.expect("a node");
    let world = World::on(&servers, &[]).await;
    let nodes = [(world.amqp_uri.clone(), world.stream_port), (node.uri(), node.stream_port())];
    // One of them is not the leader's.
    let mut next = 1;
    for (uri, port) in nodes {
        let log = StreamLog::new(broker(&uri), &StreamSettings { port, ..settings(&world) });
        let mut session = log.open(NAME).await.expect("a session");
        assert_eq!(session.last_id().await.expect("an answer"), next - 1);
        append(&mut session, next..=next + 9).await;
        next += 10;
    }
    assert_eq!(numbers(&world, 20).await, (1..=20).collect::<Vec<_>>());
    drop(node);
    servers.shutdown().await.expect("nothing is left");
}
