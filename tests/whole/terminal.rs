//! What others have written reaches no terminal as a command, and forges no line.

use lapin::BasicProperties;
use serde_json::{Value, json};
use settled_testkit::harness::{Ended, Publisher, World, authorize, follow_up, transfer};

/// Clears the screen, and draws a state that there never was.
const FORGED: &str = "\u{1b}[2J\r\n2026-01-01 ● settled\u{202e}\u{9b}2J";

/// Whether a text is only what the program has to say.
#[track_caller]
fn is_plain(ended: &Ended) {
    for text in [&ended.stdout, &ended.stderr] {
        let obeyed = text.chars().find(|c| *c != '\n' && (c.is_control() || *c == '\u{202e}'));
        assert_eq!(obeyed, None, "{text:?}");
        assert!(!text.lines().any(|line| line.starts_with("2026-01-01")), "{text}");
    }
}

#[tokio::test]
async fn what_publishers_write_is_shown_and_not_obeyed() {
    let (world, daemon, publisher) = World::at_work(&[]).await;
    world.open_world_and_alice().await;
    let forge =
        |task: settled_testkit::harness::Task| task.with("reference", FORGED).with("metadata", json!({FORGED: FORGED}));
    let (sale, held) = (forge(transfer("world", "alice", 100)), forge(authorize("alice", "world", 10)));
    let refund = forge(follow_up("refund", &sale, Some(1)));
    for task in [&sale, &held, &refund] {
        let properties = Publisher::properties(task).with_app_id(FORGED.into());
        publisher.publish_with(task, properties).await;
    }
    world.becomes("settled", &refund).await;
    world.becomes("authorized", &held).await;
    let malformed = [
        forge(transfer("world", "alice", 1)).with(FORGED, 1).body(),
        format!("{{\"id\":\n\"2026\"\n}}\n{FORGED}\n2026-01-01 ● settled"),
    ];
    for body in &malformed {
        publisher.raw("task.transfer", body.as_bytes(), BasicProperties::default().with_app_id(FORGED.into())).await;
        world.dead_letter(body.as_bytes()).await;
    }

    let (sale_id, held_id) = (sale.id.to_string(), held.id.to_string());
    let commands: [&[&str]; 9] = [
        &["payment", "show", &sale_id],
        &["payment", "show", &held_id],
        &["payment", "list"],
        &["account", "show", "alice"],
        &["account", "list"],
        &["account", "history", "alice"],
        &["dead-letters", "list"],
        &["dead-letters", "show", "1"],
        &["dead-letters", "show", "2"],
    ];
    for command in commands {
        let ended = world.run(command).await;
        assert_eq!(ended.code, 0, "{ended:?}");
        is_plain(&ended);
        assert!(ended.stdout.contains("\\u{1b}[2J") || command[1] == "list" && command[0] == "account", "{ended:?}");
    }
    let shown = world.run(&["dead-letters", "show", "2"]).await.stdout;
    assert!(shown.contains("\nbody:\n│ {\"id\":\n│ \"2026\"\n│ }\n│ \\u{1b}[2J\\r\n│ 2026-01-01 ● settled"), "{shown}");

    // For a machine everything is what it was.
    let shown = world.run(&["payment", "show", &sale_id, "--json"]).await.json();
    assert_eq!((&shown["reference"], &shown["metadata"][FORGED]), (&json!(FORGED), &json!(FORGED)));
    let listed = world.run(&["payment", "list", "--json"]).await.json();
    assert!(listed.as_array().expect("a list").iter().any(|payment| payment["reference"] == FORGED), "{listed}");
    let letter: Value = world.run(&["dead-letters", "show", "2", "--json"]).await.json();
    assert_eq!(letter["body"], json!(malformed[1]));

    // Errors quote what they were given.
    let file = std::env::temp_dir().join(format!("settled-{}.json", sale.id));
    std::fs::write(&file, sale.clone().with("metadata", json!({})).with(FORGED, 1).body()).expect("written");
    let refused = world.run(&["publish", file.to_str().expect("a path")]).await;
    std::fs::remove_file(&file).expect("removed");
    assert_eq!(refused.code, 1, "{refused:?}");
    is_plain(&refused);

    world.end(daemon).await;
}
