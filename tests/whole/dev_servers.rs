//! The private servers start, can be broken and mended, and leave nothing behind.

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use lapin::options::QueueDeclareOptions;
use lapin::types::FieldTable;
use lapin::{Connection, ConnectionProperties};
use settled::dev;
use settled::dev::DevError;
use settled_testkit::harness::{settled, test_servers, within};
use settled_testkit::servers::{PrivateServers, ServersOptions, StopMode};
use tempfile::TempDir;
use tokio::sync::{Mutex, MutexGuard, OnceCell};
use tokio_postgres::{Client, NoTls};

type Result<T = (), E = Box<dyn std::error::Error>> = std::result::Result<T, E>;

/// What has to happen soon.
const SOON: Duration = Duration::from_secs(20);

/// How often the standby takes over, one time after another.
const PROMOTIONS: i64 = 2;

/// Says which environment a re-run of this test binary is: see [`holder`].
const HOLDER: &str = "SETTLED_TEST_HOLDER";

async fn start(options: &ServersOptions) -> Result<PrivateServers, DevError> {
    PrivateServers::start(&test_servers(), options).await
}

/// Servers for tests that leave them running, one at a time: a RabbitMQ takes seconds to start.
async fn shared() -> Result<MutexGuard<'static, PrivateServers>> {
    static SERVERS: OnceCell<Mutex<PrivateServers>> = OnceCell::const_new();
    let servers = SERVERS.get_or_try_init(async || start(&ServersOptions::default()).await.map(Mutex::new)).await?;
    Ok(servers.lock().await)
}

/// The servers of `settled dev`, which are what the others are made of: with the guardian that is shipped.
async fn shipped(options: &dev::ServersOptions) -> Result<dev::PrivateServers, DevError> {
    dev::PrivateServers::start(&settled(), options).await
}

async fn postgres(servers: &dev::PrivateServers) -> Result<Client> {
    let (client, connection) = tokio_postgres::connect(servers.postgres_url(), NoTls).await?;
    tokio::spawn(connection);
    Ok(client)
}

async fn rabbitmq(servers: &dev::PrivateServers) -> Result<Connection> {
    Ok(Connection::connect(servers.amqp_uri(), ConnectionProperties::default()).await?)
}

async fn both_answer(servers: &dev::PrivateServers) -> Result {
    let one: i32 = postgres(servers).await?.query_one("select 1", &[]).await?.get(0);
    assert_eq!(one, 1);
    Ok(rabbitmq(servers).await?.close(200, "done".into()).await?)
}

/// All processes that work in `dir`, which both servers and all they start do. A zombie works
/// nowhere any more.
fn processes_in(dir: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries
        .map(|entry| entry.path())
        .filter(|process| fs::read_link(process.join("cwd")).is_ok_and(|cwd| cwd.starts_with(dir)))
        .collect()
}

/// The ended children of a process that it has not reaped.
fn zombies(parent: u32) -> Vec<String> {
    let stats = fs::read_dir("/proc").into_iter().flatten().flatten();
    stats
        .filter_map(|process| fs::read_to_string(process.path().join("stat")).ok())
        .filter(|stat| {
            // "pid (name) state parent …"; the name can have blanks and brackets.
            let rest = stat.rsplit_once(") ").map_or("", |(_, rest)| rest);
            rest.starts_with(&format!("Z {parent} "))
        })
        .collect()
}

/// A directory through which PostgreSQL, which runs as another user for root, can pass.
fn open_place() -> Result<TempDir> {
    Ok(tempfile::Builder::new().permissions(fs::Permissions::from_mode(0o711)).tempdir()?)
}

#[tokio::test]
async fn postgres_keeps_what_it_commits_and_comes_back_at_its_place_with_its_data() -> Result {
    let servers = shared().await?;
    for setting in ["fsync", "synchronous_commit", "track_commit_timestamp"] {
        let value: String = postgres(&servers).await?.query_one(&format!("show {setting}"), &[]).await?.get(0);
        assert_eq!(value, "on", "{setting}");
    }
    postgres(&servers).await?.batch_execute("create table kept (n int)").await?;

    for mode in [StopMode::Fast, StopMode::Immediate, StopMode::Kill] {
        // A session that is open meanwhile, as a daemon's would be.
        let session = postgres(&servers).await?;
        session.execute("insert into kept values (1)", &[]).await?;
        servers.stop_postgres(mode).await?;
        assert_eq!(servers.postgres_pid(), None, "{mode:?}");
        assert!(postgres(&servers).await.is_err(), "{mode:?}");
        servers.start_postgres().await?;
    }
    let kept: i64 = postgres(&servers).await?.query_one("select count(*) from kept", &[]).await?.get(0);
    assert_eq!(kept, 3);
    both_answer(&servers).await
}

