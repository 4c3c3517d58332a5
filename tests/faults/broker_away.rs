//! RabbitMQ goes away under load.

use std::time::{Duration, Instant};

use settled_testkit::harness::{World, within};

use crate::load::Load;
use crate::reckoning::{Archive, reckon};
use crate::{QUICK, breakable, down, seconds, told, turn};

#[tokio::test]
async fn rabbitmq_is_stopped_and_killed_and_the_daemon_resumes_by_itself() {
    let servers = breakable().await;
    let _turn = turn().await;
    let world = World::on(&servers, &QUICK).await;
    let archive = Archive::open(&world).await;
    let mut daemon = world.daemon().await;
    Load::prepare(&world).await;
    let publishing = Load::of(10_000).publish(&world, Duration::from_millis(100));
    for (outage, graceful) in [true, false].into_iter().enumerate() {
        within(Duration::from_secs(60), "some are published", async || publishing.confirmed() > (outage + 1) * 2_500)
            .await;
        if graceful {
            servers.stop_rabbitmq().await.expect("it stops");
        } else {
            servers.kill_rabbitmq().await.expect("it ends");
        }
        let reason = down(&mut daemon, "broker_intake").await;
        down(&mut daemon, "broker_relay").await;
        assert_eq!(daemon.get("/livez").await.0, 200, "waiting is living");
        servers.start_rabbitmq().await.expect("it starts");
        let back = Instant::now();
        daemon.ready().await;
        println!(
            "RabbitMQ, graceful {graceful}: ready again {} after it was; it had said: {reason}",
            seconds(back.elapsed())
        );
    }
    let load = publishing.done().await;
    let reckoning = reckon(&world, &load, &archive).await;
    println!("RabbitMQ away: {reckoning:?}");
    for dependency in ["broker_intake", "broker_relay"] {
        assert_eq!(told(&daemon, "dependency is down", dependency), 2, "once per outage\n{}", daemon.tail());
    }
    assert_eq!(told(&daemon, "dependency is down", "postgres"), 0, "{}", daemon.tail());
    daemon.stop().await;
}
