//! A ledger that was restored from a backup: what happens from then on is another ledger's.

use serde_json::{Value, json};
use settled_testkit::harness::{Received, World, assert_has, eventually, transfer};
use uuid::Uuid;

/// Runs a program of PostgreSQL's on the world's database.
async fn postgres(program: &str, arguments: &[&str], world: &World) {
    let mut command = tokio::process::Command::new(program);
    let output = command.args(arguments).arg("--dbname").arg(&world.postgres_url).output().await;
    let output = output.unwrap_or_else(|error| panic!("{program}: {error}"));
    assert!(output.status.success(), "{program}: {}", String::from_utf8_lossy(&output.stderr));
}

async fn ledger(world: &World, arguments: &[&str]) -> Value {
    world.prints(&[&["ledger"], arguments].concat()).await
}

fn incarnation(ledger: &Value) -> String {
    ledger["incarnation"].as_str().expect("an incarnation").to_owned()
}

#[tokio::test]
async fn after_a_restore_an_event_with_the_same_id_and_other_content_has_another_source() {
    let (world, mut daemon, publisher) = World::at_work(&["events.source = \"https://example.com/eu\""]).await;
    let events = world.events().await;
    world.open_world_and_alice().await;
    let nothing_is_left = async || eventually("all is out", async || world.count("outbox").await == 0).await;
    nothing_is_left().await;
    let directory = tempfile::tempdir().expect("a directory");
    let dump = directory.path().join("dump");
    let dump = dump.to_str().expect("UTF-8");
    postgres("pg_dump", &["--format=custom", "--file", dump], &world).await;

    let lost = transfer("world", "alice", 5);
    publisher.publish(&lost).await;
    let before = events.of(&lost).await;
    nothing_is_left().await;

    // Under the daemon, which goes on.
    postgres("pg_restore", &["--clean", "--if-exists", "--single-transaction", dump], &world).await;
    assert_eq!(world.count(&format!("payment WHERE id = '{}'", lost.id)).await, 0, "it is lost");
    let other = transfer("world", "alice", 1);
    publisher.publish(&other).await;
    world.becomes("settled", &other).await;
    let first = incarnation(&ledger(&world, &["show"]).await);
    let source = format!("https://example.com/eu/{first}");
    assert_eq!(events.of(&other).await.header("cloudEvents:source"), Some(source), "nothing else has happened");

    let renewed = ledger(&world, &["renew", "--instead-of", &first]).await;
    let second = incarnation(&renewed);
    assert_has(&renewed, json!({"renewed": true, "previous": first}));
    assert_ne!(first, second);
    let again = ledger(&world, &["renew", "--instead-of", &first]).await;
    assert_eq!((incarnation(&again), &again["renewed"]), (second.clone(), &json!(false)), "once is enough");
    let wrong = world.run(&["ledger", "renew", "--instead-of", &Uuid::now_v7().to_string()]).await;
    assert!(wrong.code == 1 && wrong.stderr.contains(&second), "{wrong:?}");

    publisher.publish(&transfer("world", "alice", 9).identified(lost.id)).await;
    let is_told_again = |event: &Received| event.correlation_id() == lost.id.to_string() && event.body["amount"] == 9;
    let after = events.find("it is told again", is_told_again).await;
    assert_eq!(after.message_id(), before.message_id());
    let source = |event: &Received| event.header("cloudEvents:source").expect("a source");
    assert_eq!(source(&before), format!("https://example.com/eu/{first}"));
    assert_eq!(source(&after), format!("https://example.com/eu/{second}"));
    daemon.ready().await;
    world.audit().await;
    daemon.stop().await;
}
