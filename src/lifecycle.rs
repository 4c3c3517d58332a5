//! Start and stop of the process: signals here, the service manager in [`systemd`].
//!
//! | signal | effect |
//! |---|---|
//! | first SIGTERM or SIGINT | [`Shutdown::drain`]: stop consuming, finish the tasks in flight, exit 0 |
//! | second one | [`Shutdown::now`]: exit at once with 1; nothing is lost, tasks in flight are redelivered |

pub mod systemd;

use std::time::{Duration, Instant};
use std::{io, thread};

use settled_pipeline::shutdown::Shutdown;
use tokio::runtime;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

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

/// Treats SIGTERM and SIGINT as requests to stop from the moment this call returns.
///
/// A thread of its own waits for them, so that a second signal ends the process even if every other thread is stuck.
pub fn follow_signals(shutdown: &Shutdown) -> io::Result<()> {
    let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
    let inside = runtime.enter();
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    drop(inside);
    let shutdown = shutdown.clone();
    let follow = async move {
        let mut asked: Option<Instant> = None;
        while !shutdown.now().is_cancelled() {
            let source = tokio::select! {
                _ = terminate.recv() => "SIGTERM",
                _ = interrupt.recv() => "SIGINT",
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
    Ok(())
}
