//! Keys in an order of their own: what the operating system or ICU makes of texts, today or after an
//! update, decides about nothing.

use settled_testkit::harness::{self, World, connect, database, eventually, postgres_with, transfer};
use settled_testkit::seed;
use settled_testkit::servers::ServersOptions;
use tokio_postgres::Client;

/// The schema in which the indexes were in the database's order.
const BEFORE: i32 = 6;

/// How many names there are, each in one of four spellings.
const NAMES: i64 = 1500;

const INSERT: &str = "
    INSERT INTO account (name, status, currency, opened_at)
    SELECT CASE n % 4 WHEN 0 THEN 'user:' || n WHEN 1 THEN 'User-' || n WHEN 2 THEN 'user_' || n ELSE 'USER.' || n END,
           'open', 'USD', now()
      FROM generate_series(1, $1::bigint) AS n";

/// Rebuilds the index on the names in another order than the one it is searched in, as if the system
/// had changed its mind since. 100 is the database's collation, 950 is "C".
async fn damage(client: &Client, was: u32, is: u32) {
    let collation = |oid: u32| {
        format!("UPDATE pg_index SET indcollation = '{oid}' WHERE indexrelid = 'account_name_key'::regclass")
    };
    for step in [&collation(was), "REINDEX INDEX account_name_key", &collation(is)] {
        client.batch_execute(step).await.expect(step);
    }
}

/// How many of all names the index doesn't find.
async fn lost(client: &Client) -> i64 {
    let lost = "SELECT count(*) FROM account a
                 WHERE NOT EXISTS (SELECT FROM (SELECT FROM account f WHERE f.name = a.name OFFSET 0) AS found)";
    client.batch_execute("SET enable_seqscan = off").await.expect("set");
    client.query_one(lost, &[]).await.expect("a count").get(0)
}

/// The names with the lowest ids.
async fn oldest(client: &Client, count: i64) -> Vec<String> {
    let names = client.query("SELECT name FROM account ORDER BY id LIMIT $1", &[&count]).await.expect("names");
    names.iter().map(|row| row.get(0)).collect()
}

/// A ledger of the version before, with two accounts that its daemon opened.
async fn ledger_before() -> (World, Client) {
    let world = World::new(&["postgres.migrate = false"]).await;
    let mut client = world.sql().await;
    settled_store::migrate_to(&mut client, BEFORE).await.expect("the schema of the version before");
    (world, client)
}

#[tokio::test]
async fn the_tests_have_databases_in_another_order_than_that_of_bytes() {
    let client = connect(Some(&database(None).await)).await;
    let ordered = client.query_one("SELECT 'a' < 'B'", &[]).await.expect("an order");
    assert!(ordered.get::<_, bool>(0));
}

#[tokio::test]
async fn no_index_is_in_an_order_that_the_system_decides() {
    let client = connect(Some(&database(None).await)).await;
    let depending = "
        SELECT i.indexrelid::regclass::text FROM pg_index i JOIN pg_class c ON c.oid = i.indrelid,
               LATERAL unnest(i.indcollation) AS of_column (collation_id)
         WHERE c.relnamespace = 'public'::regnamespace
           AND of_column.collation_id NOT IN (0, 'pg_catalog.\"C\"'::regcollation)";
    let rows = client.query(depending, &[]).await.expect("the indexes");
    let names: Vec<&str> = rows.iter().map(|row| row.get(0)).collect();
    assert_eq!(names, [""; 0], "columns that are indexed need COLLATE \"C\"");
}

#[tokio::test]
async fn names_that_an_index_in_an_old_order_lost_are_found_by_the_audit_and_again_after_the_migration() {
    let (world, client) = ledger_before().await;
    client.execute(INSERT, &[&NAMES]).await.expect("accounts");
    assert_eq!(lost(&client).await, 0);
    damage(&client, 950, 100).await;
    let missing = lost(&client).await;
    assert!(missing > NAMES / 2, "only {missing} names are lost");
    let said = world.broken("text_keys").await;
    assert!(said.iter().any(|text| text.contains("REINDEX INDEX account_name_key")), "{said:?}");

    world.succeeds(&["migrate"]).await;
    assert_eq!(lost(&client).await, 0);
    for check in ["account_name", "text_keys"] {
        assert_eq!(world.broken(check).await, [""; 0]);
    }
    // The version before gives names their ids as it did.
    let intern = "INSERT INTO account (name) SELECT name FROM unnest($1::text[]) AS n(name) ORDER BY name
                  ON CONFLICT (name) DO NOTHING";
    let written = client.execute(intern, &[&vec!["User-1", "new", "user_2"]]).await;
    assert_eq!(written.expect("as before"), 1);

    // An index can still be damaged, by a disk for instance.
    damage(&client, 100, 950).await;
    assert!(lost(&client).await > NAMES / 2);
    assert_eq!(world.broken("text_keys").await.len(), 10);
}