#[tokio::test]
async fn a_stopped_broker_comes_back_also_when_its_port_was_taken_meanwhile_and_so_does_a_killed_one() -> Result {
    let servers = shared().await?;
    let queue = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
    let channel = rabbitmq(&servers).await?.create_channel().await?;
    channel.queue_declare("kept".into(), queue, FieldTable::default()).await?;

    servers.stop_rabbitmq().await?;
    assert_eq!(servers.rabbitmq_pid(), None);
    assert!(rabbitmq(&servers).await.is_err());
    let authority = servers.amqp_uri().rsplit('@').next().and_then(|rest| rest.split('/').next());
    let squatter = TcpListener::bind(authority.expect("an address"))?;
    let log = servers.dir().join("rabbitmq/rabbitmq.log");
    let refused = || fs::read_to_string(&log).is_ok_and(|text| text.contains("eaddrinuse"));
    let leave = async {
        within(SOON, "the broker finds its port taken", async || refused()).await;
        drop(squatter);
    };
    let (started, ()) = tokio::join!(servers.start_rabbitmq(), leave);
    started?;
    both_answer(&servers).await?;

    servers.kill_rabbitmq().await?;
    assert!(rabbitmq(&servers).await.is_err());
    servers.start_rabbitmq().await?;
    both_answer(&servers).await?;
    let there = QueueDeclareOptions { passive: true, ..queue };
    let channel = rabbitmq(&servers).await?.create_channel().await?;
    channel.queue_declare("kept".into(), there, FieldTable::default()).await?;
    Ok(())
}

#[tokio::test]
async fn what_the_servers_leave_behind_is_reaped_while_they_run() -> Result {
    let servers = shipped(&dev::ServersOptions::default()).await?;
    let none_is_left = async || {
        // Erlang's helpers end by themselves, a moment after the start.
        within(SOON, "no zombie", async || zombies(servers.guardian_pid()).is_empty()).await;
    };
    none_is_left().await;
    for _ in 0..2 {
        servers.kill_rabbitmq().await?;
        servers.stop_postgres(StopMode::Kill).await?;
        none_is_left().await;
        servers.start_postgres().await?;
        servers.start_rabbitmq().await?;
        none_is_left().await;
        both_answer(&servers).await?;
    }
    // One that ends by itself is left to whoever asks for it, and is started again as before.
    let killed = servers.postgres_pid().ok_or("PostgreSQL runs")?;
    assert!(Command::new("kill").args(["-KILL", &killed.to_string()]).status()?.success());
    within(SOON, "PostgreSQL is down", async || postgres_is_away(&servers).await).await;
    servers.start_postgres().await?;
    none_is_left().await;
    both_answer(&servers).await?;
    Ok(servers.shutdown().await?)
}

async fn postgres_is_away(servers: &dev::PrivateServers) -> bool {
    postgres(servers).await.is_err()
}

#[tokio::test]
async fn a_kept_directory_serves_again_after_a_shutdown_and_after_the_end_of_a_killed_guardian() -> Result {
    let place = open_place()?;
    let dir = Some(place.path().to_owned());
    let kept = dev::ServersOptions { dir: dir.clone(), keep: true };

    let servers = shipped(&kept).await?;
    let refused = shipped(&kept).await;
    assert!(refused.is_err_and(|error| error.to_string().contains("in use")));
    postgres(&servers).await?.batch_execute("create table kept ()").await?;
    servers.shutdown().await?;

    let refused = shipped(&dev::ServersOptions { dir, keep: false }).await;
    assert!(refused.is_err_and(|error| error.to_string().contains("not empty")));

    let servers = shipped(&kept).await?;
    let session = postgres(&servers).await?;
    session.batch_execute("select from kept").await?;
    both_answer(&servers).await?;

    let killed = Command::new("kill").args(["-KILL", &servers.guardian_pid().to_string()]).status()?;
    assert!(killed.success());

    within(SOON, "no process", async || processes_in(place.path()).is_empty()).await;
    assert!(matches!(servers.start_postgres().await, Err(DevError::Guardian(_))));
    drop(session);

    let servers = shipped(&kept).await?;
    postgres(&servers).await?.batch_execute("select from kept").await?;
    both_answer(&servers).await?;
    Ok(servers.shutdown().await?)
}

#[tokio::test]
async fn a_standby_takes_over_again_and_again_with_every_commit_and_shutdown_leaves_nothing() -> Result {
    let servers = start(&ServersOptions { standby: true, without_broker: true, ..ServersOptions::default() }).await?;
    postgres(&servers).await?.batch_execute("create table kept (n int)").await?;
    for promotion in 1..=PROMOTIONS {
        let client = postgres(&servers).await?;
        let synchronous = "select from pg_stat_replication where sync_state = 'sync'";
        assert_eq!(client.query(synchronous, &[]).await?.len(), 1, "commits wait for it");
        client.execute("insert into kept values (1)", &[]).await?;
        let (primary, standby) = (servers.postgres_pid(), servers.standby_pid());
        assert!(primary.is_some() && standby.is_some());

        let began = Instant::now();
        servers.promote().await?;
        println!("promotion {promotion} took {:.2} s", began.elapsed().as_secs_f64());
        assert_eq!((servers.postgres_pid(), servers.standby_pid()), (standby, None));
        assert!(servers.promote().await.is_err(), "there is nobody left to promote");
        // Alone, it waits for nobody.
        let client = postgres(&servers).await?;
        let kept: i64 = client.query_one("select count(*) from kept", &[]).await?.get(0);
        assert_eq!(kept, 2 * promotion - 1);
        client.execute("insert into kept values (2)", &[]).await?;
        servers.rebuild_standby().await?;
    }
    // Each in its turn.
    servers.stop_postgres(StopMode::Kill).await?;
    servers.start_postgres().await?;
    postgres(&servers).await?.batch_execute("select from kept").await?;
    assert_eq!(servers.rabbitmq_pid(), None, "nobody wanted it");
    let dir = servers.dir().to_owned();
    assert!(processes_in(&dir).len() > 2, "the check for processes finds none: {dir:?}");
    servers.shutdown().await?;
    assert_eq!((processes_in(&dir), dir.exists()), (Vec::new(), false));
    Ok(())
}

