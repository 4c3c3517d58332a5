//! A private PostgreSQL and a private RabbitMQ for `settled dev`, the tests and the load test.
//!
//! Nothing of them is shared with servers of the system: they have a directory and loopback
//! ports of their own, and both go when the process that wanted them ends, in whatever way.
//! That is the work of the [`guardian`], a process of this same binary between the two;
//! [`PrivateServers`] is its handle.

mod cluster;
mod disk;
mod error;
pub mod guardian;
mod place;
mod postgres;
mod programs;
pub mod proxy;
mod rabbitmq;
mod rabbitmqctl;
mod server;
mod standby;
mod wire;

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::task::spawn_blocking;

pub use error::DevError;
pub use programs::check_programs;
pub use wire::StopMode;

use error::Context;
use wire::{Answer, Command as Order, Endpoints, Pids};

/// The verb of the binary that runs the [`guardian`].
pub const VERB: &str = "dev-servers";

/// Where the servers keep their data, and what they are to be like.
#[derive(Debug, Clone, Default)]
pub struct ServersOptions {
    /// The directory; a new temporary one if none is given.
    pub dir: Option<PathBuf>,
    /// Keeps the directory at the end, and uses what an earlier run kept in it. Without it a
    /// directory that is given must be empty, and its content is removed at the end.
    pub keep: bool,
    /// Gives PostgreSQL a disk of this many bytes, which can be filled. It is a file system in
    /// memory, so it needs root and cannot be kept. 200 MB are enough for a start.
    pub postgres_space: Option<u64>,
    /// Has a second PostgreSQL that follows the first one: a commit waits until it is durable on
    /// both. Cannot be kept.
    pub standby: bool,
    /// Leaves the broker stopped, which takes longest to start; it can be started later.
    pub without_broker: bool,
}

impl ServersOptions {
    /// How the guardian is started with these options.
    fn command(&self, settled_binary: &Path) -> Command {
        let mut command = match self.postgres_space {
            None => Command::new(settled_binary),
            // Mounts of its own: however it ends, the kernel unmounts with the last process.
            Some(_) => {
                let mut command = Command::new("unshare");
                command.args(["--mount", "--propagation", "private", "--"]).arg(settled_binary);
                command
            }
        };
        command.arg(VERB);
        if let Some(dir) = &self.dir {
            command.arg("--dir").arg(dir);
        }
        if let Some(bytes) = self.postgres_space {
            command.arg("--postgres-space").arg(bytes.to_string());
        }
        let flags = [(self.keep, "--keep"), (self.standby, "--standby"), (self.without_broker, "--without-broker")];
        command.args(flags.into_iter().filter_map(|(is_set, flag)| is_set.then_some(flag)));
        command
    }
}

/// A running PostgreSQL and a running RabbitMQ, for as long as this value lives.
///
/// Dropping it lets the servers end in the background; [`shutdown`](Self::shutdown) waits for
/// that. It is tied to no tokio runtime: a `static` can hold it for tests that have one each,
/// and though statics are never dropped the servers end with the process.
#[derive(Debug)]
pub struct PrivateServers {
    endpoints: Endpoints,
    guardian_pid: u32,
    shared: Arc<Shared>,
}

/// What the blocking thread that talks to the guardian uses.
#[derive(Debug)]
struct Shared {
    link: Mutex<Link>,
    /// Apart from the link, so that it can be read while a command is being carried out.
    pids: Mutex<Pids>,
}

/// The guardian and the pipes to it. Closing its standard input is what ends it.
#[derive(Debug)]
struct Link {
    guardian: Child,
    stdin: Option<ChildStdin>,
    stdout: BufReader<ChildStdout>,
}

impl PrivateServers {
    /// Starts the servers that `options` ask for through `settled_binary` and waits until they are
    /// ready, 4 s or so.
    ///
    /// # Errors
    /// If a program is missing, the directory cannot be used, or a server does not start; the
    /// error quotes the end of its log.
    pub async fn start(settled_binary: &Path, options: &ServersOptions) -> Result<Self, DevError> {
        check_programs()?;
        check_options(options)?;
        let command = options.command(settled_binary);
        blocking(move || Self::launch(command)).await
    }

    /// The broker, as user `guest` in the virtual host `/`.
    pub fn amqp_uri(&self) -> &str {
        &self.endpoints.amqp_uri
    }

    /// The empty database `settled`, as its owner and superuser `settled`. With a standby it names
    /// both servers, and asks for the one that takes writes.
    pub fn postgres_url(&self) -> &str {
        &self.endpoints.postgres_url
    }

