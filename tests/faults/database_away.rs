//! PostgreSQL goes away under load.

use std::time::{Duration, Instant};

use settled_testkit::harness::{World, within};
use settled_testkit::servers::StopMode;

use crate::load::Load;
use crate::reckoning::{Archive, reckon};
use crate::{QUICK, breakable, down, seconds, told, turn};

#[tokio::test]
async fn postgres_is_stopped_and_killed_and_the_daemon_resumes_by_itself() {
    let servers = breakable().await;
    let _turn = turn().await;
    let world = World::on(&servers, &QUICK).await;
    let archive = Archive::open(&world).await;
    let mut daemon = world.daemon().await;
    Load::prepare(&world).await;
    let publishing = Load::of(12_000).publish(&world, Duration::from_millis(100));
    for (outage, mode) in [StopMode::Immediate, StopMode::Kill, StopMode::Fast].into_iter().enumerate() {
        within(Duration::from_secs(30), "some are published", async || publishing.confirmed() > (outage + 1) * 2_500)
            .await;
        servers.stop_postgres(mode).await.expect("it stops");
        let reason = down(&mut daemon, "postgres").await;
        assert!(!reason.is_empty());
        assert_eq!(daemon.get("/livez").await.0, 200, "waiting is living");
        servers.start_postgres().await.expect("it starts");
        let back = Instant::now();
        daemon.ready().await;
        println!("PostgreSQL, {mode:?}: ready again {} after it was; it had said: {reason}", seconds(back.elapsed()));
    }
    let load = publishing.done().await;
    let reckoning = reckon(&world, &load, &archive).await;
    println!("PostgreSQL away: {reckoning:?}");
    assert_eq!(told(&daemon, "dependency is down", "postgres"), 3, "once per outage\n{}", daemon.tail());
    assert_eq!(told(&daemon, "dependency is down", "broker_intake"), 0, "{}", daemon.tail());
    daemon.stop().await;
}
