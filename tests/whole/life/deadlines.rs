//! What ends by the clock: holds, and waiting.

use jiff::Timestamp;
use settled_testkit::harness::{authorize, follow_up, transfer};
use settled_testkit::replay::Settings;

use super::{balance, declined, done, with_accounts};

#[tokio::test]
async fn a_hold_runs_out_within_two_seconds_of_its_time_also_after_a_restart() {
    let (world, daemon) = with_accounts(&[], &[("alice", 100), ("shop", 0)]).await;
    let events = world.events().await;
    let hold = authorize("alice", "shop", 60).with("expires_in", 2);
    let part = authorize("alice", "shop", 40).with("expires_in", 2);
    done(&world, "authorized", &hold).await;
    done(&world, "authorized", &part).await;
    done(&world, "settled", &follow_up("capture", &part, Some(5)).with("final", false)).await;
    daemon.stop().await;
    let mut daemons = [world.daemon().await, world.daemon().await];
    world.becomes("expired", &hold).await;
    world.becomes("settled", &part).await;
    assert_eq!(balance(&world, "alice").await, (95, 0));
    let late = "SELECT to_state::text AS state, extract(epoch FROM t.at - p.expires_at)::float8 AS late
                  FROM transition t JOIN payment p ON p.id = t.payment_id WHERE t.cause IS NULL";
    for row in world.rows(late, &[]).await {
        let late = row["late"].as_f64().expect("seconds");
        assert!((0.0..2.0).contains(&late), "{row}");
    }
    declined(&world, "payment_expired", &follow_up("capture", &hold, None)).await;
    for task in [&hold, &part] {
        let row = world.outcome(task).await;
        let id = format!("{}/{}", task.id, row["version"]);
        let event = events.find(&id, |event| event.message_id() == id).await;
        assert_eq!((event.routing_key.as_str(), &event.body["state"]), ("payment.expired", &row["state"]));
    }
    let mut expired = 0.0;
    for daemon in &mut daemons {
        expired += daemon.metric("settled_holds_expired_total", &[]).await;
    }
    assert_eq!(expired, 2.0, "each hold ran out once, whoever did it");
    super::reckon(&world).await;
}

#[tokio::test]
async fn what_waits_in_vain_is_rejected_at_its_deadline() {
    let (world, _daemon) = with_accounts(&["payments.parking = \"1s\""], &[("alice", 100), ("shop", 0)]).await;
    let nobody = transfer("alice", "shop", 1);
    let orphan = follow_up("refund", &nobody, None);
    let behind = transfer("alice", "shop", 1).with("after", nobody.id.to_string());
    let hold = authorize("alice", "shop", 10);
    let early = follow_up("refund", &hold, None);
    let began = Timestamp::now();
    done(&world, "authorized", &hold).await;
    for (task, reason) in [(&orphan, "payment_not_found"), (&behind, "dependency_not_found"), (&early, "not_captured")]
    {
        done(&world, "parked", task).await;
        assert_eq!(world.becomes("rejected", task).await["reason"], reason);
    }
    assert!(Timestamp::now().duration_since(began).as_secs() >= 1);
    // Two that wait for each other end too.
    let (one, other) = (transfer("alice", "shop", 1), transfer("alice", "shop", 1));
    let one = one.with("after", other.id.to_string());
    let other = other.with("after", one.id.to_string());
    let publisher = world.publisher().await;
    publisher.publish_all([&one, &other]).await;
    world.become_all("rejected", &[one, other]).await;
    world.nothing_waits().await;
    let parking = jiff::SignedDuration::from_secs(1);
    super::reckon_by(&world, Settings { parking, ..Settings::default() }).await;
}

#[tokio::test]
async fn a_hold_for_longer_than_the_operator_allows_is_rejected() {
    let (world, _daemon) =
        with_accounts(&["payments.hold = \"1h\"", "payments.longest_hold = \"2h\""], &[("alice", 100), ("shop", 0)])
            .await;
    declined(&world, "expiry_out_of_range", &authorize("alice", "shop", 1).with("expires_in", 7201)).await;
    let hold = authorize("alice", "shop", 1);
    done(&world, "authorized", &hold).await;
    let lasts = "SELECT extract(epoch FROM expires_at - settled_at)::bigint AS s FROM payment WHERE id = $1";
    assert_eq!(world.rows(lasts, &[&hold.id]).await[0]["s"], 3600);
    let (hold, longest_hold) = (jiff::SignedDuration::from_hours(1), jiff::SignedDuration::from_hours(2));
    super::reckon_by(&world, Settings { hold, longest_hold, ..Settings::default() }).await;
}