    /// The directory with the data and logs of both servers.
    pub fn dir(&self) -> &Path {
        &self.endpoints.dir
    }

    /// The process id of PostgreSQL's postmaster, unless it is stopped; of two, the one that takes
    /// writes.
    pub fn postgres_pid(&self) -> Option<u32> {
        self.shared.pids.lock().postgres_pid
    }

    /// The process id of the standby's postmaster, unless there is none that runs.
    pub fn standby_pid(&self) -> Option<u32> {
        self.shared.pids.lock().standby_pid
    }

    /// The process id of the broker, unless it is stopped.
    pub fn rabbitmq_pid(&self) -> Option<u32> {
        self.shared.pids.lock().rabbitmq_pid
    }

    /// The process id of the guardian.
    pub fn guardian_pid(&self) -> u32 {
        self.guardian_pid
    }

    /// Stops PostgreSQL and waits until it has ended. Nothing happens if it is stopped already.
    ///
    /// # Errors
    /// [`DevError::Guardian`] if the guardian could not do it or is gone.
    pub async fn stop_postgres(&self, mode: StopMode) -> Result<(), DevError> {
        self.order(Order::PostgresStop(mode)).await
    }

    /// Starts PostgreSQL again, on the same port and data, and waits until it is ready. If it runs
    /// it is waited for only.
    ///
    /// # Errors
    /// [`DevError::Guardian`] if it does not start, with the end of its log.
    pub async fn start_postgres(&self) -> Result<(), DevError> {
        self.order(Order::PostgresStart).await
    }

    /// Fills PostgreSQL's disk, see [`ServersOptions::postgres_space`], to the last byte. It may end
    /// by itself then: nothing can be written to its log of changes any more.
    ///
    /// # Errors
    /// [`DevError::Guardian`] if it has no disk of its own.
    pub async fn fill_postgres_disk(&self) -> Result<(), DevError> {
        self.order(Order::DiskFill).await
    }

    /// Gives the space back. PostgreSQL is not started if it has ended.
    ///
    /// # Errors
    /// [`DevError::Guardian`] if it has no disk of its own.
    pub async fn free_postgres_disk(&self) -> Result<(), DevError> {
        self.order(Order::DiskFree).await
    }

    /// Stops the PostgreSQL that takes writes, immediately, and promotes the standby; waits until
    /// that takes writes. It waits for no standby of its own until there is one again.
    ///
    /// # Errors
    /// [`DevError::Guardian`] if there is no standby that runs.
    pub async fn promote(&self) -> Result<(), DevError> {
        self.order(Order::Promote).await
    }

    /// Makes the PostgreSQL that was stopped a standby of the other one, from a copy; waits until
    /// commits wait for it again.
    ///
    /// # Errors
    /// [`DevError::Guardian`] if there is only one, or it does not get that far.
    pub async fn rebuild_standby(&self) -> Result<(), DevError> {
        self.order(Order::Rebuild).await
    }

    /// Cuts the standby off from the PostgreSQL that takes writes, as a broken network does. Commits wait
    /// for it nevertheless, until [`rejoin_standby`](Self::rejoin_standby).
    ///
    /// # Errors
    /// [`DevError::Guardian`] if there is no standby that runs.
    pub async fn cut_standby(&self) -> Result<(), DevError> {
        self.order(Order::Cut).await
    }

    /// Has the standby follow again; waits until commits are durable on both.
    ///
    /// # Errors
    /// [`DevError::Guardian`] if it does not get that far.
    pub async fn rejoin_standby(&self) -> Result<(), DevError> {
        self.order(Order::Rejoin).await
    }

    /// Runs RabbitMQ's `rabbitmqctl`; answers what it says.
    ///
    /// # Errors
    /// [`DevError::Rabbitmqctl`] if it fails, or the broker does not run.
    pub async fn rabbitmqctl(&self, arguments: &[&str]) -> Result<String, DevError> {
        rabbitmqctl::run(self.rabbitmq_pid(), arguments).await
    }

    /// Stops RabbitMQ in order and waits until it has ended. Nothing happens if it is stopped
    /// already.
    ///
    /// # Errors
    /// [`DevError::Guardian`] if the guardian could not do it or is gone.
    pub async fn stop_rabbitmq(&self) -> Result<(), DevError> {
        self.order(Order::RabbitStop).await
    }

    /// Kills RabbitMQ with SIGKILL and waits until it has ended.
    ///
    /// # Errors
    /// [`DevError::Guardian`] if the guardian could not do it or is gone.
    pub async fn kill_rabbitmq(&self) -> Result<(), DevError> {
        self.order(Order::RabbitKill).await
    }

