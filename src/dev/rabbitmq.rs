//! The private RabbitMQ, with the port mapper daemon (epmd) that Erlang needs.

use std::net::Ipv4Addr;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::time::Duration;
use std::{fs, io};

use rustix::process::Signal;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::process::Command;

use super::error::{Context, DevError};
use super::programs::{Programs, bound, search_path};
use super::server::Server;

/// How long an orderly stop may take; it takes about 1 s.
const STOP_LIMIT: Duration = Duration::from_secs(10);

/// How often a start is tried again while the broker's port is taken.
const PORT_ATTEMPTS: usize = 8;

/// The pause between two such attempts.
const PORT_PAUSE: Duration = Duration::from_secs(2);

/// Where Debian keeps each version of RabbitMQ, with its plugins.
const VERSIONS: &str = "/usr/lib/rabbitmq/lib";

/// The plugin that is on, with which clients append to streams.
const STREAMS: &str = "rabbitmq_stream";

/// The folders of the plugin that is on, without their versions.
const LINKED: [&str; 3] = [STREAMS, "rabbitmq_stream_common", "rabbitmq_prelaunch"];

/// What an AMQP 0-9-1 client says first.
const AMQP_HEADER: &[u8] = b"AMQP\x00\x00\x09\x01";

/// The loopback ports of a RabbitMQ.
#[derive(Debug, Clone, Copy)]
pub struct RabbitPorts {
    pub amqp: u16,
    /// Where the plugin for streams listens.
    pub stream: u16,
    /// Where other Erlang nodes connect.
    pub distribution: u16,
    pub epmd: u16,
}

/// A RabbitMQ in a directory of its own.
pub struct RabbitMq {
    /// Its name as an Erlang node.
    pub node: String,
    programs: Programs,
    room: PathBuf,
    ports: RabbitPorts,
    plugins: Option<PathBuf>,
    server: Server,
    /// Started by us, not by Erlang, whose epmd is a daemon and outlives everything.
    epmd: Server,
}

impl RabbitMq {
    /// Writes the configuration into its directory.
    ///
    /// # Errors
    /// If the system refuses it.
    pub fn prepare(programs: &Programs, room: PathBuf, ports: RabbitPorts) -> Result<Self, DevError> {
        let RabbitPorts { amqp, stream, .. } = ports;
        // Clients of streams connect to where the broker says that it is.
        let configuration = format!(
            "listeners.tcp.1 = 127.0.0.1:{amqp}\ndisk_free_limit.absolute = 50MB\n\
             stream.listeners.tcp.1 = 127.0.0.1:{stream}\nstream.advertised_host = 127.0.0.1\n\
             stream.advertised_port = {stream}\n"
        );
        let enabled = format!("[{STREAMS}].\n");
        for (name, content) in [("rabbitmq.conf", &configuration), ("enabled_plugins", &enabled)] {
            let file = room.join(name);
            fs::write(&file, content).context(|| format!("write {}", file.display()))?;
        }
        let plugins = if programs.has_installed_rabbitmq() {
            without_plugins(&room.join("plugins")).context(|| format!("read {VERSIONS}"))?
        } else {
            None
        };
        let server = Server::new("RabbitMQ", room.join("rabbitmq.log"));
        let epmd = Server::new("epmd", room.join("epmd.log"));
        let node = "settled@localhost".to_owned();
        Ok(Self { node, programs: programs.clone(), room, ports, plugins, server, epmd })
    }

    /// Its URI, as user `guest` in the virtual host `/`.
    pub fn uri(&self) -> String {
        format!("amqp://guest:guest@127.0.0.1:{}/%2f", self.ports.amqp)
    }

    /// The loopback port for streams.
    pub fn stream_port(&self) -> u16 {
        self.ports.stream
    }

    /// Its process id, unless it is stopped.
    pub fn pid(&self) -> Option<u32> {
        self.server.pid()
    }

    /// Process ids of the broker and of its epmd, of those that were started.
    pub(super) fn pids(&self) -> impl Iterator<Item = u32> {
        [&self.server, &self.epmd].into_iter().filter_map(Server::pid)
    }

    /// Starts it and the port mapper, and waits until it speaks AMQP. Does nothing if it runs.
    pub(super) async fn start(&mut self) -> Result<(), DevError> {
        let ports = self.ports;
        if !self.epmd.is_running() {
            self.epmd.launch(self.command(&self.programs.epmd))?;
            self.epmd.ready(async || connect(ports.epmd).await).await?;
        }
        self.start_broker().await
    }

    /// Starts it where there is a port mapper, and waits until it speaks AMQP. Does nothing if it runs.
    ///
    /// While it is stopped its port is anybody's. Whoever has taken it is waited for, and
    /// shown: clients know the broker by this port, so there is no other.
    ///
    /// # Errors
    /// If it does not start, with the end of its log.
    pub async fn start_broker(&mut self) -> Result<(), DevError> {
        let port = self.ports.amqp;
        let mut attempts = 0;
        while !self.server.is_running() {
            self.server.launch(self.broker())?;
            match self.server.ready(async || speaks_amqp(port).await).await {
                Err(_) if attempts < PORT_ATTEMPTS && self.server.logged().contains("eaddrinuse") => {
                    eprintln!("port {port} is taken:\n{}", sockets_at(port).join("\n"));
                    tokio::time::sleep(PORT_PAUSE).await;
                    attempts += 1;
                }
                started => return started,
            }
        }
        Ok(())
    }

