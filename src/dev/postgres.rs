//! The private PostgreSQL.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::process::Signal;
use tokio::process::Command;
use tokio::time::sleep;
use tokio_postgres::{Client, Config, NoTls};
use uuid::Uuid;

use super::StopMode;
use super::error::{Context, DevError};
use super::guardian::Databases;
use super::place::Place;
use super::programs::{Programs, bound_as_postgres, is_root, search_path};
use super::server::Server;

/// The role, which owns everything, and the database.
pub const NAME: &str = "settled";

/// How long an orderly stop may take: its checkpoint writes all that changed.
const STOP_LIMIT: Duration = Duration::from_secs(30);

/// How long an immediate stop may take. PostgreSQL itself kills stragglers after 5 s.
const IMMEDIATE_STOP_LIMIT: Duration = Duration::from_secs(10);

/// How often a start is tried while the remains of a killed server are still ending.
const START_ATTEMPTS: u32 = 100;

/// The pause between two such tries.
const START_PAUSE: Duration = Duration::from_millis(50);

/// How PostgreSQL says that such remains keep it from starting.
const REMAINS: [&str; 2] = ["pre-existing shared memory block", "lock file \"postmaster.pid\" already exists"];

/// Durable as in production, because the tests are about durability, and with room in the
/// write-ahead log, so that checkpoints do not dominate what the load test measures.
const SETTINGS: [&str; 10] = [
    "listen_addresses=127.0.0.1",
    "fsync=on",
    "synchronous_commit=on",
    "track_commit_timestamp=on",
    "max_connections=200",
    "shared_buffers=256MB",
    "max_wal_size=4GB",
    // Files in the data directory instead of /dev/shm, where a killed server would leave them.
    "dynamic_shared_memory_type=mmap",
    "log_line_prefix=%m [%p] ",
    "log_timezone=UTC",
];

/// A PostgreSQL in a directory of its own below that of the servers.
pub struct Postgres {
    pub programs: Programs,
    /// Its directory.
    pub room: PathBuf,
    pub port: u16,
    /// The password of the role [`NAME`].
    pub password: String,
    pub server: Server,
    /// Its settings beside the usual ones: `name=value`.
    pub settings: Vec<String>,
    /// Its data directory, which it makes.
    pub data: PathBuf,
}

impl Postgres {
    /// Makes its directory, owned by the user it will run as, and its password.
    ///
    /// # Errors
    /// If the directory can't be made.
    pub async fn prepare(programs: &Programs, place: &Place, port: u16) -> Result<Self, DevError> {
        let room = place.room("postgres")?;
        let password = password(&room.join("password"))?;
        Self::in_room(programs, room, port, password).await
    }

    /// One in a directory that is there, with a password that is known.
    ///
    /// # Errors
    /// If the directory can't be given to the user it will run as.
    pub async fn in_room(programs: &Programs, room: PathBuf, port: u16, password: String) -> Result<Self, DevError> {
        let server = Server::new("PostgreSQL", room.join("postgres.log"));
        let (programs, data) = (programs.clone(), room.join("data"));
        let postgres = Self { programs, room, port, password, server, settings: Vec::new(), data };
        postgres.own_room().await?;
        Ok(postgres)
    }

    /// Gives all that is in its directory to the user it runs as.
    ///
    /// # Errors
    /// If the system refuses it.
    pub async fn own_room(&self) -> Result<(), DevError> {
        if is_root() { give_to_postgres(&self.room).await } else { Ok(()) }
    }

    /// Makes the data directory, under another name until it is complete: a run that was
    /// killed meanwhile leaves nothing that looks like a database. Texts are in ICU's order where
    /// there is ICU, as in databases out there: what depends on an order shows.
    async fn initialise(&mut self, data: &Path) -> Result<(), DevError> {
        const ICU: [&str; 2] = ["--locale-provider=icu", "--icu-locale=en-US"];
        let new = data.with_extension("new");
        let mut made = self.initdb(&new, &ICU).await;
        if made.is_err() {
            // Before PostgreSQL 15, or built without ICU.
            made = self.initdb(&new, &[]).await;
        }
        made?;
        fs::rename(&new, data).context(|| format!("make {}", data.display()))
    }

    async fn initdb(&mut self, data: &Path, locale: &[&str]) -> Result<(), DevError> {
        let _ = fs::remove_dir_all(data);
        let mut initdb = self.command(&self.programs.initdb);
        initdb
            .args(["--no-sync", "--encoding=UTF8", "--locale=C.UTF-8", "--auth=scram-sha-256"])
            .args(locale)
            .arg(format!("--username={NAME}"))
            .arg("--pwfile")
            .arg(self.room.join("password"))
            .arg("--pgdata")
            .arg(data);
        self.server.launch(initdb)?;
        self.server.finished().await
    }

