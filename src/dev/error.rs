//! What can go wrong with the private servers, said so that a developer knows what to do.

use std::io;
use std::path::PathBuf;

/// Why the private servers could not be started, steered or ended.
#[derive(Debug, thiserror::Error)]
pub enum DevError {
    /// A program of the servers is not on this machine.
    #[error("{program} is not installed; on Debian: apt-get install {package}")]
    Missing { program: &'static str, package: &'static str },
    /// The directory asked for holds something, and nobody said that it may be used.
    #[error(
        "{} is not empty; with --keep its servers are used and kept, without it they would be removed",
        .0.display()
    )]
    NotEmpty(PathBuf),
    /// Another guardian works in the directory.
    #[error("{} is in use by other private servers", .0.display())]
    InUse(PathBuf),
    /// No loopback port could be found for a server.
    #[error("no free port on 127.0.0.1")]
    NoPort,
    /// A server ended, or did not become ready in time.
    #[error("{server} {problem}; the end of {}:\n{tail}", .log.display())]
    Server {
        server: &'static str,
        problem: String,
        log: PathBuf,
        /// The last lines it logged since it was started.
        tail: String,
    },
    /// PostgreSQL is up and refuses what the guardian asks of it.
    #[error("PostgreSQL: {0}")]
    Postgres(#[from] tokio_postgres::Error),
    /// The operating system refused something.
    #[error("cannot {what}: {source}")]
    Io { what: String, source: io::Error },
    /// Options that cannot be had, or not together.
    #[error("private servers: {0}")]
    Options(&'static str),
    /// `rabbitmqctl` did not do what it was asked.
    #[error("rabbitmqctl {arguments}: {problem}")]
    Rabbitmqctl { arguments: String, problem: String },
    /// The guardian answered with an error, or not at all.
    #[error("private servers: {0}")]
    Guardian(String),
}

/// Names what was tried when the operating system refuses it.
pub trait Context<T> {
    fn context(self, what: impl FnOnce() -> String) -> Result<T, DevError>;
}

impl<T, E: Into<io::Error>> Context<T> for Result<T, E> {
    fn context(self, what: impl FnOnce() -> String) -> Result<T, DevError> {
        self.map_err(|source| DevError::Io { what: what(), source: source.into() })
    }
}
