//! Requests to stop the daemon: first by a drain, then at once.

use std::time::Duration;

use tokio_util::sync::CancellationToken;

/// The requests to stop that have been made. Clones share them.
#[derive(Clone, Debug, Default)]
pub struct Shutdown {
    drain: CancellationToken,
    now: CancellationToken,
}

impl Shutdown {
    /// Begins without a request.
    pub fn new() -> Self {
        Self::default()
    }

    /// Returns the token that is cancelled when the daemon should finish its tasks in flight and stop.
    pub fn drain(&self) -> &CancellationToken {
        &self.drain
    }

    /// Returns the token that is cancelled when the daemon should stop at once, which is always after a drain has
    /// begun.
    pub fn now(&self) -> &CancellationToken {
        &self.now
    }

    /// Requests to stop. The first request begins the drain, the second stops at once.
    pub fn request(&self, source: &str) {
        if !self.drain.is_cancelled() {
            tracing::info!(source, "asked to stop: draining, a second signal stops at once");
            self.drain.cancel();
        } else if !self.now.is_cancelled() {
            tracing::error!(source, "asked again to stop: stopping at once, without finishing the drain");
            self.now.cancel();
        }
    }
}

/// Waits for `delay`. Returns false if `stop` is cancelled meanwhile.
pub(crate) async fn sleep_unless(stop: &CancellationToken, delay: Duration) -> bool {
    tokio::select! {
        biased;
        () = stop.cancelled() => false,
        () = tokio::time::sleep(delay) => true,
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
