//! The private servers of `settled dev`, with additions for tests: a PostgreSQL whose disk can be filled, a standby,
//! a broker that is not started, and `rabbitmqctl`.
//!
//! [`guard`] runs the guardian of such servers. It needs a process of its own: `settled-test-servers`, or another
//! binary that calls it first for the verb [`VERB`].

mod cluster;
mod disk;
mod nodes;
mod rabbitmqctl;
mod standby;

use std::ops::Deref;
use std::path::Path;
use std::process::{Command, ExitCode};

use clap::Parser;
use settled::dev;
use settled::dev::{DevError, guardian};

use self::cluster::Cluster;
pub use self::nodes::Node;
pub use settled::dev::{StopMode, VERB};

/// The name of the broker as an Erlang node.
pub const FIRST_NODE: &str = "settled@localhost";

/// What the servers are to be like. Nothing of them is kept.
#[derive(Clone, Debug, Default, Parser)]
pub struct ServersOptions {
    /// Gives PostgreSQL a disk of this many bytes, which can be filled. It is a file system in
    /// memory, so it needs root. 200 MB are enough for a start.
    #[arg(long, value_name = "BYTES")]
    pub postgres_space: Option<u64>,
    /// Has a second PostgreSQL that follows the first one: a commit waits until it is durable on
    /// both.
    #[arg(long)]
    pub standby: bool,
    /// Leaves the broker stopped, which takes longest to start; it can be started later.
    #[arg(long)]
    pub without_broker: bool,
}

impl ServersOptions {
    /// Returns the command that starts the guardian with these options.
    fn command(&self, guardian: &Path) -> Command {
        let mut command = match self.postgres_space {
            None => Command::new(guardian),
            // With a mount namespace of its own, the kernel unmounts the disk when the last process ends.
            Some(_) => {
                let mut command = Command::new("unshare");
                command.args(["--mount", "--propagation", "private", "--"]).arg(guardian);
                command
            }
        };
        command.arg(VERB);
        if let Some(bytes) = self.postgres_space {
            command.arg("--postgres-space").arg(bytes.to_string());
        }
        let flags = [(self.standby, "--standby"), (self.without_broker, "--without-broker")];
        command.args(flags.into_iter().filter_map(|(is_set, flag)| is_set.then_some(flag)));
        command
    }
}

/// Runs the guardian with the options of the command line until its standard input is closed. Must be called on the
/// main thread: the servers end with the thread that started them.
pub async fn guard() -> ExitCode {
    let options = ServersOptions::parse_from(std::env::args_os().skip(1));
    let prepare = async |programs: &_, place: &_, ports| Cluster::prepare(programs, place, ports, &options).await;
    guardian::run(&dev::ServersOptions::default(), !options.without_broker, prepare).await
}

/// Running private servers, stopped when the value is dropped.
#[derive(Debug)]
pub struct PrivateServers(dev::PrivateServers);

impl Deref for PrivateServers {
    type Target = dev::PrivateServers;

    fn deref(&self) -> &dev::PrivateServers {
        &self.0
    }
}

/// The commands fail with [`DevError::Guardian`] if there is no such server or disk, or if they take too long.
impl PrivateServers {
    /// Starts the servers that `options` ask for, and waits about 4 s until they are ready. `guardian` is a binary
    /// that calls [`guard`].
    pub async fn start(guardian: &Path, options: &ServersOptions) -> Result<Self, DevError> {
        if options.postgres_space.is_some() && !dev::is_root() {
            return Err(DevError::Options("a disk of its own for PostgreSQL needs root"));
        }
        dev::PrivateServers::guarded_by(options.command(guardian)).await.map(Self)
    }

    /// Returns the process id of the standby's postmaster, or `None` if no standby is running.
    pub fn standby_pid(&self) -> Option<u32> {
        self.0.other_pids().first().copied()
    }

    /// Fills PostgreSQL's disk, see [`ServersOptions::postgres_space`], to the last byte. PostgreSQL may then end by
    /// itself, because it can't write WAL any more.
    pub async fn fill_postgres_disk(&self) -> Result<(), DevError> {
        self.0.order_databases("disk fill").await
    }

    /// Frees the space again. If PostgreSQL has ended, it is not restarted.
    pub async fn free_postgres_disk(&self) -> Result<(), DevError> {
        self.0.order_databases("disk free").await
    }

    /// Stops the primary immediately and promotes the standby. Waits until it accepts writes. Its commits don't wait
    /// for a standby until there is one again.
    pub async fn promote(&self) -> Result<(), DevError> {
        self.0.order_databases("standby promote").await
    }

    /// Makes the stopped PostgreSQL a standby of the other one, from a copy. Waits until commits wait for it again.
    pub async fn rebuild_standby(&self) -> Result<(), DevError> {
        self.0.order_databases("standby rebuild").await
    }

    /// Disconnects the standby from the primary, as a network failure does. Commits still wait for it, until
    /// [`rejoin_standby`](Self::rejoin_standby).
    pub async fn cut_standby(&self) -> Result<(), DevError> {
        self.0.order_databases("standby cut").await
    }

    /// Reconnects the standby. Waits until commits are durable on both servers.
    pub async fn rejoin_standby(&self) -> Result<(), DevError> {
        self.0.order_databases("standby rejoin").await
    }

    /// Runs `rabbitmqctl` and returns its output. Fails with [`DevError::Rabbitmqctl`] if the broker is not running.
    pub async fn rabbitmqctl(&self, arguments: &[&str]) -> Result<String, DevError> {
        rabbitmqctl::run(FIRST_NODE, self.rabbitmq_pid(), arguments).await
    }

    /// Starts another node of the broker and has it join. `number` is nobody else's.
    pub async fn join_node(&self, number: u32) -> Result<Node, DevError> {
        Node::join(self.dir(), self.rabbitmq_pid(), number).await
    }

    /// Stops the servers, removes their directory, and waits until that is done. An error names what is left.
    pub async fn shutdown(self) -> Result<(), DevError> {
        self.0.shutdown().await
    }
}