    /// Starts RabbitMQ again, on the same port and data, and waits until it is ready.
    /// Nothing happens if it runs.
    ///
    /// # Errors
    /// [`DevError::Guardian`] if it does not start, with the end of its log.
    pub async fn start_rabbitmq(&self) -> Result<(), DevError> {
        self.order(Order::RabbitStart).await
    }

    /// Stops both servers, removes their directory unless it is kept, and waits for all of it.
    ///
    /// # Errors
    /// [`DevError::Guardian`] if something was left, with what.
    pub async fn shutdown(self) -> Result<(), DevError> {
        blocking(move || {
            let mut link = self.shared.link.lock();
            // The end of its input is what ends the guardian.
            link.stdin = None;
            let mut last_words = String::new();
            let status = link.stdout.read_to_string(&mut last_words).and(link.guardian.wait());
            let status = status.context(|| "wait for the servers' guardian".into())?;
            match serde_json::from_str(&last_words) {
                Ok(Answer::Failed { error }) => Err(DevError::Guardian(error)),
                _ if !status.success() => Err(DevError::Guardian(format!("ended with {status}"))),
                _ => Ok(()),
            }
        })
        .await
    }

    /// Starts the guardian and waits for its first line.
    fn launch(mut command: Command) -> Result<Self, DevError> {
        let mut guardian = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            // Ctrl-C in a terminal reaches us alone: we end, and then the guardian does.
            .process_group(0)
            .spawn()
            .context(|| format!("start {}", command.get_program().display()))?;
        let guardian_pid = guardian.id();
        let (Some(stdin), Some(stdout)) = (guardian.stdin.take(), guardian.stdout.take()) else {
            return Err(DevError::Guardian("has no pipes".into()));
        };
        let mut link = Link { guardian, stdin: Some(stdin), stdout: BufReader::new(stdout) };
        match link.answer()? {
            Answer::Ready { endpoints, pids } => {
                let shared = Shared { link: Mutex::new(link), pids: Mutex::new(pids) };
                Ok(Self { endpoints, guardian_pid, shared: Arc::new(shared) })
            }
            other => {
                drop(link.stdin);
                // So that it is no zombie; it ends by itself after a failed start.
                let _ = link.guardian.wait();
                Err(other.into_error())
            }
        }
    }

    /// Has the guardian carry out `order`. If the future is dropped the order is carried out
    /// nevertheless, and the next one waits for it.
    async fn order(&self, order: Order) -> Result<(), DevError> {
        let shared = Arc::clone(&self.shared);
        blocking(move || {
            let mut link = shared.link.lock();
            match link.ask(order)? {
                Answer::Done { pids, .. } => {
                    *shared.pids.lock() = pids;
                    Ok(())
                }
                other => Err(other.into_error()),
            }
        })
        .await
    }
}

impl Link {
    fn ask(&mut self, order: Order) -> Result<Answer, DevError> {
        let Some(stdin) = &mut self.stdin else {
            return Err(gone());
        };
        writeln!(stdin, "{order}").map_err(|_| gone())?;
        self.answer()
    }

    fn answer(&mut self) -> Result<Answer, DevError> {
        let mut line = String::new();
        match self.stdout.read_line(&mut line) {
            Ok(1..) => serde_json::from_str(&line)
                .map_err(|error| DevError::Guardian(format!("unclear answer {line:?}: {error}"))),
            Ok(0) | Err(_) => Err(gone()),
        }
    }
}

impl Answer {
    fn into_error(self) -> DevError {
        match self {
            Self::Failed { error } => DevError::Guardian(error),
            other => DevError::Guardian(format!("unexpected answer {other:?}")),
        }
    }
}

/// What is in memory is not kept; and of two servers it would not be known which one was the last
/// to take writes.
fn check_options(options: &ServersOptions) -> Result<(), DevError> {
    if options.postgres_space.is_some() && !programs::is_root() {
        return Err(DevError::Options("a disk of its own for PostgreSQL needs root"));
    }
    if options.keep && (options.standby || options.postgres_space.is_some()) {
        return Err(DevError::Options("neither a standby nor a disk of its own can be kept"));
    }
    Ok(())
}

fn gone() -> DevError {
    DevError::Guardian("their guardian has ended".into())
}

/// Runs `work`, which waits for the guardian, where it holds up no other task.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, DevError> + Send + 'static,
) -> Result<T, DevError> {
    spawn_blocking(work).await.unwrap_or_else(|error| Err(DevError::Guardian(format!("cannot be waited for: {error}"))))
}
