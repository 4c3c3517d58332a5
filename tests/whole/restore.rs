//! Backups that are restored as docs/operate/backup-and-restore.md says: what has come back, and what becomes of the
//! tasks that are published again. With servers that are lost with all they had.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use settled::dev::postgres_program;
use settled_testkit::harness::{
    Events, Task, World, assert_has, authorize, eventually, follow_up, own_servers, transfer,
};
use settled_testkit::servers::{PrivateServers, StopMode};
use tokio::process::Command;

/// What was published before and after the moment that a backup restores.
struct Published {
    kept: Vec<Task>,
    lost: Vec<Task>,
}

impl Published {
    fn new() -> Self {
        let transfers = |amount: i64| (0..20).map(move |_| transfer("world", "alice", amount));
        let hold = authorize("world", "alice", 500);
        let capture = follow_up("capture", &hold, None);
        Self { kept: transfers(1).chain([hold]).collect(), lost: transfers(100).chain([capture]).collect() }
    }
}

/// Runs a program that must succeed, of the version of the PostgreSQL if it has one. Returns what it prints.
async fn succeeds(program: &str, arguments: &[&str]) -> String {
    let path = postgres_program(program).unwrap_or_else(|| program.into());
    let output = Command::new(path).args(arguments).output().await;
    let output = output.unwrap_or_else(|error| panic!("{program}: {error}"));
    assert!(output.status.success(), "{program} {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("UTF-8")
}

/// Publishes tasks and waits until each has an outcome that is no failure, and its event is out.
async fn carry_out(world: &World, tasks: &[Task]) {
    world.publisher().await.publish_all(tasks).await;
    for task in tasks {
        let state = if task.json["type"] == "authorize" { "authorized" } else { "settled" };
        world.becomes(state, task).await;
    }
    eventually("all events are out", async || world.count("outbox").await == 0).await;
}

fn incarnation(ledger: &Value) -> &str {
    ledger["incarnation"].as_str().expect("an incarnation")
}

/// Does what comes after a restore, and publishes everything again.
async fn goes_on(world: &World, published: &Published, before: &Value) {
    assert_has(&world.prints(&["ledger", "show"]).await, json!({"incarnation": before["incarnation"]}));
    let after = world.prints(&["ledger", "renew", "--instead-of", incarnation(before)]).await;
    assert_has(&after, json!({"renewed": true, "previous": before["incarnation"]}));
    world.audit().await;
    for lost in &published.lost {
        assert_eq!(world.count(&format!("payment WHERE id = '{}'", lost.id)).await, 0, "it is lost");
    }
    let entries = world.count("entry").await;

    let events = world.events().await;
    let daemon = world.daemon().await;
    let publisher = world.publisher().await;
    publisher.publish_all(published.kept.iter().chain(&published.lost)).await;
    world.all_are("settled", &published.lost).await;
    is_told(&events, &published.lost, incarnation(&after)).await;
    assert_eq!(world.account("alice").await["posted"], 20 + 20 * 100 + 500);
    assert_eq!(
        world.count("entry").await,
        entries + 2 * published.lost.len() as u64,
        "each once, the others not again"
    );
    world.end(daemon).await;
    assert_eq!(world.count("dead_letter").await, 0, "a repetition is no conflict");
}

/// Waits for the events of these tasks, which must name the incarnation.
async fn is_told(events: &Events, tasks: &[Task], incarnation: &str) {
    for task in tasks {
        let source = events.of(task).await.header("cloudEvents:source").expect("a source");
        assert!(source.ends_with(&format!("/{incarnation}")), "{source} of {}", task.json);
    }
}

#[tokio::test]
async fn a_dump_restored_into_an_empty_database_takes_up_what_was_lost_since() {
    let (world, daemon) = World::with_daemon(&[]).await;
    let _events = world.events().await;
    world.open_world_and_alice().await;
    let published = Published::new();
    carry_out(&world, &published.kept).await;
    let before = world.prints(&["ledger", "show"]).await;
    let directory = tempfile::tempdir().expect("a directory");
    let dump = directory.path().join("settled.dump");
    let dump = dump.to_str().expect("UTF-8");
    succeeds("pg_dump", &["--format=custom", "--file", dump, "--dbname", &world.postgres_url]).await;
    carry_out(&world, &published.lost).await;
    daemon.stop().await;

    let database = &world.name;
    let maintenance = world.postgres_url.replace(database.as_str(), "postgres");
    let psql = |command: String| {
        let maintenance = &maintenance;
        async move { succeeds("psql", &["--quiet", "--command", &command, maintenance]).await }
    };
    psql(format!("DROP DATABASE {database} WITH (FORCE)")).await;
    psql(format!("CREATE DATABASE {database}")).await;
    let restore = ["--exit-on-error", "--single-transaction", "--dbname", &world.postgres_url, dump];
    succeeds("pg_restore", &restore).await;
    goes_on(&world, &published, &before).await;
}

/// A PostgreSQL that archives its log, and a base backup of it.
struct Backup {
    data: PathBuf,
    archive: PathBuf,
    base: PathBuf,
}

impl Backup {
    /// Turns archiving on and takes a base backup.
    async fn take(world: &World, servers: &PrivateServers) -> Self {
        let data = world.rows("SELECT current_setting('data_directory') AS path", &[]).await;
        let data = PathBuf::from(data[0]["path"].as_str().expect("a path"));
        // Whoever takes the backup need not be the server's user.
        let backup = Self { archive: data.with_file_name("archive"), base: world.file("base"), data };
        std::fs::create_dir(&backup.archive).expect("a directory");
        backup.give_to_postgres(&backup.archive).await;
        let archive = backup.archive.display();
        // What is there is complete, also if the server is killed meanwhile.
        let command = format!("test ! -f {archive}/%f && cp %p {archive}/%f.part && mv {archive}/%f.part {archive}/%f");
        for setting in [format!("archive_command = '{command}'"), "archive_mode = on".to_owned()] {
            world.sql().await.batch_execute(&format!("ALTER SYSTEM SET {setting}")).await.expect("set");
        }
        servers.stop_postgres(StopMode::Fast).await.expect("it stops");
        servers.start_postgres().await.expect("it starts");
        let base = backup.base.to_str().expect("UTF-8");
        let arguments = ["--checkpoint=fast", "--no-sync", "--pgdata", base, "--dbname", servers.postgres_url()];
        succeeds("pg_basebackup", &arguments).await;
        backup
    }

    async fn give_to_postgres(&self, path: &Path) {
        let (path, like) = (path.display().to_string(), format!("--reference={}", self.data.display()));
        succeeds("chown", &["--recursive", &like, &path]).await;
    }

    /// Waits until everything committed so far is in the archive.
    async fn is_archived(&self, world: &World) {
        let last = world.rows("SELECT pg_walfile_name(pg_switch_wal()) AS name", &[]).await;
        let last = self.archive.join(last[0]["name"].as_str().expect("a name"));
        eventually("the log is archived", async || last.exists()).await;
    }

    /// Replaces the lost data by the base backup, and replays the log up to the moment.
    async fn restore(&self, world: &World, servers: &PrivateServers, moment: &str) {
        std::fs::remove_dir_all(&self.data).expect("lost");
        std::fs::rename(&self.base, &self.data).expect("the base backup is in its place");
        let archive = self.archive.display();
        let settings = format!(
            "restore_command = 'cp {archive}/%f %p'\nrecovery_target_time = '{moment}'\n\
             recovery_target_action = 'promote'\n"
        );
        let file = self.data.join("postgresql.auto.conf");
        let settings = std::fs::read_to_string(&file).expect("settings") + &settings;
        std::fs::write(file, settings).expect("written");
        std::fs::write(self.data.join("recovery.signal"), "").expect("written");
        self.give_to_postgres_all().await;
        servers.start_postgres().await.expect("it starts");
        eventually("recovery has ended", async || {
            let rows = world.try_rows("SELECT pg_is_in_recovery() AS goes_on", &[]).await;
            rows.is_some_and(|rows| rows[0]["goes_on"] == false)
        })
        .await;
    }

    /// The data directory has an owner of its own again; the archive's is that of PostgreSQL.
    async fn give_to_postgres_all(&self) {
        let (data, like) = (self.data.display().to_string(), format!("--reference={}", self.archive.display()));
        succeeds("chown", &["--recursive", &like, &data]).await;
    }
}

#[tokio::test]
async fn both_servers_are_lost_and_the_ledger_is_restored_to_a_point_in_time() {
    let servers = own_servers().await;
    let world = World::on(&servers, &[]).await;
    let backup = Backup::take(&world, &servers).await;
    let mut daemon = world.daemon().await;
    let events = world.events().await;
    world.open_world_and_alice().await;
    let published = Published::new();
    carry_out(&world, &published.kept).await;
    let before = world.prints(&["ledger", "show"]).await;
    let moment = world.rows("SELECT clock_timestamp()::text AS moment", &[]).await;
    carry_out(&world, &published.lost).await;
    backup.is_archived(&world).await;

    daemon.kill();
    drop(events);
    servers.stop_postgres(StopMode::Immediate).await.expect("it stops");
    servers.kill_rabbitmq().await.expect("it ends");
    std::fs::remove_dir_all(servers.dir().join("rabbitmq/mnesia")).expect("lost");
    servers.start_rabbitmq().await.expect("it starts");
    backup.restore(&world, &servers, moment[0]["moment"].as_str().expect("a time")).await;
    goes_on(&world, &published, &before).await;
    servers.shutdown().await.expect("nothing is left");
}
