//! The daemon as `settled`, the commands that look things up as `settled_read`, migrations as `settled_owner`.

use serde_json::json;
use settled_testkit::harness::life::live;
use settled_testkit::harness::{Daemon, World, assert_has, open, transfer};
use tokio_postgres::{Client, NoTls};

const TABLES: &str = "
    SELECT string_agg(relname, ',' ORDER BY relname) AS names FROM pg_class
     WHERE relnamespace = 'public'::regnamespace AND relkind = ANY($1::text[]::\"char\"[])";

/// A database with roles of its own, since roles belong to the whole server.
struct Roles {
    world: World,
    /// The URL of the superuser.
    admin: String,
    names: [String; 3],
}

impl Roles {
    async fn none() -> Self {
        let world = World::new(&[]).await;
        let names = ["owner", "daemon", "read"].map(|role| format!("{}_{role}", world.name));
        Self { admin: world.postgres_url.clone(), names, world }
    }

    async fn granted() -> Self {
        let roles = Self::none().await;
        roles.grant(&[]).await;
        roles.let_in().await;
        roles
    }

    fn arguments<'a>(&'a self, further: &[&'a str]) -> Vec<&'a str> {
        let [owner, daemon, read] = &self.names;
        let own = ["migrate", "--grant", "--owner-role", owner, "--daemon-role", daemon, "--read-role", read];
        [&own[..], further].concat()
    }

    async fn grant(&self, further: &[&str]) -> String {
        self.world.succeeds(&self.arguments(further)).await
    }

    /// Gives the roles passwords.
    async fn let_in(&self) {
        let client = self.connect(&self.admin).await;
        for role in &self.names {
            client.batch_execute(&format!("ALTER ROLE {role} PASSWORD 'secret'")).await.expect("a password");
        }
    }

    fn url(&self, role: usize) -> String {
        let (_, server) = self.admin.split_once('@').expect("a user");
        format!("postgresql://{}:secret@{server}", self.names[role])
    }

    async fn connect(&self, url: &str) -> Client {
        let (client, connection) = tokio_postgres::connect(url, NoTls).await.expect("a connection");
        tokio::spawn(connection);
        client
    }

    /// Has daemons and commands connect as this role from now on. The test itself stays the superuser.
    fn become_role(&mut self, role: usize, overrides: &[&str]) {
        self.world.postgres_url = self.url(role);
        self.world.configure(&[&["postgres.migrate = false"], overrides].concat());
        self.world.postgres_url = self.admin.clone();
    }

    async fn daemon(&mut self, overrides: &[&str]) -> Daemon {
        self.become_role(1, overrides);
        self.world.daemon().await
    }
}

const OWNER: usize = 0;
const DAEMON: usize = 1;
const READER: usize = 2;

#[tokio::test]
async fn payments_of_every_kind_live_their_lives_under_the_role_of_the_daemon() {
    let mut roles = Roles::granted().await;
    let daemon = roles.daemon(&["payments.interval = \"50ms\""]).await;
    let events = roles.world.events().await;
    let life = live(&roles.world).await;
    events.of(&life.expired).await;
    assert!(!daemon.log().contains("permission"), "{}", daemon.log());
    assert!(!daemon.log().contains("\"WARN\""), "{}", daemon.log());
    // A batch that holds a duplicate, a conflict and a rejection.
    let conflict = life.sale.clone().with("amount", 1);
    roles.world.publisher().await.publish(&conflict).await;
    roles.world.dead_letter_of(&conflict).await;
    let checked = roles.world.prints(&["check", "--connect"]).await;
    assert_has(&checked, json!({"ok": true, "warnings": []}));
    roles.world.audit().await;

    roles.become_role(READER, &[]);
    let world = &roles.world;
    let (sale, held) = (life.sale.id.to_string(), life.held.id.to_string());
    for arguments in [
        &["account", "list", "--all"][..],
        &["account", "show", "buyer"],
        &["account", "show", "buyer", "--at", "1ms"],
        &["account", "history", "buyer"],
        &["payment", "show", &sale],
        &["payment", "show", &held],
        &["payment", "list", "--account", "buyer"],
        &["payment", "list", "--state", "settled"],
        &["dead-letters", "list"],
        &["dead-letters", "show", "1"],
        &["outbox", "list"],
        &["ledger", "show"],
        &["migrate", "--dry-run"],
        &["migrate"],
        &["audit"],
    ] {
        world.succeeds(arguments).await;
    }
    // What the daemon needs of its servers, the reader lacks.
    let checked = world.run(&["check", "--connect"]).await;
    assert!(checked.code == 78 && checked.stdout.contains("lacks INSERT on account"), "{checked:?}");
    // The audit skips no check for want of a privilege: it finds a sequence that is behind.
    let behind = "SELECT setval('outbox_id_seq', 1000000); INSERT INTO outbox (leased_until, events, body, held_key)
                    VALUES ('infinity', 1, '{}', 'x'); SELECT setval('outbox_id_seq', 1)";
    world.sql().await.batch_execute(behind).await.expect("behind");
    assert_eq!(world.broken("sequences").await.len(), 1);
    drop(daemon);
}

#[tokio::test]
async fn dead_letters_and_held_events_are_dealt_with_under_the_role_of_the_daemon_and_not_of_the_reader() {
    let mut roles = Roles::granted().await;
    let mut daemon = roles.daemon(&["events.retry_held = \"2s\""]).await;
    let tasks = [open("world", "USD", None), open("alice", "USD", None), transfer("world", "alice", 1)];
    // One row of the outbox each.
    for task in &tasks {
        roles.world.publisher().await.publish(task).await;
        roles.world.becomes("settled", task).await;
    }
    daemon.counts("settled_outbox_held", &[], tasks.len()).await;
    for body in ["{\"id\": 1}", "{\"id\": 2}"] {
        roles.world.publisher().await.raw("task.transfer", body.as_bytes(), Default::default()).await;
        roles.world.dead_letter(body.as_bytes()).await;
    }
    let held = roles.world.prints(&["outbox", "list"]).await[0]["id"].to_string();
    let letters = roles.world.prints(&["dead-letters", "list"]).await;
    let letters = [letters[0]["id"].to_string(), letters[1]["id"].to_string()];
    let changes: [&[&str]; 4] = [
        &["outbox", "discard", &held, "--reason", "nobody listens"],
        &["outbox", "retry", "--all"],
        &["dead-letters", "replay", &letters[0]],
        &["dead-letters", "discard", &letters[1]],
    ];
    roles.become_role(READER, &[]);
    for arguments in changes {
        let refused = roles.world.run(arguments).await;
        assert!(refused.code != 0 && format!("{refused:?}").contains("permission denied"), "{refused:?}");
    }
    roles.become_role(DAEMON, &[]);
    let [discard, others @ ..] = changes;
    roles.world.succeeds(discard).await;
    let events = roles.world.events().await;
    for arguments in others {
        roles.world.succeeds(arguments).await;
    }
    events.count(tasks.len() - 1).await;
    // The reader's replay was published before it was refused: the letter is still open, and nothing is lost.
    roles.world.row("the replayed one is back", "SELECT 1 AS one FROM dead_letter WHERE attempts > 1", &[]).await;
    assert!(!daemon.log().contains("permission"), "{}", daemon.log());
    roles.world.end(daemon).await;
}

#[tokio::test]
async fn neither_role_can_do_more() {
    let roles = Roles::granted().await;
    let all = roles.world.sql().await.query_one(TABLES, &[&vec!["r"]]).await.expect("tables");
    let tables: Vec<&str> = all.get::<_, &str>("names").split(',').collect();
    assert!(tables.len() >= 13, "{tables:?}");
    let appended = ["entry", "transition", "reflex_action"];
    let untouched = ["ledger", "schema_compatibility", "refinery_schema_history"];
    for role in [DAEMON, READER] {
        let client = roles.connect(&roles.url(role)).await;
        let refuses = async |statement: String| {
            let refused = client.batch_execute(&statement).await.expect_err(&statement);
            let code = refused.code().map(|code| code.code().to_owned());
            assert_eq!(code.as_deref(), Some("42501"), "{statement}: {refused:?}");
        };
        for table in &tables {
            client.batch_execute(&format!("SELECT FROM {table} LIMIT 1")).await.expect("readable");
            refuses(format!("TRUNCATE {table}")).await;
            refuses(format!("DROP TABLE {table}")).await;
            refuses(format!("ALTER TABLE {table} DISABLE TRIGGER ALL")).await;
            let is_fixed = role == READER || appended.contains(table) || untouched.contains(table);
            if is_fixed || ["account", "payment", "leg", "stream_producer"].contains(table) {
                refuses(format!("DELETE FROM {table}")).await;
            }
            if is_fixed || ["outbox_discarded", "stream_outbox"].contains(table) {
                let column = "SELECT attname::text FROM pg_attribute WHERE attrelid = $1::text::regclass
                               AND attnum > 0 AND attidentity = '' ORDER BY attnum LIMIT 1";
                let column: String = client.query_one(column, &[table]).await.expect("a column").get(0);
                refuses(format!("UPDATE {table} SET {column} = {column}")).await;
                refuses(format!("SELECT FROM {table} FOR UPDATE")).await;
            }
            if role == READER || untouched.contains(table) {
                refuses(format!("INSERT INTO {table} DEFAULT VALUES")).await;
            }
        }
        for statement in [
            "CREATE TABLE odd (x int)",
            "CREATE TEMP TABLE account (x int)",
            "CREATE SCHEMA odd",
            "CREATE FUNCTION odd() RETURNS int LANGUAGE sql AS 'SELECT 1'",
            "SELECT setval('account_id_seq', 1)",
            "SELECT nextval('account_id_seq')",
            "SET session_replication_role = replica",
            "ALTER TYPE task_type ADD VALUE 'odd'",
            "CREATE OR REPLACE FUNCTION expect_rows(what text, actual bigint, expected bigint) RETURNS void LANGUAGE sql AS ''",
        ] {
            refuses(statement.to_owned()).await;
        }
        refuses(format!("SET ROLE {}", roles.names[OWNER])).await;
        if role == READER {
            refuses("SELECT expect_rows('x', 1, 1)".to_owned()).await;
        }
    }
}

#[tokio::test]
async fn the_owner_owns_all_there_is_and_everything_is_on_the_lists() {
    // One database is migrated by the owner, the other one was before there were roles.
    for is_old in [false, true] {
        let roles = Roles::none().await;
        if is_old {
            roles.world.succeeds(&["migrate"]).await;
        }
        let first = roles.grant(&["--json"]).await;
        assert!(first.contains("CREATE ROLE"), "{first}");
        roles.let_in().await;
        let sql = roles.world.sql().await;
        let foreign = "
            SELECT relname::text FROM pg_class WHERE relnamespace = 'public'::regnamespace AND pg_get_userbyid(relowner) <> $1
            UNION ALL SELECT proname FROM pg_proc WHERE pronamespace = 'public'::regnamespace AND pg_get_userbyid(proowner) <> $1
            UNION ALL SELECT typname FROM pg_type WHERE typnamespace = 'public'::regnamespace AND pg_get_userbyid(typowner) <> $1
            UNION ALL SELECT nspname FROM pg_namespace WHERE nspname = 'public' AND pg_get_userbyid(nspowner) <> $1";
        let foreign = sql.query(foreign, &[&roles.names[OWNER]]).await.expect("what it does not own");
        let foreign: Vec<String> = foreign.iter().map(|row| row.get(0)).collect();
        assert!(foreign.is_empty(), "{foreign:?} belong into the lists of crates/store/src/privileges.rs");
        let open = "
            SELECT proname::text FROM pg_proc WHERE pronamespace = 'public'::regnamespace AND has_function_privilege($1, oid, 'EXECUTE')
            UNION ALL
            SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'v', 'S')
               AND CASE relkind WHEN 'S' THEN NOT has_sequence_privilege($1, oid, 'SELECT')
                                ELSE NOT has_table_privilege($1, oid, 'SELECT') END";
        let open = sql.query(open, &[&roles.names[READER]]).await.expect("privileges");
        assert!(open.is_empty(), "{:?}", open.iter().map(|row| row.get::<_, String>(0)).collect::<Vec<_>>());
    }
}

#[tokio::test]
async fn granting_can_be_repeated_by_the_owner_under_a_running_daemon_and_mends_what_was_changed() {
    let mut roles = Roles::granted().await;
    let daemon = roles.daemon(&[]).await;
    let sql = roles.world.sql().await;
    let [_, daemon_role, read_role] = &roles.names;
    let bend = format!("GRANT ALL ON entry TO {daemon_role}, {read_role}; GRANT INSERT ON payment TO PUBLIC");
    sql.batch_execute(&bend).await.expect("too much");
    roles.become_role(OWNER, &[]);
    let again = roles.grant(&[]).await;
    assert!(!again.contains("CREATE ROLE") && !again.contains("OWNER TO"), "{again}");
    let client = roles.connect(&roles.url(DAEMON)).await;
    let refused = client.batch_execute("UPDATE entry SET amount = 1").await.expect_err("append-only");
    assert_eq!(refused.code().map(|code| code.code()), Some("42501"));

    // A migration of a later version gives the daemon and the reader what they need by default.
    let later = roles.connect(&roles.url(OWNER)).await;
    let made = "CREATE TABLE later (x int); CREATE FUNCTION later() RETURNS int LANGUAGE sql AS 'SELECT 1'";
    later.batch_execute(made).await.expect("a migration");
    let uses = "SELECT later(); INSERT INTO later VALUES (1); UPDATE later SET x = 2; DELETE FROM later";
    client.batch_execute(uses).await.expect("granted by default");
    let reader = roles.connect(&roles.url(READER)).await;
    reader.batch_execute("SELECT FROM later").await.expect("readable by default");
    for more in ["INSERT INTO later VALUES (1)", "SELECT later()"] {
        assert!(reader.batch_execute(more).await.is_err(), "{more}");
    }
    roles.world.settle(&[open("world", "USD", None), open("alice", "USD", None)]).await;
    roles.world.settle(&[transfer("world", "alice", 1)]).await;
    roles.world.end(daemon).await;
}

#[tokio::test]
async fn a_dry_run_changes_nothing_and_prints_a_script_that_grants_the_same() {
    let mut roles = Roles::none().await;
    roles.world.succeeds(&["migrate"]).await;
    let script = roles.grant(&["--dry-run"]).await;
    let sql = roles.world.sql().await;
    let exists = "SELECT count(*) FROM pg_roles WHERE rolname = ANY($1)";
    let names: Vec<&str> = roles.names.iter().map(String::as_str).collect();
    assert_eq!(sql.query_one(exists, &[&names]).await.expect("a count").get::<_, i64>(0), 0);
    sql.batch_execute(&script).await.expect("a script");
    roles.let_in().await;
    let daemon = roles.daemon(&[]).await;
    roles.world.settle(&[open("world", "USD", None)]).await;
    roles.world.end(daemon).await;
    // What it would do on an empty database, it says too.
    let empty = Roles::none().await;
    let dry: serde_json::Value = serde_json::from_str(&empty.grant(&["--dry-run", "--json"]).await).expect("JSON");
    assert_eq!(dry["missing"][0], "V1__ledger");
    assert_eq!(empty.world.prints(&["migrate", "--dry-run"]).await["applied"], json!([]));
}

#[tokio::test]
async fn roles_that_privileges_do_not_limit_and_sessions_that_may_not_grant_are_refused() {
    let mut roles = Roles::none().await;
    // The superuser of the test's servers has the name that is the default.
    let refused = roles.world.run(&["migrate", "--grant"]).await;
    assert_eq!(refused.code, 78, "{refused:?}");
    assert!(refused.stderr.contains("the role settled is a superuser"), "{refused:?}");
    let same = ["migrate", "--grant", "--daemon-role", "settled_owner"];
    assert_eq!(roles.world.run(&same).await.code, 78);
    assert_eq!(roles.world.run(&["migrate", "--owner-role", "x"]).await.code, 2);

    roles.grant(&[]).await;
    roles.let_in().await;
    let sql = roles.world.sql().await;
    let [owner, daemon, _] = &roles.names;
    sql.batch_execute(&format!("GRANT {owner} TO {daemon}")).await.expect("a member");
    let refused = roles.world.run(&roles.arguments(&[])).await;
    assert!(refused.code == 78 && refused.stderr.contains("REVOKE"), "{refused:?}");
    sql.batch_execute(&format!("REVOKE {owner} FROM {daemon}")).await.expect("no member");
    roles.become_role(READER, &[]);
    let refused = roles.world.run(&roles.arguments(&[])).await;
    assert!(refused.code == 1 && refused.stderr.contains("hint: run it as a superuser"), "{refused:?}");
}

#[tokio::test]
async fn a_daemon_that_may_not_migrate_ends_with_78_if_it_has_to_and_starts_if_there_is_nothing_to_do() {
    let mut roles = Roles::granted().await;
    roles.become_role(DAEMON, &["postgres.migrate = true"]);
    roles.world.daemon().await.stop().await;
    // A database of the version before, whose owner has not migrated it yet.
    let forget = "DROP TABLE stream_outbox, stream_producer; DELETE FROM refinery_schema_history WHERE version = 19";
    roles.world.sql().await.batch_execute(forget).await.expect("the version before");
    let mut daemon = roles.world.starting_daemon();
    daemon.exits(78).await;
    assert!(daemon.log().contains("permission denied"), "{}", daemon.log());
    let migrated = roles.world.run(&["migrate"]).await;
    assert!(migrated.code == 1 && migrated.stderr.contains("hint:"), "{migrated:?}");
    roles.become_role(OWNER, &[]);
    roles.world.succeeds(&["migrate"]).await;
    roles.become_role(DAEMON, &[]);
    roles.world.daemon().await.stop().await;
}