    /// Stops the broker in order. Does nothing if it does not run.
    pub(super) async fn stop(&mut self) -> Result<(), DevError> {
        self.server.stop(Signal::TERM, STOP_LIMIT).await
    }

    /// Kills the broker.
    ///
    /// # Errors
    /// If it can't be waited for.
    pub async fn kill(&mut self) -> Result<(), DevError> {
        self.server.kill().await
    }

    /// Ends epmd, which is needed for as long as the broker may be started again.
    pub(super) async fn kill_epmd(&mut self) -> Result<(), DevError> {
        self.epmd.kill().await
    }

    fn broker(&self) -> Command {
        let mut command = self.command(&self.programs.rabbitmq);
        command
            // The script then becomes the broker, instead of waiting for it: one process to signal.
            .env("RUNNING_UNDER_SYSTEMD", "true")
            .env("RABBITMQ_NODENAME", &self.node)
            .env("RABBITMQ_DIST_PORT", self.ports.distribution.to_string())
            .env("RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS", "-kernel inet_dist_use_interface {127,0,0,1}")
            // Not the settings in /etc of the system's own RabbitMQ.
            .env("RABBITMQ_CONF_ENV_FILE", "/dev/null")
            .env("RABBITMQ_CONFIG_FILE", self.room.join("rabbitmq.conf"))
            .env("RABBITMQ_ADVANCED_CONFIG_FILE", self.room.join("advanced.config"))
            .env("RABBITMQ_ENABLED_PLUGINS_FILE", self.room.join("enabled_plugins"))
            .env("RABBITMQ_MNESIA_BASE", self.room.join("mnesia"))
            .env("RABBITMQ_LOG_BASE", &self.room)
            .env("RABBITMQ_LOGS", "-")
            .env("ERL_CRASH_DUMP", self.room.join("erl_crash.dump"))
            .envs(self.plugins.as_ref().map(|plugins| ("RABBITMQ_PLUGINS_DIR", plugins)));
        command
    }

    /// A command with an environment that holds nothing of the caller's; its `NOTIFY_SOCKET`,
    /// say, would have RabbitMQ report to his systemd.
    fn command(&self, program: &Path) -> Command {
        let mut command = bound(program);
        command
            .current_dir(&self.room)
            .env_clear()
            .env("PATH", search_path())
            .env("LC_ALL", "C.UTF-8")
            // Where Erlang keeps its cookie.
            .env("HOME", &self.room)
            .env("ERL_EPMD_PORT", self.ports.epmd.to_string())
            .env("ERL_EPMD_ADDRESS", "127.0.0.1");
        command
    }
}

/// Links what RabbitMQ itself is made of, without the plugins but the one that is on. It looks for each
/// of its hundreds of modules in every folder there is, and takes a sixth less of a processor to start
/// where there are fewer. `None` where they are not as Debian has them: then it has all of them.
fn without_plugins(links: &Path) -> io::Result<Option<PathBuf>> {
    let Some(version) = fs::read_dir(VERSIONS).into_iter().flatten().flatten().next() else { return Ok(None) };
    let Ok(folders) = fs::read_dir(version.path().join("plugins")) else { return Ok(None) };
    // Those of a directory that was kept may be of another version.
    if links.exists() {
        fs::remove_dir_all(links)?;
    }
    fs::create_dir(links)?;
    for folder in folders {
        let folder = folder?;
        let name = folder.file_name();
        let is_off = |name: &str| name.starts_with("rabbitmq_") && !LINKED.contains(&without_version(name));
        if name.to_str().is_some_and(|name| !is_off(name)) {
            symlink(folder.path(), links.join(name))?;
        }
    }
    Ok(Some(links.to_owned()))
}

/// Returns the name of a plugin's folder without what follows the name, such as "-3.10.8" and ".ez".
fn without_version(folder: &str) -> &str {
    folder.split_once(['-', '.']).map_or(folder, |(name, _)| name)
}

async fn connect(port: u16) -> Option<TcpStream> {
    TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await.ok()
}

/// The kernel's lines about sockets at a local port.
fn sockets_at(port: u16) -> Vec<String> {
    let local = format!(":{port:04X} ");
    let table = std::fs::read_to_string("/proc/net/tcp").unwrap_or_default();
    table.lines().filter(|line| line.contains(&local)).map(str::to_owned).collect()
}

/// Whether the broker greets a client: an open port alone may belong to a broker that still boots.
async fn speaks_amqp(port: u16) -> Option<()> {
    let mut stream = connect(port).await?;
    stream.write_all(AMQP_HEADER).await.ok()?;
    // A method frame, Connection.Start. Another version of the protocol would be answered by "A".
    (stream.read_u8().await.ok()? == 1).then_some(())
}
