//! How the process begins and ends: signals here, the service manager in [`systemd`].
//!
//! | signal | effect |
//! |---|---|
//! | first SIGTERM or SIGINT | [`Shutdown::drain`]: take nothing more, finish what is in hand, exit 0 |
//! | second one | [`Shutdown::now`]: exit at once with 1; nothing is lost, what was in hand is delivered again |
//!
//! Signals are handled nowhere else.

pub mod systemd;

use std::io;
use std::thread;
use std::time::{Duration, Instant};

use tokio::runtime;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// The exit status after a second signal.
pub const EXIT_AT_ONCE: i32 = 1;

/// What the process gets to end by itself after a second signal, before it is ended.
const LAST_MOMENT: Duration = Duration::from_millis(500);

/// Signals closer together than this are one request: whoever stops a process and its group, or
/// presses Ctrl-C on a supervisor and what it runs, sends two.
const ONE_REQUEST: Duration = Duration::from_millis(100);

/// The two ways to stop. Clones share them.
#[derive(Clone, Debug, Default)]
pub struct Shutdown {
    drain: CancellationToken,
    now: CancellationToken,
}

impl Shutdown {
    /// Nothing has been asked for.
    pub fn new() -> Self {
        Self::default()
    }

    /// Cancelled when the daemon should finish what it has and stop.
    pub fn drain(&self) -> &CancellationToken {
        &self.drain
    }

    /// Cancelled when it should stop this moment. A drain has always begun before.
    pub fn now(&self) -> &CancellationToken {
        &self.now
    }

    /// One more request to stop: the first begins the drain, the second ends it.
    pub fn request(&self, source: &str) {
        if !self.drain.is_cancelled() {
            tracing::info!(source, "asked to stop: draining, a second signal stops at once");
            self.drain.cancel();
        } else if !self.now.is_cancelled() {
            tracing::error!(source, "asked again to stop: stopping at once, without finishing the drain");
            self.now.cancel();
        }
    }

    /// From the return of this call on, SIGTERM and SIGINT are requests to stop.
    ///
    /// They are followed on a thread of their own: a second signal ends the process even if
    /// nothing else in it moves any more.
    pub fn follow_signals(&self) -> io::Result<()> {
        let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
        let mut signals = {
            let _inside = runtime.enter();
            Signals { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? }
        };
        let shutdown = self.clone();
        let follow = async move {
            let mut asked: Option<Instant> = None;
            while !shutdown.now.is_cancelled() {
                let source = signals.next().await;
                if asked.is_none_or(|at| at.elapsed() > ONE_REQUEST) {
                    shutdown.request(source);
                    asked = Some(Instant::now());
                }
            }
            tokio::time::sleep(LAST_MOMENT).await;
            std::process::exit(EXIT_AT_ONCE);
        };
        thread::Builder::new().name("signals".to_owned()).spawn(move || runtime.block_on(follow))?;
        Ok(())
    }
}

/// The signals that ask to stop.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_request_drains_and_the_second_stops() {
        let shutdown = Shutdown::new();
        assert!(!shutdown.drain().is_cancelled());
        shutdown.request("SIGTERM");
        assert!(shutdown.drain().is_cancelled() && !shutdown.now().is_cancelled());
        shutdown.request("SIGINT");
        assert!(shutdown.now().is_cancelled());
    }

    #[test]
    fn clones_share_a_request() {
        let shutdown = Shutdown::new();
        shutdown.clone().request("a test");
        assert!(shutdown.drain().is_cancelled());
        assert!(!shutdown.now().is_cancelled());
    }
}
