//! What the handle and the guardian say to each other: JSON, one value a line.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// How PostgreSQL is made to stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StopMode {
    /// Sessions are ended, a checkpoint is written: the orderly end.
    Fast,
    /// Sessions are cut off without a checkpoint; the next start recovers from the log.
    Immediate,
    /// SIGKILL, as the out-of-memory killer does it.
    Kill,
}

/// A command to the guardian, such as `{"stop_postgres":"fast"}` or `"start_rabbitmq"`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Order {
    StopPostgres(StopMode),
    StartPostgres,
    StopRabbitmq,
    KillRabbitmq,
    StartRabbitmq,
    /// An order that the databases know.
    Databases(String),
}

/// Where the servers are, and the process ids of those that run.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Status {
    pub(super) amqp_uri: String,
    pub(super) stream_port: u16,
    pub(super) postgres_url: String,
    pub(super) dir: PathBuf,
    pub(super) postgres_pid: Option<u32>,
    pub(super) rabbitmq_pid: Option<u32>,
    pub(super) other_pids: Vec<u32>,
}

/// A line of the guardian: the first when the servers are ready, or why they are not; then one for each order.
pub(super) type Answer = Result<Status, String>;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_order_is_typed_as_it_is_documented_and_another_one_is_told_which_there_are() {
        let read = serde_json::from_str::<Order>;
        assert_eq!(read(r#"{"stop_postgres":"fast"}"#).unwrap(), Order::StopPostgres(StopMode::Fast));
        assert_eq!(read(r#""start_rabbitmq""#).unwrap(), Order::StartRabbitmq);
        assert!(read(r#""postgres""#).is_err_and(|error| error.to_string().contains("kill_rabbitmq")));
    }
}