#[tokio::test]
async fn payments_between_accounts_whose_names_an_index_has_lost_settle() {
    let (world, client) = ledger_before().await;
    seed::accounts(&client, 1500).await.expect("accounts");
    let respell = "
        UPDATE account SET name = CASE id % 4 WHEN 0 THEN 'user:' || id WHEN 1 THEN 'User-' || id
                                              WHEN 2 THEN 'user_' || id ELSE 'USER.' || id END";
    client.batch_execute(respell).await.expect("names");
    damage(&client, 950, 100).await;
    assert!(lost(&client).await > NAMES / 2);
    world.configure(&[]);
    let daemon = world.daemon().await;
    let names = oldest(&client, 40).await;
    let payments: Vec<_> = names.chunks(2).map(|pair| transfer(&pair[0], &pair[1], 1)).collect();
    world.settle(&payments).await;
    world.end(daemon).await;
}

#[tokio::test]
async fn names_that_are_there_twice_are_found_and_keep_the_migration_from_choosing_one() {
    let (world, client) = ledger_before().await;
    client.execute(INSERT, &[&NAMES]).await.expect("accounts");
    damage(&client, 950, 100).await;
    // As a daemon does with names that it doesn't find.
    let again = "INSERT INTO account (name) SELECT unnest($1::text[]) ON CONFLICT (name) DO NOTHING";
    let names = oldest(&client, 400).await;
    let doubled = client.execute(again, &[&names]).await.expect("given ids");
    assert!(doubled > 0, "nothing is there twice");
    let said = world.broken("account_name").await;
    assert!(said.iter().any(|text| text.contains("have this name")), "{said:?}");

    let refused = world.run(&["migrate"]).await;
    assert_eq!(refused.code, 1, "{refused:?}");
    let lists = "SELECT name COLLATE \"C\", array_agg(id) FROM account GROUP BY 1 HAVING count(*) > 1";
    assert!(refused.stderr.contains(lists), "{refused:?}");
    assert_eq!(client.query(lists, &[]).await.expect("what it says").len() as u64, doubled);

    let rename = "UPDATE account SET name = name || ':' || id WHERE id > $1";
    assert_eq!(client.execute(rename, &[&NAMES]).await.expect("renamed"), doubled);
    world.succeeds(&["migrate"]).await;
    assert_eq!(world.broken("account_name").await, [""; 0]);
}

#[tokio::test]
async fn who_may_read_the_payments_by_name_may_do_so_after_the_migration() {
    let (world, client) = ledger_before().await;
    let role = format!("reader_{}", world.name);
    let grants = format!("CREATE ROLE {role}; GRANT SELECT ON payment_named TO {role} WITH GRANT OPTION");
    client.batch_execute(&grants).await.expect("granted");
    world.succeeds(&["migrate"]).await;
    let may = format!("SELECT has_table_privilege('{role}', 'payment_named', 'SELECT WITH GRANT OPTION')");
    assert!(client.query_one(&may, &[]).await.expect("a right").get::<_, bool>(0));
}

#[tokio::test]
async fn a_collation_of_another_version_than_the_recorded_one_is_told() {
    let world = World::new(&[]).await;
    let recorded = "UPDATE pg_database SET datcollversion = '1.0' WHERE datname = current_database()";
    world.sql().await.batch_execute(recorded).await.expect("another version");
    let remedy = format!("ALTER DATABASE {} REFRESH COLLATION VERSION", world.name);
    let daemon = world.daemon().await;
    assert!(daemon.log().contains(&remedy), "{}", daemon.log());
    daemon.stop().await;
    let warnings = world.prints(&["check", "--connect"]).await["warnings"].to_string();
    assert!(warnings.contains(&remedy), "{warnings}");
}

#[tokio::test]
async fn a_server_that_does_not_write_whole_pages_is_told_at_the_start_and_by_the_audit() {
    let servers = postgres_with(ServersOptions::default()).await;
    let world = World::between(harness::servers().await, &servers, &[]).await;
    let client = world.sql().await;
    client.batch_execute("ALTER SYSTEM SET full_page_writes = off").await.expect("altered");
    client.batch_execute("SELECT pg_reload_conf()").await.expect("reloaded");
    eventually("it is in force", async || {
        client.query_one("SHOW full_page_writes", &[]).await.is_ok_and(|row| row.get::<_, &str>(0) == "off")
    })
    .await;
    let daemon = world.daemon().await;
    assert!(daemon.log().contains("full_page_writes = off"), "{}", daemon.log());
    daemon.stop().await;
    let checked = world.succeeds(&["check", "--connect"]).await;
    assert!(checked.contains("warning: full_page_writes = off"), "{checked}");
    assert_eq!(world.broken("durability").await.len(), 1);
    servers.shutdown().await.expect("nothing is left");
}
