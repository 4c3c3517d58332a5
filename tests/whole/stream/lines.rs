//! Lines to the broker that are cut at the worst moments, or carry nothing any more.

use settled_testkit::harness::World;
use settled_testkit::proxy::{CutPoint, CuttingProxy, Protocol};

use super::*;

/// A log whose connections go through a proxy.
async fn through_a_proxy(world: &World) -> (CuttingProxy, StreamLog) {
    let target = ([127, 0, 0, 1], world.stream_port).into();
    let proxy = CuttingProxy::start(Protocol::Stream, target).await.expect("a proxy");
    let broker = BrokerSettings { heartbeat: Duration::from_secs(1), ..broker(&world.amqp_uri) };
    let log = StreamLog::new(broker, &StreamSettings { port: proxy.local_addr().port(), ..settings(world) });
    (proxy, log)
}

#[tokio::test]
async fn an_append_whose_confirm_is_lost_is_known_to_the_next_session_and_is_not_there_twice() {
    let world = World::new(&[]).await;
    let (proxy, log) = through_a_proxy(&world).await;
    let mut next = 1;
    for (point, is_confirmed) in [(CutPoint::BeforeStreamConfirm, false), (CutPoint::AfterStreamConfirm, true)] {
        let mut session = log.open(NAME).await.expect("a session");
        proxy.arm(point);
        let lines = lines(next..=next + 4, 10);
        let events = events(&lines);
        session.append(next, &events).await.expect("appended");
        let mut ids = Vec::new();
        let reason = loop {
            match timeout(SOON, session.confirmed(&mut ids)).await.expect("the connection is cut") {
                Ok(()) => {}
                Err(SessionLost(reason)) => break reason,
            }
        };
        assert_eq!((ids.is_empty(), proxy.armed(point)), (!is_confirmed, 0), "{reason}");
        let mut session = log.open(NAME).await.expect("a session");
        // What is on its way to the log when the connection is cut arrives.
        session.append(next, &events).await.expect("appended");
        assert_eq!(confirms(&mut session, 5).await.expect("confirmed"), (next..=next + 4).collect::<Vec<_>>());
        assert_eq!(session.last_id().await.expect("an answer"), next + 4);
        next += 5;
    }
    assert_eq!(numbers(&world, 10).await, (1..=10).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_line_that_carries_nothing_is_noticed_by_the_heartbeat() {
    let world = World::new(&[]).await;
    let (proxy, log) = through_a_proxy(&world).await;
    let mut session = log.open(NAME).await.expect("a session");
    append(&mut session, 1..=1).await;
    // Nothing is said for several heartbeats but heartbeats.
    let quiet = timeout(Duration::from_secs(4), lost(&mut session)).await;
    assert!(quiet.is_err(), "{quiet:?}");
    proxy.half_open(true);
    let reason = lost(&mut session).await;
    assert!(reason.contains("not been heard of for 2s"), "{reason}");
}
