//! The real program and the signals that would end it by default, without servers: it waits for them.

use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use settled_testkit::harness::{Daemon, eventually};
use tempfile::TempDir;

/// The number of SIGHUP in the masks of `/proc/<pid>/status`.
const HANGUP_BIT: u64 = 1 << 0;

/// A daemon whose servers are away, and its configuration.
struct Waiting {
    dir: TempDir,
    daemon: Daemon,
}

impl Waiting {
    async fn begin(more: &str) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        std::fs::write(dir.path().join("settled.toml"), text(more)).expect("written");
        let daemon = Daemon::spawn(&dir.path().join("settled.toml"), dir.path().join("log"));
        let mut waiting = Self { dir, daemon };
        eventually("the admin server listens", async || waiting.daemon.try_get("/livez").await.is_some()).await;
        waiting
    }

    fn configure(&self, more: &str) {
        std::fs::write(self.config(), text(more)).expect("written");
    }

    fn config(&self) -> PathBuf {
        self.dir.path().join("settled.toml")
    }

    /// Asks for a reload and waits until it has ended like this, for the `count`th time.
    async fn reload(&mut self, result: &str, count: usize) {
        self.daemon.signal(Signal::HUP);
        self.daemon.counts("settled_config_reloads_total", &[("result", result)], count).await;
    }

    async fn liveness_timeout(&mut self) -> f64 {
        let (_, body) = self.daemon.get("/livez").await;
        let report: serde_json::Value = serde_json::from_str(&body).expect("JSON");
        report["liveness_timeout_seconds"].as_f64().expect("a number")
    }

    /// Returns the lines of the log with this message.
    fn logged(&self, message: &str) -> Vec<serde_json::Value> {
        let log = self.daemon.log();
        let lines = log.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
        lines.filter(|line| line["message"] == message).collect()
    }
}

fn text(more: &str) -> String {
    format!(
        "broker.uris = ['amqp://127.0.0.1:1']\npostgres.url = 'postgresql://u@127.0.0.1:1/db'\n\
         admin.listen = '127.0.0.1:0'\n{more}"
    )
}

#[tokio::test]
async fn a_hangup_reloads_what_can_change_and_names_what_needs_a_restart() {
    let mut waiting = Waiting::begin("").await;
    let started = waiting.daemon.metric("settled_config_last_reload_success_timestamp_seconds", &[]).await;
    assert!(started > 1.7e9, "{started}");
    assert_eq!(waiting.daemon.metric("settled_config_last_reload_successful", &[]).await, 1.0);
    waiting.configure("admin.liveness_timeout = '90s'\npipeline.max_batch = 7\nlog.level = 'info,settled=debug'\n");
    waiting.reload("success", 1).await;
    assert_eq!(waiting.liveness_timeout().await, 90.0);
    let later = waiting.daemon.metric("settled_config_last_reload_success_timestamp_seconds", &[]).await;
    assert!(later > started, "{later} after {started}");
    let lines = waiting.logged("the configuration was reloaded");
    assert_eq!(lines[0]["changed"], "admin.liveness_timeout, log.level", "{lines:?}");
    let lines = waiting.logged("keys of the configuration have changed that need a restart");
    assert_eq!(lines[0]["keys"], "pipeline.max_batch", "{lines:?}");
    // The log says nothing of the next one, and then something again.
    waiting.configure("admin.liveness_timeout = '91s'\nlog.level = 'error'\n");
    waiting.reload("success", 2).await;
    waiting.configure("admin.liveness_timeout = '92s'\n");
    waiting.reload("success", 3).await;
    assert_eq!(waiting.liveness_timeout().await, 92.0);
    let lines = waiting.logged("the configuration was reloaded");
    assert_eq!(lines.len(), 2, "{lines:?}");
    waiting.daemon.stop().await;
}

