//! The real daemon as a process of its own.

use std::fs::File;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::{SOON, eventually};

/// How much of its log a failed test shows.
const TAIL_LINES: usize = 40;

/// A running `settled run`. Killed when it is dropped, and when the test process ends.
pub(crate) struct Daemon {
    child: Child,
    log: PathBuf,
    admin: Option<SocketAddr>,
}

impl Daemon {
    /// Starts it; its standard error goes to `log`.
    pub(crate) fn spawn(config: &Path, log: PathBuf) -> Self {
        let stderr = File::create(&log).expect("a log file");
        let mut command = command();
        command.args(["run", "--config"]).arg(config).stdin(Stdio::null()).stdout(Stdio::null()).stderr(stderr);
        Self { child: command.spawn().expect("the daemon starts"), log, admin: None }
    }

    /// Waits until it takes tasks.
    pub(crate) async fn ready(&mut self) {
        let deadline = Instant::now() + SOON;
        loop {
            let status = self.child.try_wait().expect("a child");
            assert!(status.is_none(), "the daemon ended while it was starting: {status:?}\n{}", self.tail());
            if let Some((200, _)) = self.try_get("/readyz").await {
                return;
            }
            assert!(Instant::now() < deadline, "the daemon isn't ready within {SOON:?}\n{}", self.tail());
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends a signal, as an operator or systemd would.
    pub(crate) fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(self.pid().cast_signed()).expect("a process id");
        kill_process(pid, signal).expect("the daemon is there");
    }

    /// SIGKILL, and waits for the end.
    pub(crate) fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Waits until it ends by itself.
    pub(crate) async fn wait_exit(&mut self) -> ExitStatus {
        let mut status = None;
        eventually("the daemon ends", async || {
            status = self.child.try_wait().expect("a child");
            status.is_some()
        })
        .await;
        status.expect("it ended")
    }

    /// SIGTERM: it must drain and end with 0.
    pub(crate) async fn stop(mut self) {
        self.signal(Signal::TERM);
        let status = self.wait_exit().await;
        assert!(status.success(), "{status}\n{}", self.tail());
    }

    /// Whether it is still running.
    pub(crate) fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// What it has logged, a JSON document a line.
    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// The end of its log.
    pub(crate) fn tail(&self) -> String {
        let log = self.log();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(TAIL_LINES)..].join("\n")
    }

    /// Where the admin server listens; it logs that first.
    pub(crate) fn admin(&mut self) -> Option<SocketAddr> {
        if self.admin.is_none() {
            self.admin = self.log().lines().find_map(|line| {
                let line: Value = serde_json::from_str(line).ok()?;
                line.to_string().contains("admin server listens").then_some(())?;
                address_in(&line)
            });
        }
        self.admin
    }

    /// Asks the admin server; `None` while it doesn't answer.
    pub(crate) async fn try_get(&mut self, path: &str) -> Option<(u16, String)> {
        let mut stream = TcpStream::connect(self.admin()?).await.ok()?;
        let request = format!("GET {path} HTTP/1.1\r\nHost: settled\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.ok()?;
        let mut response = String::new();
        stream.read_to_string(&mut response).await.ok()?;
        let (head, body) = response.split_once("\r\n\r\n")?;
        let status = head.split(' ').nth(1)?.parse().ok()?;
        Some((status, body.to_owned()))
    }

    /// Asks the admin server.
    pub(crate) async fn get(&mut self, path: &str) -> (u16, String) {
        let answer = self.try_get(path).await;
        answer.unwrap_or_else(|| panic!("the admin server doesn't answer\n{}", self.tail()))
    }

    /// `/readyz`: its status and its report.
    pub(crate) async fn readiness(&mut self) -> (u16, Value) {
        let (status, body) = self.get("/readyz").await;
        (status, serde_json::from_str(&body).expect("JSON"))
    }

    /// The sum of all series of a metric that have these labels.
    pub(crate) async fn metric(&mut self, name: &str, labels: &[(&str, &str)]) -> f64 {
        let (_, text) = self.get("/metrics").await;
        let labels: Vec<String> = labels.iter().map(|(label, value)| format!("{label}=\"{value}\"")).collect();
        let series = text.lines().filter_map(|line| line.rsplit_once(' ')).filter(|(series, _)| {
            let (of, rest) = series.split_once('{').unwrap_or((series, ""));
            of == name && labels.iter().all(|label| rest.contains(label))
        });
        series.map(|(_, value)| value.parse::<f64>().expect("a number")).sum()
    }

    /// Waits until a metric has counted to `count`; it counts right after the commit.
    pub(crate) async fn counts(&mut self, name: &str, labels: &[(&str, &str)], count: usize) {
        let mut seen = 0.0;
        eventually(&format!("{name} of {labels:?} is {count}"), async || {
            seen = self.metric(name, labels).await;
            seen >= count as f64
        })
        .await;
        assert_eq!(seen, count as f64, "{name} of {labels:?}");
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        self.kill();
        if std::thread::panicking() {
            eprintln!("the daemon's log ends with\n{}", self.tail());
        }
    }
}

/// `settled`, with an environment of its own, that the kernel kills when this thread ends.
pub(super) fn command() -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", env!("CARGO_BIN_EXE_settled")]);
    for variable in ["SETTLED_AMQP_URI", "SETTLED_POSTGRES_URL", "SETTLED_ADMIN_LISTEN", "NOTIFY_SOCKET"] {
        command.env_remove(variable);
    }
    command
}

/// The value of `address`, wherever the log's format puts it.
fn address_in(line: &Value) -> Option<SocketAddr> {
    match line {
        Value::Object(fields) => match fields.get("address") {
            Some(Value::String(address)) => address.parse().ok(),
            _ => fields.values().find_map(address_in),
        },
        _ => None,
    }
}
