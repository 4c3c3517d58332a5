//! Every odd message, one at a time, in the middle of a batch.

use serde_json::{Value, json};
use settled_testkit::harness::{Daemon, Publisher, Task, World, eventually, open, transfer};
use tokio_postgres::Client;

use super::odd::{self, Ends, Odd};

/// How many tasks stand on either side of it.
const BESIDE: usize = 10;

#[tokio::test]
async fn whatever_a_message_holds_it_has_an_outcome_and_its_neighbours_settle() {
    let world = World::new(&["pipeline.lanes = 1", "pipeline.workers = 1"]).await;
    let events = world.events().await;
    let mut daemon = world.daemon().await;
    let gate = Gate { session: world.sql().await, publisher: world.publisher().await };
    let opened = ["world", "alice", "gate"].map(|name| open(name, "USD", None));
    gate.publisher.publish_all(&opened).await;
    world.all_are("settled", &opened).await;

    let all = odd::all();
    for odd in &all {
        let crowd: Vec<Task> = (0..2 * BESIDE).map(|_| transfer("world", "alice", 1)).collect();
        gate.let_in_together(odd, &crowd, &mut daemon).await;
        world.all_are("settled", &crowd).await;
        check(odd, &world).await;
    }
    let dead = all.iter().filter(|odd| matches!(odd.ends, Ends::Dead(_))).count();
    daemon.counts("settled_dead_letters_total", &[("reason", "malformed")], dead).await;
    assert_eq!(daemon.metric("settled_bisections_total", &[]).await, 0.0, "PostgreSQL has taken all of them");
    assert_eq!(daemon.readiness().await.0, 200);
    let outbox = "SELECT count(*) AS n FROM outbox";
    eventually("all events are out", async || world.rows(outbox, &[]).await[0]["n"] == 0).await;
    for odd in all.iter().filter(|odd| !matches!(odd.ends, Ends::Dead(_))) {
        let id = odd.id.to_string();
        events.find(&format!("the event of {}", odd.what), |event| event.correlation_id() == id).await;
    }
    people_can_look(&all, &world).await;
    let replayed = world.run(&["dead-letters", "replay", "--all"]).await;
    assert_eq!(replayed.code, 0, "{}", replayed.stderr);
    let again = "SELECT 1 FROM dead_letter
                 HAVING count(*) = $1 AND min(attempts) = 2 AND bool_and(resolution IS NULL)";
    let again_dead = i64::try_from(dead).expect("few");
    world.row("all that was replayed is a dead letter again", again, &[&again_dead]).await;
    daemon.stop().await;
    assert_eq!((world.waiting().await, world.messages(&world.dead_letter_queue).await), (0, 0));
    world.audit().await;
}

/// Holds up a daemon that has one lane.
struct Gate {
    session: Client,
    publisher: Publisher,
}

impl Gate {
    /// Has the daemon take all of them in one batch, the odd one in the middle.
    async fn let_in_together(&self, odd: &Odd, crowd: &[Task], daemon: &mut Daemon) {
        let Self { session, publisher } = self;
        let shut = "BEGIN; SELECT FROM account WHERE name = 'gate' FOR UPDATE";
        session.batch_execute(shut).await.expect("the gate is shut");
        publisher.publish(&transfer("gate", "world", 1)).await;
        eventually("the worker stands at the gate", async || {
            let taken = daemon.metric("settled_tasks_in_flight", &[]).await == 1.0;
            taken && daemon.metric("settled_lane_depth", &[]).await == 0.0
        })
        .await;
        let (before, after) = crowd.split_at(BESIDE);
        publisher.publish_all(before).await;
        publisher.raw(&odd.routing_key, &odd.body, odd.properties.clone()).await;
        publisher.publish_all(after).await;
        eventually("all stand behind it", async || {
            daemon.metric("settled_lane_depth", &[]).await == (crowd.len() + 1) as f64
        })
        .await;
        session.batch_execute("COMMIT").await.expect("the gate is open");
    }
}

/// Its outcome is committed already: it was in the batch of its neighbours.
async fn check(odd: &Odd, world: &World) {
    let letters = world.rows("SELECT reason, field FROM dead_letter WHERE body = $1", &[&odd.body]).await;
    let payments = world.rows("SELECT state::text, reason FROM payment WHERE id = $1", &[&odd.id]).await;
    let payment = |state: &str, reason: Option<&str>| vec![json!({"state": state, "reason": reason})];
    let expected: (Vec<Value>, Vec<Value>) = match odd.ends {
        Ends::Is(state) => (payment(state, None), vec![]),
        Ends::Rejected(reason) => (payment("rejected", Some(reason)), vec![]),
        Ends::Dead(field) => (vec![], vec![json!({"reason": "malformed", "field": field})]),
    };
    assert_eq!((payments, letters), expected, "{}", odd.what);
}

/// Whatever is stored can be shown.
async fn people_can_look(all: &[Odd], world: &World) {
    let lists: [&[&str]; 4] =
        [&["payment", "list"], &["dead-letters", "list"], &["account", "list"], &["account", "history", "alice"]];
    for list in lists {
        for form in [&["--limit", "100000"][..], &["--limit", "100000", "--json"]] {
            let ended = world.run(&[list, form].concat()).await;
            assert_eq!(ended.code, 0, "{list:?}: {}", ended.stderr);
        }
    }
    for odd in all.iter().filter(|odd| matches!(odd.ends, Ends::Is("scheduled" | "parked"))) {
        let shown = world.run(&["payment", "show", &odd.id.to_string()]).await;
        assert_eq!(shown.code, 0, "{}: {shown:?}", odd.what);
    }
}