    /// Starts the server process and connects to it, again and again while the remains of a
    /// killed one are still there: PostgreSQL rightly refuses to start beside them.
    async fn launch(&mut self, data: &Path) -> Result<Client, DevError> {
        let mut attempts = 0;
        loop {
            let was_there = self.server.is_running();
            if !was_there {
                let postgres = self.postgres(data);
                self.server.launch(postgres)?;
            }
            let client = self.server.ready(async || connect(self.port, &self.password).await).await;
            attempts += 1;
            // One that was about to end, without room on its disk for instance, is started now.
            let again = self.meets_remains() || was_there && !self.server.is_running();
            if client.is_ok() || attempts == START_ATTEMPTS || !again {
                return client;
            }
            sleep(START_PAUSE).await;
        }
    }

    fn postgres(&self, data: &Path) -> Command {
        let mut postgres = self.command(&self.programs.postgres);
        postgres.arg("-D").arg(data).arg("-k").arg(&self.room);
        postgres.args(["-p", &self.port.to_string()]);
        let settings = SETTINGS.into_iter().chain(self.settings.iter().map(String::as_str));
        postgres.args(settings.flat_map(|setting| ["-c", setting]));
        postgres
    }

    /// Whether it did not start because of a killed server: because of its sessions, which
    /// outlive it for a moment, or of itself, if whoever inherited it has not reaped it yet.
    fn meets_remains(&self) -> bool {
        let logged = self.server.logged();
        REMAINS.iter().any(|message| logged.contains(message))
    }

    /// A command with an environment that is the same on every machine.
    pub fn command(&self, program: &Path) -> Command {
        let mut command = bound_as_postgres(program);
        command.current_dir(&self.room).env_clear().env("PATH", search_path()).env("LC_ALL", "C.UTF-8");
        command
    }
}

impl Databases for Postgres {
    fn url(&self) -> String {
        format!("postgresql://{NAME}:{}@127.0.0.1:{}/{NAME}", self.password, self.port)
    }

    fn pid(&self) -> Option<u32> {
        self.server.pid()
    }

    async fn start(&mut self) -> Result<(), DevError> {
        let data = self.data.clone();
        if !data.exists() {
            self.initialise(&data).await?;
        }
        let maintenance = self.launch(&data).await?;
        ensure_database(&maintenance).await
    }

    async fn stop(&mut self, mode: StopMode) -> Result<(), DevError> {
        match mode {
            StopMode::Fast => self.server.stop(Signal::INT, STOP_LIMIT).await,
            StopMode::Immediate => self.server.stop(Signal::QUIT, IMMEDIATE_STOP_LIMIT).await,
            StopMode::Kill => self.server.kill().await,
        }
    }

    /// Gives back the few bytes of System V shared memory that a killed server leaves: a next
    /// start in the same directory would do it, but there is none for a directory that goes.
    async fn free_shared_memory(&self) {
        // Removed by every end but SIGKILL; its seventh line is "key id".
        let Ok(pid_file) = fs::read_to_string(self.data.join("postmaster.pid")) else {
            return;
        };
        if let Some(id) = pid_file.lines().nth(6).and_then(|line| line.split_whitespace().nth(1)) {
            let _ = Command::new("ipcrm").args(["--shmem-id", id]).status().await;
        }
    }
}

/// A session in the database that is always there, or nothing while there is none to be had.
pub async fn connect(port: u16, password: &str) -> Option<Client> {
    let mut config = Config::new();
    config.host("127.0.0.1").port(port).user(NAME).password(password).dbname("postgres");
    let (client, connection) = config.connect(NoTls).await.ok()?;
    tokio::spawn(connection);
    Some(client)
}

/// Makes the database unless an earlier run has.
async fn ensure_database(client: &Client) -> Result<(), DevError> {
    let found = client.query("select from pg_database where datname = $1", &[&NAME]).await?;
    if found.is_empty() {
        client.batch_execute(&format!("create database {NAME}")).await?;
    }
    Ok(())
}

/// The password in `file`, or a new one that is stored there.
fn password(file: &Path) -> Result<String, DevError> {
    if let Ok(password) = fs::read_to_string(file) {
        return Ok(password);
    }
    let password = Uuid::now_v7().simple().to_string();
    OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(file)
        .and_then(|mut file| file.write_all(password.as_bytes()))
        .context(|| format!("write {}", file.display()))?;
    Ok(password)
}

async fn give_to_postgres(room: &Path) -> Result<(), DevError> {
    let what = || format!("give {} to the user postgres", room.display());
    let output = Command::new("chown").args(["-R", "postgres:"]).arg(room).output().await;
    let output = output.context(what)?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    Err(io::Error::other(said)).context(what)
}
