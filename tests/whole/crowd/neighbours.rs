//! Every odd message, one at a time, in the middle of a batch.

use serde_json::{Value, json};
use settled_testkit::harness::{Publisher, Task, World, transfer};

use super::odd::{self, Ends, Odd};

/// How many tasks stand on either side of it.
const BESIDE: usize = 10;

#[tokio::test]
async fn whatever_a_message_holds_it_has_an_outcome_and_its_neighbours_settle() {
    let (world, mut daemon) = World::with_daemon(&["pipeline.lanes = 1", "pipeline.workers = 1"]).await;
    let events = world.events().await;
    world.open(["world", "alice"]).await;
    let all = odd::all();
    for odd in &all {
        let crowd: Vec<Task> = (0..2 * BESIDE).map(|_| transfer("world", "alice", 1)).collect();
        let (before, after) = crowd.split_at(BESIDE);
        let all_of_them = async |publisher: &Publisher| {
            publisher.publish_all(before).await;
            publisher.raw(&odd.routing_key, &odd.body, odd.properties.clone()).await;
            publisher.publish_all(after).await;
        };
        world.in_one_batch(&mut daemon, 2 * BESIDE as u32 + 1, all_of_them).await;
        world.all_are("settled", &crowd).await;
        check(odd, &world).await;
    }
    let dead = all.iter().filter(|odd| matches!(odd.ends, Ends::Dead(_))).count();
    daemon.counts("settled_dead_letters_total", &[("reason", "malformed")], dead).await;
    assert_eq!(daemon.metric("settled_bisections_total", &[]).await, 0.0, "PostgreSQL has taken all of them");
    assert_eq!(daemon.readiness().await.0, 200);
    daemon.empties_the_outbox().await;
    for odd in all.iter().filter(|odd| !matches!(odd.ends, Ends::Dead(_))) {
        let id = odd.id.to_string();
        events.find(&format!("the event of {}", odd.what), |event| event.correlation_id() == id).await;
    }
    people_can_look(&all, &world).await;
    world.succeeds(&["dead-letters", "replay", "--all"]).await;
    let again = "SELECT 1 FROM dead_letter
                 HAVING count(*) = $1 AND min(attempts) = 2 AND bool_and(resolution IS NULL)";
    world.row("all that was replayed is a dead letter again", again, &[&(dead as i64)]).await;
    world.end(daemon).await;
    assert_eq!(world.messages(&world.dead_letter_queue).await, 0);
}

/// Its outcome is committed already: it was in the batch of its neighbours.
async fn check(odd: &Odd, world: &World) {
    let letter = "SELECT reason, field, attempts, detail <> '' AS is_told FROM dead_letter WHERE body = $1";
    let letters = world.rows(letter, &[&odd.body]).await;
    let payments = world.rows("SELECT state::text, reason FROM payment WHERE id = $1", &[&odd.id]).await;
    let payment = |state: &str, reason: Option<&str>| vec![json!({"state": state, "reason": reason})];
    let expected: (Vec<Value>, Vec<Value>) = match odd.ends {
        Ends::Is(state) => (payment(state, None), vec![]),
        Ends::Rejected(reason) => (payment("rejected", Some(reason)), vec![]),
        Ends::Dead(field) => {
            (vec![], vec![json!({"reason": "malformed", "field": field, "attempts": 1, "is_told": true})])
        }
    };
    assert_eq!((payments, letters), expected, "{}", odd.what);
}

/// Whatever is stored can be shown.
async fn people_can_look(all: &[Odd], world: &World) {
    let lists: [&[&str]; 4] =
        [&["payment", "list"], &["dead-letters", "list"], &["account", "list"], &["account", "history", "alice"]];
    for list in lists {
        for form in [&["--limit", "100000"][..], &["--limit", "100000", "--json"]] {
            world.succeeds(&[list, form].concat()).await;
        }
    }
    for odd in all.iter().filter(|odd| matches!(odd.ends, Ends::Is("scheduled" | "parked"))) {
        world.succeeds(&["payment", "show", &odd.id.to_string()]).await;
    }
}
