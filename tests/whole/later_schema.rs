//! A database whose schema is not the one that this version was built for: later, incomplete, or changed.

use serde_json::json;
use settled_testkit::harness::{World, assert_has, open, transfer};

/// A migration of a later version, as that version's runner records it.
const LATER: &str = "
    ALTER TABLE account ADD COLUMN made_up text;
    INSERT INTO refinery_schema_history VALUES (1000, 'made_up', '2030-01-01T00:00:00Z', '1')";

/// What such a migration says if it takes away something that this version needs.
const SERVES_NO_EARLIER: &str = "INSERT INTO schema_compatibility VALUES (1000, 900, '7.1.0')";

/// Later versions need something else than this migration's table, and this version still has what it needs.
const SERVES_THIS: &str = "INSERT INTO schema_compatibility VALUES (1000, 13, '0.1.0')";

/// A migrated database that a later version has migrated further.
async fn later(overrides: &[&str], statements: &[&str]) -> World {
    let world = World::new(overrides).await;
    world.succeeds(&["migrate"]).await;
    for statement in statements {
        world.sql().await.batch_execute(statement).await.expect("a later migration");
    }
    world
}

#[tokio::test]
async fn a_later_schema_that_still_serves_this_version_is_used_and_shown() {
    for migrate in ["postgres.migrate = true", "postgres.migrate = false"] {
        for statements in [&[LATER][..], &[LATER, SERVES_THIS]] {
            let world = later(&[migrate], statements).await;
            let mut daemon = world.daemon().await;
            world.settle(&[open("world", "USD", None), open("alice", "USD", Some(0))]).await;
            world.settle(&[transfer("world", "alice", 5)]).await;
            daemon.ready().await;
            assert!(daemon.log().contains("V1000__made_up"), "{}", daemon.log());
            assert!(!daemon.log().contains("\"ERROR\""), "{}", daemon.log());
            world.end(daemon).await;

            let found = world.prints(&["migrate", "--dry-run"]).await;
            let expected = json!({"later_compatible": ["V1000__made_up"], "later_incompatible": [], "missing": []});
            assert_has(&found, expected);
            assert!(found["applied"].as_array().is_some_and(|applied| applied.len() >= 9), "{found}");
            let migrated = world.prints(&["migrate"]).await;
            assert_has(&migrated, json!({"applied": [], "later_compatible": ["V1000__made_up"]}));
            assert!(world.succeeds(&["migrate"]).await.contains("V1000__made_up"));
        }
    }
}

#[tokio::test]
async fn a_later_schema_that_serves_only_later_versions_ends_every_start_with_78_and_names_the_version() {
    for migrate in ["postgres.migrate = true", "postgres.migrate = false"] {
        let world = later(&[migrate], &[LATER, SERVES_NO_EARLIER]).await;
        // systemd does not start it again after 78: tests/documentation/operations.rs.
        let mut daemon = world.starting_daemon();
        daemon.exits(78).await;
        for said in ["V1000__made_up", "settled 7.1.0 or later"] {
            assert!(daemon.log().contains(said), "{said}: {}", daemon.log());
        }
        let migrated = world.run(&["migrate"]).await;
        assert_eq!(migrated.code, 78, "{migrated:?}");
        assert!(migrated.stderr.contains("settled 7.1.0 or later"), "{migrated:?}");

        let dry = world.run(&["migrate", "--dry-run", "--json"]).await;
        assert_eq!(dry.code, 78, "{dry:?}");
        assert_has(&dry.json(), json!({"later_compatible": [], "later_incompatible": ["V1000__made_up"]}));
        assert!(dry.json()["problem"].as_str().is_some_and(|problem| problem.contains("7.1.0")), "{dry:?}");
        let shown = world.run(&["migrate", "--dry-run"]).await;
        assert!(shown.stdout.contains("later, incompatible") && shown.stdout.contains("7.1.0"), "{shown:?}");
    }
}

#[tokio::test]
async fn a_schema_that_lacks_a_migration_or_has_a_changed_one_ends_the_start_with_78() {
    const CHANGED: &str = "UPDATE refinery_schema_history SET checksum = '1' WHERE version = 4";
    const UNKNOWN: &str = "INSERT INTO refinery_schema_history VALUES (8, 'odd', '2026-01-01T00:00:00Z', '1')";
    const SKIPPED: &str = "DELETE FROM refinery_schema_history WHERE version = 4";
    for migrate in ["postgres.migrate = true", "postgres.migrate = false"] {
        for (statement, said) in [(CHANGED, "V4__"), (UNKNOWN, "V8__odd"), (SKIPPED, "V4__")] {
            let world = later(&[migrate], &[statement]).await;
            let mut daemon = world.starting_daemon();
            daemon.exits(78).await;
            assert!(daemon.log().contains(said), "{}", daemon.log());
            for arguments in [&["migrate"][..], &["migrate", "--dry-run"]] {
                let ended = world.run(arguments).await;
                assert_eq!(ended.code, 78, "{statement}: {ended:?}");
            }
        }
    }
    let world = World::new(&["postgres.migrate = false"]).await;
    let mut daemon = world.starting_daemon();
    daemon.exits(78).await;
    assert!(daemon.log().contains("settled migrate"), "{}", daemon.log());
}

#[tokio::test]
async fn what_is_missing_and_what_is_applied_is_shown_before_it_is_done() {
    let world = World::new(&[]).await;
    let before = world.prints(&["migrate", "--dry-run"]).await;
    assert_eq!(before["applied"], json!([]));
    let missing = before["missing"].as_array().expect("a list").clone();
    assert_eq!(missing[0], "V1__ledger");
    assert_eq!(world.prints(&["migrate"]).await["applied"], json!(missing));
    let after = world.prints(&["migrate", "--dry-run"]).await;
    assert_has(&after, json!({"applied": missing, "missing": [], "problem": null}));
    assert!(world.succeeds(&["migrate", "--dry-run"]).await.contains("applied"));
}
