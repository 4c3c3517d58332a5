//! Runs the real daemon as a process.

use std::fs::File;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::{SOON, eventually, settled};

/// Number of log lines that are printed when a test fails.
const TAIL_LINES: usize = 40;

/// A running `settled run`. Killed when dropped, and when the test process ends.
pub struct Daemon {
    child: Child,
    log: PathBuf,
    admin: Option<SocketAddr>,
}

impl Daemon {
    /// Starts the daemon, with its standard error written to `log`.
    pub fn spawn(config: &Path, log: PathBuf) -> Self {
        Self::spawn_with(&[], config, log)
    }

    /// Starts the daemon with these environment variables besides.
    pub fn spawn_with(variables: &[(&str, &Path)], config: &Path, log: PathBuf) -> Self {
        let stderr = File::create(&log).expect("a log file");
        let mut command = command();
        command.envs(variables.iter().copied());
        command.args(["run", "--config"]).arg(config).stdin(Stdio::null()).stdout(Stdio::null()).stderr(stderr);
        Self { child: command.spawn().expect("the daemon starts"), log, admin: None }
    }

    /// Waits until the daemon is ready to take tasks.
    pub async fn ready(&mut self) {
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

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends a signal to the process.
    pub fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(self.pid().cast_signed()).expect("a process id");
        kill_process(pid, signal).expect("the daemon is there");
    }

    /// Sends SIGKILL and waits for the process to end.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Waits until the process ends by itself.
    pub async fn wait_exit(&mut self) -> ExitStatus {
        let mut status = None;
        eventually("the daemon ends", async || {
            status = self.child.try_wait().expect("a child");
            status.is_some()
        })
        .await;
        status.expect("it ended")
    }

    /// Sends SIGTERM. Fails unless the daemon drains and exits with 0.
    pub async fn stop(mut self) {
        self.signal(Signal::TERM);
        let status = self.wait_exit().await;
        assert!(status.success(), "{status}\n{}", self.tail());
    }

    pub fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Returns the log, one JSON document per line.
    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Returns the last lines of the log.
    pub fn tail(&self) -> String {
        let log = self.log();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(TAIL_LINES)..].join("\n")
    }

    /// Returns the address of the admin server, which the daemon logs first.
    pub fn admin(&mut self) -> Option<SocketAddr> {
        if self.admin.is_none() {
            let log = self.log();
            let line = log.lines().find(|line| line.contains("admin server listens"))?;
            let (address, _) = line.split_once(r#""address":""#)?.1.split_once('"')?;
            self.admin = address.parse().ok();
        }
        self.admin
    }

    /// Sends a GET request to the admin server. Returns `None` if there is no response.
    pub async fn try_get(&mut self, path: &str) -> Option<(u16, String)> {
        let mut stream = TcpStream::connect(self.admin()?).await.ok()?;
        let request = format!("GET {path} HTTP/1.1\r\nHost: settled\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.ok()?;
        let mut response = String::new();
        stream.read_to_string(&mut response).await.ok()?;
        let (head, body) = response.split_once("\r\n\r\n")?;
        let status = head.split(' ').nth(1)?.parse().ok()?;
        Some((status, body.to_owned()))
    }

    /// Sends a GET request to the admin server. Returns the status and the body.
    pub async fn get(&mut self, path: &str) -> (u16, String) {
        let answer = self.try_get(path).await;
        answer.unwrap_or_else(|| panic!("the admin server doesn't answer\n{}", self.tail()))
    }

    /// Requests `/readyz`. Returns the status and the report.
    pub async fn readiness(&mut self) -> (u16, Value) {
        let (status, body) = self.get("/readyz").await;
        (status, serde_json::from_str(&body).expect("JSON"))
    }

    /// Returns the sum of all series of a metric that have these labels.
    pub async fn metric(&mut self, name: &str, labels: &[(&str, &str)]) -> f64 {
        let (_, text) = self.get("/metrics").await;
        let labels: Vec<String> = labels.iter().map(|(label, value)| format!("{label}=\"{value}\"")).collect();
        let series = text.lines().filter_map(|line| line.rsplit_once(' ')).filter(|(series, _)| {
            let (of, rest) = series.split_once('{').unwrap_or((series, ""));
            of == name && labels.iter().all(|label| rest.contains(label))
        });
        series.map(|(_, value)| value.parse::<f64>().expect("a number")).sum()
    }

    /// Waits until a metric has reached `count`. It is incremented right after the commit.
    pub async fn counts(&mut self, name: &str, labels: &[(&str, &str)], count: usize) {
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

/// Returns the command `settled` with a clean environment. The kernel kills it when this thread ends.
pub(super) fn command() -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL"]).arg(settled());
    for variable in
        ["SETTLED_AMQP_URI", "SETTLED_POSTGRES_URL", "SETTLED_ADMIN_LISTEN", "NOTIFY_SOCKET", "CREDENTIALS_DIRECTORY"]
    {
        command.env_remove(variable);
    }
    command
}
