//! A private PostgreSQL and a private RabbitMQ for `settled dev`, the tests and the load test.
//!
//! Nothing of them is shared with servers of the system: they have a directory and loopback
//! ports of their own, and both go when the process that wanted them ends, in whatever way.
//! That is the work of the [`guardian`], a process of this same binary between the two;
//! [`PrivateServers`] is its handle.

mod error;
pub mod guardian;
mod orphans;
mod place;
mod postgres;
mod programs;
mod rabbitmq;
mod server;
mod wire;

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, ExitCode, Stdio};
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::task::spawn_blocking;

pub use error::{Context, DevError};
pub use place::{Place, Ports};
pub use postgres::{NAME, Postgres, connect};
pub use programs::{Programs, check_programs, is_root, missing, postgres_program, rabbitmq_program};
pub use rabbitmq::{RabbitMq, RabbitPorts};
pub use server::Server;
pub use wire::StopMode;

use wire::{Answer, Order, Status};

/// The verb of the binary that runs the [`guardian`].
pub const VERB: &str = "dev-servers";

/// Where the servers keep their data.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct ServersOptions {
    /// The directory; a new temporary one if none is given.
    #[arg(long)]
    pub dir: Option<PathBuf>,
    /// Keeps the directory at the end, and uses what an earlier run kept in it. Without it a
    /// directory that is given must be empty, and its content is removed at the end.
    #[arg(long)]
    pub keep: bool,
}

/// Runs the [`guardian`] of a PostgreSQL and a RabbitMQ. See [`guardian::run`].
pub async fn guard(options: &ServersOptions) -> ExitCode {
    let prepare = async |programs: &_, place: &_, [port, _]: [u16; 2]| Postgres::prepare(programs, place, port).await;
    guardian::run(options, true, prepare).await
}

/// A running PostgreSQL and a running RabbitMQ, for as long as this value lives.
///
/// Dropping it lets the servers end in the background; [`shutdown`](Self::shutdown) waits for
/// that. It is tied to no tokio runtime: a `static` can hold it for tests that have one each,
/// and though statics are never dropped the servers end with the process.
///
/// What stops and starts a server fails with [`DevError::Guardian`] if the guardian could not do it, with the end of the
/// server's log, or is gone.
#[derive(Debug)]
pub struct PrivateServers {
    /// As it was when the servers were ready: they keep their places.
    first: Status,
    guardian_pid: u32,
    shared: Arc<Shared>,
}

/// What the blocking thread that talks to the guardian uses.
#[derive(Debug)]
struct Shared {
    link: Mutex<Link>,
    /// Apart from the link, so that it can be read while a command is being carried out.
    status: Mutex<Status>,
}

/// The guardian and the pipes to it. Closing its standard input is what ends it.
#[derive(Debug)]
struct Link {
    guardian: Child,
    stdin: Option<ChildStdin>,
    stdout: BufReader<ChildStdout>,
}

impl PrivateServers {
    /// Starts the servers through `settled_binary` and waits until they are ready, 4 s or so.
    ///
    /// # Errors
    /// If a program is missing, the directory cannot be used, or a server does not start; the
    /// error quotes the end of its log.
    pub async fn start(settled_binary: &Path, options: &ServersOptions) -> Result<Self, DevError> {
        let mut command = Command::new(settled_binary);
        command.arg(VERB);
        if let Some(dir) = &options.dir {
            command.arg("--dir").arg(dir);
        }
        if options.keep {
            command.arg("--keep");
        }
        Self::guarded_by(command).await
    }

    /// Starts the servers with the guardian that `command` runs, and waits until they are ready.
    ///
    /// # Errors
    /// As [`PrivateServers::start`].
    pub async fn guarded_by(command: Command) -> Result<Self, DevError> {
        check_programs()?;
        blocking(move || Self::launch(command)).await
    }

    /// The broker, as user `guest` in the virtual host `/`.
    pub fn amqp_uri(&self) -> &str {
        &self.first.amqp_uri
    }

    /// The broker's port for streams, on the same address and for the same user.
    pub fn stream_port(&self) -> u16 {
        self.first.stream_port
    }