#[tokio::test]
async fn a_reload_that_is_refused_says_what_check_says_and_changes_nothing() {
    let mut waiting = Waiting::begin("admin.liveness_timeout = '90s'\n").await;
    waiting.configure(
        "admin.liveness_timeout = '95s'\nlog.level = 'inof'\nbroker.prefech = 5\nretry = { initial = '1s', max = '1ms' }\n",
    );
    waiting.reload("failure", 1).await;
    let mut check = Command::new(env!("CARGO_BIN_EXE_settled"));
    let check = check.args(["check", "--json", "--config"]).arg(waiting.config()).output().expect("it runs");
    let report: serde_json::Value = serde_json::from_slice(&check.stdout).expect("JSON");
    let problems = report["problems"].as_array().expect("problems");
    assert_eq!(problems.len(), 3, "{report}");
    let logged = waiting.logged("the configuration has a problem");
    assert_eq!(logged.len(), 3, "{logged:?}");
    for (problem, line) in problems.iter().zip(&logged) {
        for part in ["origin", "key", "message", "remedy"] {
            let part = problem[part].as_str().expect("text");
            assert!(line["problem"].as_str().is_some_and(|text| text.contains(part)), "{part} in {line}");
        }
    }
    assert_eq!(waiting.liveness_timeout().await, 90.0);
    assert_eq!(waiting.daemon.metric("settled_config_last_reload_successful", &[]).await, 0.0);
    std::fs::remove_file(waiting.config()).expect("removed");
    waiting.reload("failure", 2).await;
    assert_eq!(waiting.liveness_timeout().await, 90.0);
    waiting.configure("admin.liveness_timeout = '95s'\n");
    waiting.reload("success", 1).await;
    assert_eq!(waiting.liveness_timeout().await, 95.0);
    assert_eq!(waiting.daemon.metric("settled_config_last_reload_successful", &[]).await, 1.0);
    waiting.daemon.stop().await;
}

#[tokio::test]
async fn signals_that_end_a_process_by_default_do_not_end_the_daemon() {
    let mut waiting = Waiting::begin("").await;
    for _ in 0..50 {
        for signal in [Signal::HUP, Signal::USR1, Signal::USR2, Signal::PIPE] {
            waiting.daemon.signal(signal);
        }
    }
    let ignored = "ignored: this signal has no meaning here";
    eventually("both signals are told", async || waiting.logged(ignored).len() >= 2).await;
    eventually("it was reloaded", async || {
        waiting.daemon.metric("settled_config_reloads_total", &[("result", "success")]).await >= 1.0
    })
    .await;
    assert!(waiting.daemon.is_running());
    waiting.daemon.stop().await;
}

/// A process that is killed and waited for when it is dropped.
struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Killed {
    fn send(&self, signal: Signal) {
        kill_process(Pid::from_raw(self.0.id().cast_signed()).expect("a pid"), signal).expect("delivered");
    }
}

#[test]
fn a_hangup_while_it_starts_is_harmless() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("settled.toml");
    std::fs::write(&path, text("")).expect("written");
    let mut run = Command::new(env!("CARGO_BIN_EXE_settled"));
    run.args(["run", "--config"]).arg(&path).stderr(Stdio::null()).env_remove("NOTIFY_SOCKET");
    let mut child = Killed(run.spawn().expect("spawned"));
    let status = format!("/proc/{}/status", child.0.id());
    // From the first moment at which it handles the signal, whatever it is doing then.
    let deadline = Instant::now() + Duration::from_secs(30);
    let is_handled = || {
        let status = std::fs::read_to_string(&status).expect("it runs");
        let mask = status.lines().find_map(|line| line.strip_prefix("SigCgt:")).expect("a mask");
        u64::from_str_radix(mask.trim(), 16).expect("hexadecimal") & HANGUP_BIT != 0
    };
    while !is_handled() {
        assert!(Instant::now() < deadline, "it never handles SIGHUP");
    }
    for _ in 0..20 {
        child.send(Signal::HUP);
        std::thread::sleep(Duration::from_millis(1));
    }
    child.send(Signal::TERM);
    assert_eq!(child.0.wait().expect("a child").code(), Some(0));
}

#[test]
fn systemd_is_told_of_a_reload_from_its_beginning_to_its_end() {
    let dir = tempfile::tempdir().expect("a directory");
    let (path, notify) = (dir.path().join("settled.toml"), dir.path().join("notify"));
    std::fs::write(&path, text("")).expect("written");
    let socket = UnixDatagram::bind(&notify).expect("bound");
    socket.set_read_timeout(Some(Duration::from_secs(30))).expect("set");
    let mut run = Command::new(env!("CARGO_BIN_EXE_settled"));
    run.args(["run", "--config"]).arg(&path).stderr(Stdio::null()).env("NOTIFY_SOCKET", &notify);
    let child = Killed(run.spawn().expect("spawned"));
    let mut buffer = [0; 1024];
    let mut next = |wanted: &str| loop {
        let length = socket.recv(&mut buffer).unwrap_or_else(|_| panic!("no {wanted}"));
        let message = std::str::from_utf8(&buffer[..length]).expect("text").to_owned();
        if message.contains(wanted) {
            return message;
        }
    };
    next("READY=1");
    for invalid in [false, true] {
        if invalid {
            std::fs::write(&path, "[").expect("written");
        }
        child.send(Signal::HUP);
        let began = next("RELOADING=1");
        let time = began.lines().find_map(|line| line.strip_prefix("MONOTONIC_USEC=")).expect("a time");
        assert!(time.parse::<u64>().is_ok_and(|time| time > 0), "{began}");
        next("READY=1");
    }
}
