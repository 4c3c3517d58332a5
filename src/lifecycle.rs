//! Start and stop of the process: signals here, the service manager in [`systemd`].
//!
//! | signal | effect |
//! |---|---|
//! | first SIGTERM or SIGINT | [`Shutdown::drain`]: stop consuming, finish the tasks in flight, exit 0 |
//! | second one | [`Shutdown::now`]: exit at once with 1; nothing is lost, tasks in flight are redelivered |
//! | SIGHUP | [`ReloadRequests`]: the configuration is read again; during a drain nothing |
//! | SIGHUP of the terminal that it runs on, when that is closed | as SIGTERM |
//! | SIGUSR1, SIGUSR2 | nothing but a line in the log: by default they would end the process without a drain |
//! | SIGPIPE | nothing: Rust's runtime ignores it, and writing returns the error |
//!
//! SIGQUIT and SIGABRT keep their default, to end the process at once with a core file where that is wanted.

pub mod systemd;

use std::sync::Arc;
use std::time::{Duration, Instant};
use std::{io, thread};

use settled_pipeline::shutdown::Shutdown;
use tokio::runtime;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

/// Returns the name of this machine.
pub fn host_name() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

/// The exit status after a second signal.
const EXIT_AT_ONCE: i32 = 1;

/// How long the process may take to end by itself after a second signal. Then it exits.
const EXIT_GRACE: Duration = Duration::from_millis(500);

/// Signals that follow each other faster than this count as one request: stopping a process and its process group, or
/// Ctrl-C on a supervisor and its child, sends two.
const DEBOUNCE: Duration = Duration::from_millis(100);

/// Returns a token that is cancelled at the first SIGTERM or SIGINT, for a command that says how far it came. A second
/// signal ends the process.
pub fn interruptible() -> io::Result<CancellationToken> {
    let shutdown = Shutdown::new();
    follow_signals(&shutdown)?;
    Ok(shutdown.drain().clone())
}

/// Requests to reload the configuration. Clones share them. A request waits until it is answered; several that wait are
/// one.
#[derive(Clone, Debug, Default)]
pub struct ReloadRequests(Arc<Notify>);

impl ReloadRequests {
    pub fn request(&self) {
        self.0.notify_one();
    }

    /// Waits for a request.
    pub async fn requested(&self) {
        self.0.notified().await;
    }
}

/// The signals that are followed, in place of their default, which is to end the process.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
    user: [Signal; 2],
}

/// Handles signals from the moment this call returns: SIGTERM and SIGINT are requests to stop, SIGHUP is one to reload
/// the configuration, which is returned. Call it first, since SIGHUP ends a process that does not handle it.
///
/// A thread of its own waits for them, so that a second signal ends the process even if every other thread is stuck.
pub fn follow_signals(shutdown: &Shutdown) -> io::Result<ReloadRequests> {
    let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
    let inside = runtime.enter();
    let mut signals = Signals {
        terminate: signal(SignalKind::terminate())?,
        interrupt: signal(SignalKind::interrupt())?,
        hangup: signal(SignalKind::hangup())?,
        user: [signal(SignalKind::user_defined1())?, signal(SignalKind::user_defined2())?],
    };
    drop(inside);
    let (shutdown, reloads) = (shutdown.clone(), ReloadRequests::default());
    let (requests, had_terminal) = (reloads.clone(), has_terminal());
    let follow = async move {
        let mut asked: Option<Instant> = None;
        while !shutdown.now().is_cancelled() {
            let source = match signals.next().await {
                "SIGHUP" if had_terminal && !has_terminal() => "SIGHUP, as the terminal is gone",
                "SIGHUP" if shutdown.drain().is_cancelled() => {
                    tracing::info!("the configuration is not reloaded: the daemon stops");
                    continue;
                }
                "SIGHUP" => {
                    requests.request();
                    continue;
                }
                ignored @ ("SIGUSR1" | "SIGUSR2") => {
                    tracing::warn!(signal = ignored, "ignored: this signal has no meaning here");
                    continue;
                }
                stop => stop,
            };
            if asked.is_none_or(|at| at.elapsed() > DEBOUNCE) {
                shutdown.request(source);
                asked = Some(Instant::now());
            }
        }
        tokio::time::sleep(EXIT_GRACE).await;
        std::process::exit(EXIT_AT_ONCE);
    };
    thread::Builder::new().name("signals".to_owned()).spawn(move || runtime.block_on(follow))?;
    Ok(reloads)
}

impl Signals {
    /// Waits for a signal and returns its name.
    async fn next(&mut self) -> &'static str {
        let [first, second] = &mut self.user;
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
            _ = self.hangup.recv() => "SIGHUP",
            _ = first.recv() => "SIGUSR1",
            _ = second.recv() => "SIGUSR2",
        }
    }
}

/// Whether the process has a terminal that controls it. One that was closed no longer does.
fn has_terminal() -> bool {
    std::fs::File::open("/dev/tty").is_ok()
}
