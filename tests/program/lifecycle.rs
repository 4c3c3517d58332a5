//! Real signals, and a real socket of a service manager, on a child process: this test binary
//! itself, told to run one of the `child_…` functions.

use std::io::{BufRead, BufReader};
use std::os::unix::net::UnixDatagram;
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use settled::lifecycle::systemd::{ServiceManager, Timeouts};
use settled_pipeline::health::{Dependency, Health};
use settled_pipeline::metrics::Metrics;
use settled_pipeline::shutdown::Shutdown;
use tokio_util::sync::CancellationToken;

/// Set in the children, so that `cargo test -- --include-ignored` doesn't hang in one.
const CHILD: &str = "SETTLED_TEST_CHILD";

const STARTED: &str = "the child follows signals";

#[test]
#[ignore = "a child of the other tests"]
fn child_that_drains() {
    child(|shutdown| async move { shutdown.drain().cancelled().await });
}

/// Never ends by itself, and keeps its only worker thread busy.
#[test]
#[ignore = "a child of the other tests"]
fn child_that_is_stuck() {
    child(|_| async {
        loop {
            std::thread::sleep(Duration::from_secs(1));
        }
    });
}

fn child<F: Future>(work: impl FnOnce(Shutdown) -> F) {
    if std::env::var_os(CHILD).is_none() {
        return;
    }
    let shutdown = Shutdown::new();
    settled::lifecycle::follow_signals(&shutdown).expect("signals can be followed");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let health = Health::new(Arc::new(Metrics::register(1)));
        for &dependency in Dependency::ALL {
            health.set_up(dependency);
        }
        let timeouts =
            Timeouts { liveness_timeout: Duration::from_secs(5).into(), drain_timeout: Duration::from_secs(20) };
        let stop = CancellationToken::new();
        let (_reloads, news) = tokio::sync::mpsc::channel(1);
        let follow = ServiceManager::from_environment().follow(Arc::clone(&health), timeouts, news, stop.clone());
        let follow = tokio::spawn(follow);
        // Not println!, which the test harness may capture.
        use std::io::Write;
        writeln!(std::io::stdout(), "{STARTED}").expect("stdout");
        work(shutdown).await;
        health.drain();
        tokio::time::sleep(Duration::from_millis(50)).await;
        stop.cancel();
        follow.await.expect("no panic");
    });
}

fn spawn(name: &str, notify_socket: Option<&std::path::Path>) -> Child {
    let mut command = Command::new(std::env::current_exe().expect("this binary"));
    command
        .args(["--ignored", "--exact", "--nocapture", &format!("lifecycle::{name}")])
        .env(CHILD, "1")
        .stdout(Stdio::piped())
        .env_remove("NOTIFY_SOCKET");
    if let Some(socket) = notify_socket {
        command.env("NOTIFY_SOCKET", socket).env("WATCHDOG_USEC", "100000").env_remove("WATCHDOG_PID");
    }
    let mut child = command.spawn().expect("spawned");
    let mut lines = BufReader::new(child.stdout.take().expect("piped")).lines().map_while(Result::ok);
    assert!(lines.any(|line| line.contains(STARTED)), "{name} did not start");
    std::thread::spawn(move || lines.for_each(drop));
    child
}

fn send(child: &Child, signal: Signal) {
    let pid = Pid::from_raw(child.id().try_into().expect("a pid")).expect("not zero");
    kill_process(pid, signal).expect("delivered");
}

fn ends_within(child: &mut Child, limit: Duration) -> ExitStatus {
    let asked = Instant::now();
    loop {
        if let Some(status) = child.try_wait().expect("a child") {
            return status;
        }
        if asked.elapsed() > limit {
            child.kill().expect("killed");
            panic!("the child did not end within {limit:?}");
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn one_signal_drains() {
    for signal in [Signal::TERM, Signal::INT] {
        let mut child = spawn("child_that_drains", None);
        send(&child, signal);
        assert_eq!(ends_within(&mut child, Duration::from_secs(5)).code(), Some(0), "{signal:?}");
    }
}

#[test]
fn a_second_signal_ends_even_what_is_stuck() {
    let mut child = spawn("child_that_is_stuck", None);
    send(&child, Signal::TERM);
    std::thread::sleep(Duration::from_millis(100));
    assert!(child.try_wait().expect("a child").is_none(), "one signal must not end it");
    // Two signals close together are one request, so the second is sent until it is one.
    let until = Instant::now() + Duration::from_secs(5);
    while child.try_wait().expect("a child").is_none() && Instant::now() < until {
        send(&child, Signal::TERM);
        std::thread::sleep(Duration::from_millis(20));
    }
    let status = ends_within(&mut child, Duration::from_secs(1));
    assert_eq!((status.code(), status.signal()), (Some(1), None));
}

#[test]
fn systemd_is_told_from_ready_to_stopping() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("notify");
    let socket = UnixDatagram::bind(&path).expect("bound");
    socket.set_read_timeout(Some(Duration::from_secs(5))).expect("set");
    let mut child = spawn("child_that_drains", Some(&path));
    let mut buffer = [0; 1024];
    let mut told = String::new();
    let mut until = |message: &str| {
        while !told.contains(message) {
            let length = socket.recv(&mut buffer).unwrap_or_else(|_| panic!("no {message} in:\n{told}"));
            told.push_str(std::str::from_utf8(&buffer[..length]).expect("text"));
        }
    };
    until("READY=1\nSTATUS=ready\n");
    until("WATCHDOG=1\n");
    send(&child, Signal::TERM);
    until("STOPPING=1\nEXTEND_TIMEOUT_USEC=30000000\nSTATUS=draining (0 in flight)\n");
    assert_eq!(ends_within(&mut child, Duration::from_secs(5)).code(), Some(0));
}
