//! What PostgreSQL refuses, which takes an operator who has added something to the schema: found among a thousand, and
//! only it is set apart.

use serde_json::{Value, json};
use settled_testkit::harness::{Publisher, Task, World, eventually, open, transfer};

/// How many of a batch are refused, and where they stand.
const PLACES: [usize; 3] = [0, 123, 500];

/// A constraint that is stricter than the ledger.
const REFUSE: &str = "ALTER TABLE payment DROP CONSTRAINT payment_amount,
    ADD CONSTRAINT payment_amount CHECK (reference IS DISTINCT FROM 'poison')";

/// What is added to the schema, how it is taken back, the task that it refuses, and PostgreSQL's word for that.
struct Refusal {
    added: &'static str,
    taken_back: &'static str,
    poison: Task,
    detail: &'static str,
}

fn refusals() -> [Refusal; 5] {
    let pay = || transfer("world", "alice", 1);
    // What compression can't make short enough for an index.
    let mut random =
        std::iter::successors(Some(1_u64), |n| Some(n.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1)));
    let mut long = || random.by_ref().take(31).map(|n| format!("{n:016x}")).collect::<String>();
    let metadata: Value = (0..30).map(|n| (n.to_string(), json!(long()))).collect();
    [
        Refusal {
            added: "CREATE INDEX by_metadata ON payment (metadata)",
            taken_back: "DROP INDEX by_metadata",
            poison: pay().with("metadata", metadata),
            detail: "54000",
        },
        Refusal {
            added: "CREATE INDEX by_order ON payment (((metadata ->> 'order')::bigint))",
            taken_back: "DROP INDEX by_order",
            poison: pay().with("metadata", json!({"order": "seven"})),
            detail: "22P02",
        },
        Refusal {
            added: "CREATE INDEX by_order ON payment (((metadata ->> 'order')::smallint))",
            taken_back: "DROP INDEX by_order",
            poison: pay().with("metadata", json!({"order": "70000"})),
            detail: "22003",
        },
        Refusal {
            added: "ALTER TABLE payment ADD CONSTRAINT latin CHECK (convert_to(reference, 'LATIN1') <> '')",
            taken_back: "ALTER TABLE payment DROP CONSTRAINT latin",
            poison: pay().with("reference", "€"),
            detail: "22P05",
        },
        Refusal {
            added: REFUSE,
            taken_back: "ALTER TABLE payment DROP CONSTRAINT payment_amount,
                             ADD CONSTRAINT payment_amount CHECK (amount IS NULL OR amount > 0)",
            poison: pay().with("reference", "poison"),
            detail: "payment_amount",
        },
    ]
}

#[tokio::test]
async fn of_a_thousand_those_that_postgresql_refuses_are_dead_letters_and_the_others_settle_in_order() {
    let settings = ["pipeline.lanes = 1", "pipeline.workers = 1", "pipeline.max_batch = 1000"];
    for Refusal { added, taken_back, poison, detail } in refusals() {
        let (world, mut daemon) = World::with_daemon(&settings).await;
        world.open_world_and_alice().await;
        world.sql().await.batch_execute(added).await.expect("added");

        let pay = |number| transfer("world", "alice", 1).with("reference", format!("{number:03}"));
        let good: Vec<Task> = (0..996).map(pay).collect();
        let spend = transfer("alice", "world", 996);
        let poisons = PLACES.map(|_| poison.clone().identified(uuid::Uuid::now_v7()));
        let mut batch: Vec<&Task> = good.iter().chain([&spend]).collect();
        PLACES.iter().zip(&poisons).for_each(|(place, poison)| batch.insert(*place, poison));
        world.in_one_batch(&mut daemon, 1000, async |publisher: &Publisher| publisher.publish_all(batch).await).await;
        world.all_are("settled", &good).await;
        world.all_are("settled", &[spend]).await;
        for poison in &poisons {
            let columns = json!({"reason": "unprocessable", "task_id": poison.id, "attempts": 1});
            let letter = world.is_dead_letter(poison, columns).await;
            assert!(letter["detail"].as_str().is_some_and(|text| text.contains(detail)), "{letter}");
        }
        assert_eq!(world.count("dead_letter").await, poisons.len() as u64, "{added}");
        daemon.counts("settled_dead_letters_total", &[("reason", "unprocessable")], poisons.len()).await;
        assert!(daemon.metric("settled_bisections_total", &[]).await > 0.0);
        let order = "SELECT bool_and(reference = lpad((seq - 1)::text, 3, '0')) AS kept
                       FROM entry JOIN payment ON payment.id = payment_id JOIN account ON account.id = account
                      WHERE name = 'world' AND reference IS NOT NULL";
        assert_eq!(world.rows(order, &[]).await[0]["kept"], true);
        eventually("it is ready", async || daemon.readiness().await.0 == 200).await;

        // Once the reason is gone the same task can settle.
        world.sql().await.batch_execute(taken_back).await.expect("taken back");
        world.settle(&poisons[..1]).await;
        world.end(daemon).await;
    }
}

#[tokio::test]
async fn who_waits_for_a_payment_that_turns_out_to_be_poison_is_declined_and_not_forgotten() {
    let (world, daemon, publisher) = World::at_work(&[]).await;
    let mut opened = vec![open("bank", "USD", None)];
    opened.extend((0..40).map(|number| open(&format!("account:{number}"), "USD", Some(0))));
    world.settle(&opened).await;
    world.sql().await.batch_execute(REFUSE).await.expect("a constraint");
    let (mut spends, mut all) = (Vec::new(), Vec::new());
    for number in 0..40 {
        let account = format!("account:{number}");
        let spend = transfer(&account, "bank", 1);
        all.extend([transfer("bank", &account, 1).with("reference", "poison"), spend.clone()]);
        spends.push(spend);
    }
    publisher.publish_all(&all).await;
    world.all_are("rejected", &spends).await;
    let letters = "SELECT 1 FROM dead_letter WHERE reason = 'unprocessable' HAVING count(*) = 40";
    world.row("40 dead letters", letters, &[]).await;
    world.end(daemon).await;
}
