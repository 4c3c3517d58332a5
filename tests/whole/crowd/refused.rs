//! What PostgreSQL refuses, which takes an operator who has added something to the schema: found
//! among a thousand, and only it is set apart.

use serde_json::{Value, json};
use settled_testkit::harness::{Publisher, Task, World, eventually, open, transfer};

/// What was added, the task that it can't be added to, and PostgreSQL's code for that.
struct Refusal {
    added: &'static str,
    poison: Task,
    sqlstate: &'static str,
}

fn refusals() -> [Refusal; 4] {
    let pay = || transfer("world", "alice", 1);
    // What compression can't make short enough for an index.
    let mut random =
        std::iter::successors(Some(1_u64), |n| Some(n.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1)));
    let mut long = || random.by_ref().take(31).map(|n| format!("{n:016x}")).collect::<String>();
    let metadata: Value = (0..30).map(|n| (n.to_string(), json!(long()))).collect();
    [
        Refusal {
            added: "CREATE INDEX by_metadata ON payment (metadata)",
            poison: pay().with("metadata", metadata),
            sqlstate: "54000",
        },
        Refusal {
            added: "CREATE INDEX by_order ON payment (((metadata ->> 'order')::bigint))",
            poison: pay().with("metadata", json!({"order": "seven"})),
            sqlstate: "22P02",
        },
        Refusal {
            added: "CREATE INDEX by_order ON payment (((metadata ->> 'order')::smallint))",
            poison: pay().with("metadata", json!({"order": "70000"})),
            sqlstate: "22003",
        },
        Refusal {
            added: "ALTER TABLE payment ADD CONSTRAINT latin CHECK (convert_to(reference, 'LATIN1') <> '')",
            poison: pay().with("reference", "€"),
            sqlstate: "22P05",
        },
    ]
}

#[tokio::test]
async fn of_a_thousand_the_one_that_postgresql_refuses_is_a_dead_letter_and_999_settle() {
    let settings = ["pipeline.lanes = 1", "pipeline.workers = 1", "pipeline.max_batch = 1000"];
    for (place, Refusal { added, poison, sqlstate }) in refusals().into_iter().enumerate() {
        let world = World::new(&settings).await;
        let mut daemon = world.daemon().await;
        let opened = [open("world", "USD", None), open("alice", "USD", Some(0))];
        world.publisher().await.publish_all(&opened).await;
        world.all_are("settled", &opened).await;
        world.sql().await.batch_execute(added).await.expect("added");

        let neighbours: Vec<Task> = (0..999).map(|_| transfer("world", "alice", 1)).collect();
        let mut batch: Vec<&Task> = neighbours.iter().collect();
        batch.insert([0, 999, 500, 123][place], &poison);
        world.in_one_batch(&mut daemon, 1000, async |publisher: &Publisher| publisher.publish_all(batch).await).await;
        world.all_are("settled", &neighbours).await;
        let letter = world.dead_letter(poison.body().as_bytes()).await;
        assert_eq!((&letter["reason"], &letter["task_id"]), (&json!("unprocessable"), &json!(poison.id)));
        assert!(letter["detail"].as_str().expect("a text").contains(sqlstate), "{letter}");
        assert_eq!(letter["attempts"], 1);
        let letters = world.rows("SELECT count(*) AS n FROM dead_letter", &[]).await;
        assert_eq!(letters[0]["n"], 1, "{added}");
        assert_eq!(world.account("alice").await["posted"], neighbours.len());
        assert!(daemon.metric("settled_bisections_total", &[]).await > 0.0);
        eventually("it is ready", async || daemon.readiness().await.0 == 200).await;
        daemon.stop().await;
        assert_eq!(world.waiting().await, 0);
        world.audit().await;
    }
}
