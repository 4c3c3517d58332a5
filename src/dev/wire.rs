//! What the handle and the guardian say to each other: commands as words, one a line, so that
//! a person can type them; answers as JSON, one a line.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// How PostgreSQL is made to stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StopMode {
    /// Sessions are ended, a checkpoint is written: the orderly end.
    Fast,
    /// Sessions are cut off without a checkpoint; the next start recovers from the log.
    Immediate,
    /// SIGKILL, as the out-of-memory killer does it.
    Kill,
}

/// What the guardian can be told to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Command {
    PostgresStop(StopMode),
    PostgresStart,
    RabbitStop,
    RabbitKill,
    RabbitStart,
    /// An order that the databases know.
    Databases(String),
}

/// How an order to the databases begins.
const DATABASES: &str = "databases ";

/// Every command with its words; both directions read this one table.
const WORDS: [(Command, &str); 7] = [
    (Command::PostgresStop(StopMode::Fast), "postgres stop fast"),
    (Command::PostgresStop(StopMode::Immediate), "postgres stop immediate"),
    (Command::PostgresStop(StopMode::Kill), "postgres stop kill"),
    (Command::PostgresStart, "postgres start"),
    (Command::RabbitStop, "rabbitmq stop"),
    (Command::RabbitKill, "rabbitmq kill"),
    (Command::RabbitStart, "rabbitmq start"),
];

impl fmt::Display for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Self::Databases(words) = self {
            return write!(f, "{DATABASES}{words}");
        }
        let words = WORDS.iter().find(|(command, _)| command == self).map(|(_, words)| *words);
        f.write_str(words.unwrap_or("?"))
    }
}

impl FromStr for Command {
    type Err = String;

    fn from_str(line: &str) -> Result<Self, String> {
        if let Some(words) = line.strip_prefix(DATABASES) {
            return Ok(Self::Databases(words.trim().to_owned()));
        }
        let given: Vec<&str> = line.split_whitespace().collect();
        WORDS
            .iter()
            .find(|(_, words)| words.split(' ').eq(given.iter().copied()))
            .map(|(command, _)| command.clone())
            .ok_or_else(|| {
                let known: Vec<&str> = WORDS.iter().map(|(_, words)| *words).collect();
                format!("unknown command {line:?}; known are: {}", known.join(", "))
            })
    }
}

/// The process ids of the servers; none while a server is stopped.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Pids {
    pub(super) postgres_pid: Option<u32>,
    pub(super) rabbitmq_pid: Option<u32>,
    pub(super) others: Vec<u32>,
}

/// Where the servers are; the same for as long as the guardian lives.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Endpoints {
    pub(super) amqp_uri: String,
    pub(super) postgres_url: String,
    pub(super) dir: PathBuf,
}

/// One line of the guardian.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub(super) enum Answer {
    /// The first line: both servers are ready.
    Ready {
        #[serde(flatten)]
        endpoints: Endpoints,
        #[serde(flatten)]
        pids: Pids,
    },
    /// A command was carried out.
    Done {
        ok: bool,
        #[serde(flatten)]
        pids: Pids,
    },
    /// The start or a command failed.
    Failed { error: String },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_is_read_back_from_its_words() {
        for (command, words) in WORDS {
            assert_eq!(command.to_string(), words);
            assert_eq!(words.parse(), Ok(command));
        }
        let order = Command::Databases("split up".into());
        assert_eq!((order.to_string(), "databases split up".parse()), ("databases split up".to_owned(), Ok(order)));
        assert_eq!(" postgres  start\r".parse(), Ok(Command::PostgresStart));
        assert!("postgres".parse::<Command>().is_err_and(|error| error.contains("rabbitmq kill")));
    }

    #[test]
    fn every_answer_is_read_back_from_its_line() {
        let pids = Pids { postgres_pid: Some(1), rabbitmq_pid: None, others: vec![2] };
        let endpoints = Endpoints {
            amqp_uri: "amqp://guest:guest@127.0.0.1:1/%2f".into(),
            postgres_url: "postgresql://settled:x@127.0.0.1:2/settled".into(),
            dir: "/tmp/x".into(),
        };
        for answer in [
            Answer::Ready { endpoints, pids: pids.clone() },
            Answer::Done { ok: true, pids },
            Answer::Failed { error: "no".into() },
        ] {
            let line = serde_json::to_string(&answer).unwrap();
            assert_eq!(serde_json::from_str::<Answer>(&line).unwrap(), answer);
        }
    }
}
