//! A private PostgreSQL and a private RabbitMQ for `settled dev`, the tests and the load test.
//!
//! Nothing of them is shared with servers of the system: they have a directory and loopback
//! ports of their own, and both go when the process that wanted them ends, in whatever way.
//! That is the work of the [`guardian`], a process of this same binary between the two;
//! [`PrivateServers`] is its handle.

mod error;
pub mod guardian;
mod place;
mod postgres;
mod programs;
mod rabbitmq;
mod server;
mod wire;

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::task::spawn_blocking;

pub use error::{Context, DevError};
pub use place::Place;
pub use postgres::{NAME, Postgres, connect};
pub use programs::{Programs, check_programs, is_root, missing, postgres_program};
pub use server::Server;
pub use wire::StopMode;

use wire::{Answer, Command as Order, Endpoints, Pids};

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
        &self.endpoints.amqp_uri
    }

    /// The empty database `settled`, as its owner and superuser `settled`.
    pub fn postgres_url(&self) -> &str {
        &self.endpoints.postgres_url
    }

    /// The directory with the data and logs of both servers.
    pub fn dir(&self) -> &Path {
        &self.endpoints.dir
    }

    /// The process id of PostgreSQL's postmaster, unless it is stopped.
    pub fn postgres_pid(&self) -> Option<u32> {
        self.shared.pids.lock().postgres_pid
    }

    /// The process ids of further servers that run.
    pub fn other_pids(&self) -> Vec<u32> {
        self.shared.pids.lock().others.clone()
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

    /// Has the databases carry out an order of their own: see [`guardian::Databases::obey`].
    ///
    /// # Errors
    /// [`DevError::Guardian`] if they could not.
    pub async fn order_databases(&self, words: &str) -> Result<(), DevError> {
        self.order(Order::Databases(words.to_owned())).await
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

fn gone() -> DevError {
    DevError::Guardian("their guardian has ended".into())
}

/// Runs `work`, which waits for the guardian, where it holds up no other task.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, DevError> + Send + 'static,
) -> Result<T, DevError> {
    spawn_blocking(work).await.unwrap_or_else(|error| Err(DevError::Guardian(format!("cannot be waited for: {error}"))))
}