#[tokio::test]
async fn a_disk_of_postgres_can_be_filled_and_freed_and_leaves_nothing_mounted() -> Result {
    let options = ServersOptions { postgres_space: Some(192 << 20), without_broker: true, ..ServersOptions::default() };
    if !rustix::process::geteuid().is_root() {
        assert!(start(&options).await.is_err_and(|error| error.to_string().contains("root")));
        println!("skipped: only root can mount a disk");
        return Ok(());
    }
    let servers = start(&options).await?;
    let client = postgres(&servers).await?;
    client.batch_execute("create table kept (bytes text)").await?;
    let write = "insert into kept select string_agg(gen_random_uuid()::text, '') from generate_series(1, 10000)";
    client.execute(write, &[]).await?;

    servers.fill_postgres_disk().await?;
    let mut written = 0;
    // There may be room in files that are there already.
    while client.execute(write, &[]).await.is_ok() {
        written += 1;
        assert!(written < 1000, "the disk is never full");
    }
    servers.free_postgres_disk().await?;
    servers.start_postgres().await?;
    let client = postgres(&servers).await?;
    let kept: i64 = client.query_one("select count(*) from kept", &[]).await?.get(0);
    assert_eq!(kept, 1 + written);
    client.execute(write, &[]).await?;

    let dir = servers.dir().to_owned();
    let seen = fs::read_to_string("/proc/self/mounts")?;
    assert!(!seen.contains(&*dir.to_string_lossy()), "nobody else sees it: {seen}");
    servers.shutdown().await?;
    assert!(!dir.exists());
    Ok(())
}

#[tokio::test]
async fn what_is_not_there_is_not_used() -> Result {
    let servers = shared().await?;
    for refused in [servers.promote().await, servers.rebuild_standby().await, servers.fill_postgres_disk().await] {
        assert!(matches!(refused, Err(DevError::Guardian(_))), "{refused:?}");
    }
    assert!(servers.rabbitmqctl(&["list_queues"]).await?.contains("queues"));
    assert!(servers.rabbitmqctl(&["no_such_verb"]).await.is_err());
    Ok(())
}

#[tokio::test]
async fn servers_end_with_a_killed_parent() -> Result {
    let mut parent = Command::new(std::env::current_exe()?)
        .args(["--exact", "dev_servers::holder", "--ignored", "--nocapture"])
        .env(HOLDER, "1")
        .stdout(Stdio::piped())
        .spawn()?;
    let output = parent.stdout.take().ok_or("no output")?;
    let dir = BufReader::new(output)
        .lines()
        .map_while(|line| line.ok())
        .find_map(|line| line.strip_prefix("servers in ").map(PathBuf::from))
        .ok_or("the holder did not start any servers")?;
    assert!(processes_in(&dir).len() > 2);

    parent.kill()?;
    parent.wait()?;

    within(SOON, "no process, no directory", async || processes_in(&dir).is_empty() && !dir.exists()).await;
    Ok(())
}

/// Not a test: the parent for [`servers_end_with_a_killed_parent`], in a process of its own.
#[tokio::test]
#[ignore = "started by another test, and killed by it"]
async fn holder() -> Result {
    if std::env::var_os(HOLDER).is_some() {
        let servers = shipped(&dev::ServersOptions::default()).await?;
        println!("\nservers in {}", servers.dir().display());
        std::future::pending::<()>().await;
    }
    Ok(())
}

#[test]
fn one_handle_serves_many_runtimes() -> Result {
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build();
    let servers = runtime()?.block_on(shared())?;
    std::thread::scope(|scope| {
        let both = [(); 2].map(|()| {
            scope.spawn(|| {
                let restart = async {
                    servers.stop_postgres(StopMode::Immediate).await?;
                    servers.start_postgres().await
                };
                runtime().map(|runtime| runtime.block_on(restart))
            })
        });
        for thread in both {
            thread.join().map_err(|_| "a thread panicked")???;
        }
        Ok::<(), Box<dyn std::error::Error>>(())
    })?;
    runtime()?.block_on(both_answer(&servers))
}
