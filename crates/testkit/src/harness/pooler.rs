//! Runs a PgBouncer between a daemon and the private PostgreSQL.

use std::fs::{self, Permissions};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, Signal, geteuid, kill_process};
use tempfile::TempDir;
use tokio_postgres::config::Host;
use tokio_postgres::{Config, SimpleQueryMessage};

use super::{eventually, try_connect};

/// Environment variable with the path of a PgBouncer to use instead of Debian's.
const VARIABLE: &str = "SETTLED_TEST_PGBOUNCER";

/// Settings that PgBouncer tracks for each client, so clients may set them.
const TRACKED: &str = "'application_name', 'client_encoding', 'DateStyle', 'TimeZone', 'standard_conforming_strings'";

/// A running PgBouncer. Killed when dropped, and when the test's thread ends.
pub struct Pooler {
    child: Child,
    dir: TempDir,
    port: u16,
    server: String,
}

impl Pooler {
    /// Starts a PgBouncer for the server at `postgres_url`.
    pub async fn start(postgres_url: &str, mode: &str) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        fs::set_permissions(dir.path(), Permissions::from_mode(0o755)).expect("readable for another user");
        let port = TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr()).expect("a free port").port();
        configure(dir.path(), port, postgres_url, mode);
        let log = fs::File::create(dir.path().join("log")).expect("a log");
        let child = command(&dir.path().join("pgbouncer.ini")).stderr(log).spawn().expect("PgBouncer starts");
        let pooler = Self { child, dir, port, server: postgres_url.to_owned() };
        eventually("PgBouncer takes connections", async || try_connect(&pooler.url()).await.is_some()).await;
        pooler
    }

    /// Returns the connection URL of the server through the pooler.
    pub fn url(&self) -> String {
        let (start, rest) = self.server.rsplit_once(':').expect("a port");
        let (_, database) = rest.split_once('/').expect("a database");
        format!("{start}:{}/{database}", self.port)
    }

    /// Changes the pool mode while clients are connected.
    pub fn change(&self, mode: &str) {
        configure(self.dir.path(), self.port, &self.server, mode);
        let pid = Pid::from_raw(self.child.id().cast_signed()).expect("a process id");
        kill_process(pid, Signal::HUP).expect("PgBouncer is there");
    }

    /// Returns the settings that clients have left behind, checked on every server connection.
    pub async fn left_behind(&self) -> Vec<String> {
        let changed = format!(
            "SELECT name || ' = ' || setting FROM pg_settings WHERE source = 'session' AND name NOT IN ({TRACKED})
              UNION ALL SELECT current_setting('settled.session', true) WHERE current_setting('settled.session', true) <> ''"
        );
        let ask = async || {
            let client = try_connect(&self.url()).await.expect("a connection");
            // The sleep keeps the server connection busy, so that each client gets a different one.
            let messages = client.simple_query(&format!("SELECT pg_sleep(0.3); {changed}")).await.expect("settings");
            let told = messages.into_iter().filter_map(|message| match message {
                SimpleQueryMessage::Row(row) => row.get(0).filter(|told| !told.is_empty()).map(ToOwned::to_owned),
                _ => None,
            });
            told.collect::<Vec<_>>()
        };
        futures_util::future::join_all((0..8).map(|_| ask())).await.concat()
    }
}

impl Drop for Pooler {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("PgBouncer's log:\n{}", fs::read_to_string(self.dir.path().join("log")).unwrap_or_default());
        }
    }
}

fn configure(dir: &Path, port: u16, postgres_url: &str, mode: &str) {
    let server: Config = postgres_url.parse().expect("a PostgreSQL URL");
    let [Host::Tcp(host)] = server.get_hosts() else { panic!("one host: {postgres_url}") };
    let users = dir.join("users.txt");
    let password = String::from_utf8_lossy(server.get_password().unwrap_or_default()).into_owned();
    fs::write(&users, format!("\"{}\" \"{password}\"\n", server.get_user().expect("a user"))).expect("users");
    let settings = format!(
        "[databases]\n* = host={host} port={}\n[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\n\
         unix_socket_dir =\nauth_type = trust\nauth_file = {}\npool_mode = {mode}\ndefault_pool_size = 40\n",
        server.get_ports()[0],
        users.display()
    );
    fs::write(dir.join("pgbouncer.ini"), settings).expect("its configuration");
}

/// Returns the command. PgBouncer refuses to run as root, and must not outlive the test.
fn command(settings: &Path) -> Command {
    let program = std::env::var_os(VARIABLE).map_or_else(|| PathBuf::from("/usr/sbin/pgbouncer"), PathBuf::from);
    let mut command = Command::new("setpriv");
    if geteuid().is_root() {
        command.args(["--reuid", "postgres", "--regid", "postgres", "--init-groups"]);
    }
    command.args(["--pdeathsig", "KILL", "--"]).arg(program).arg(settings);
    command.current_dir("/").stdin(Stdio::null()).stdout(Stdio::null());
    command
}