    /// The empty database `settled`, as its owner and superuser `settled`.
    pub fn postgres_url(&self) -> &str {
        &self.first.postgres_url
    }

    /// The directory with the data and logs of both servers.
    pub fn dir(&self) -> &Path {
        &self.first.dir
    }

    /// The process id of PostgreSQL's postmaster, unless it is stopped.
    pub fn postgres_pid(&self) -> Option<u32> {
        self.shared.status.lock().postgres_pid
    }

    /// The process ids of further servers that run.
    pub fn other_pids(&self) -> Vec<u32> {
        self.shared.status.lock().other_pids.clone()
    }

    /// The process id of the broker, unless it is stopped.
    pub fn rabbitmq_pid(&self) -> Option<u32> {
        self.shared.status.lock().rabbitmq_pid
    }

    /// The process id of the guardian.
    pub fn guardian_pid(&self) -> u32 {
        self.guardian_pid
    }

    /// Stops PostgreSQL and waits until it has ended. Nothing happens if it is stopped already.
    pub async fn stop_postgres(&self, mode: StopMode) -> Result<(), DevError> {
        self.order(Order::StopPostgres(mode)).await
    }

    /// Starts PostgreSQL again, on the same port and data, and waits until it is ready. If it runs
    /// it is waited for only.
    pub async fn start_postgres(&self) -> Result<(), DevError> {
        self.order(Order::StartPostgres).await
    }

    /// Has the databases carry out an order of their own: see [`guardian::Databases::obey`].
    pub async fn order_databases(&self, words: &str) -> Result<(), DevError> {
        self.order(Order::Databases(words.to_owned())).await
    }

    /// Stops RabbitMQ in order and waits until it has ended. Nothing happens if it is stopped
    /// already.
    pub async fn stop_rabbitmq(&self) -> Result<(), DevError> {
        self.order(Order::StopRabbitmq).await
    }

    /// Kills RabbitMQ with SIGKILL and waits until it has ended.
    pub async fn kill_rabbitmq(&self) -> Result<(), DevError> {
        self.order(Order::KillRabbitmq).await
    }

    /// Starts RabbitMQ again, on the same port and data, and waits until it is ready.
    /// Nothing happens if it runs.
    pub async fn start_rabbitmq(&self) -> Result<(), DevError> {
        self.order(Order::StartRabbitmq).await
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
                Ok(Answer::Err(error)) => Err(DevError::Guardian(error)),
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
        let first = link.answer().inspect_err(|_| {
            drop(link.stdin.take());
            // So that it is no zombie; it ends by itself after a failed start.
            let _ = link.guardian.wait();
        })?;
        let shared = Shared { link: Mutex::new(link), status: Mutex::new(first.clone()) };
        Ok(Self { first, guardian_pid, shared: Arc::new(shared) })
    }

    /// Has the guardian carry out `order`. If the future is dropped the order is carried out
    /// nevertheless, and the next one waits for it.
    async fn order(&self, order: Order) -> Result<(), DevError> {
        let shared = Arc::clone(&self.shared);
        blocking(move || {
            let mut link = shared.link.lock();
            let status = link.ask(&order)?;
            *shared.status.lock() = status;
            Ok(())
        })
        .await
    }
}

impl Link {
    fn ask(&mut self, order: &Order) -> Result<Status, DevError> {
        let Some(stdin) = &mut self.stdin else {
            return Err(gone());
        };
        let order = serde_json::to_string(order).map_err(|error| DevError::Guardian(error.to_string()))?;
        writeln!(stdin, "{order}").map_err(|_| gone())?;
        self.answer()
    }

    fn answer(&mut self) -> Result<Status, DevError> {
        let mut line = String::new();
        match self.stdout.read_line(&mut line) {
            Ok(1..) => serde_json::from_str::<Answer>(&line)
                .map_err(|error| DevError::Guardian(format!("unclear answer {line:?}: {error}")))?
                .map_err(DevError::Guardian),
            Ok(0) | Err(_) => Err(gone()),
        }
    }
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
