//! A load that is being published, or has been.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use hdrhistogram::Histogram;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout};

use super::case::STALLED;
use crate::load::{Flights, Gauges, Generator, Script};

/// A load that is being published, by a task and threads of its own.
pub(super) struct Publishing {
    task: JoinHandle<Result<Flights>>,
    script: Arc<Script>,
    started: Instant,
    flights: Option<Flights>,
    gauges: Arc<Gauges>,
}

impl Publishing {
    /// Begins, and returns when the clock of the load runs.
    pub(super) async fn start(generator: Generator, script: &Arc<Script>) -> Result<Self> {
        let gauges = Arc::new(Gauges::new());
        let (start, started) = oneshot::channel();
        let publish = generator.publish(Arc::clone(&gauges), || start.send(()).unwrap_or_default());
        let mut task = tokio::spawn(publish);
        if started.await.is_err() {
            // It has ended before the load began, and says why.
            (&mut task).await.context("the publishing has died")??;
        }
        Ok(Self { task, script: Arc::clone(script), started: Instant::now(), flights: None, gauges })
    }

    pub(super) fn counts(&self) -> (u64, u64) {
        self.gauges.counts()
    }

    fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }

    /// Whether all is published and confirmed.
    ///
    /// # Errors
    /// Whatever kept it from being published.
    pub(super) async fn is_done(&mut self) -> Result<bool> {
        if self.flights.is_none() && self.task.is_finished() {
            self.join().await?;
        }
        Ok(self.flights.is_some())
    }

    /// What was published up to now, when it is confirmed.
    pub(super) async fn finish(mut self) -> Result<Flights> {
        self.script.stop();
        if self.flights.is_none() {
            let joined = timeout(STALLED, self.join()).await;
            joined.with_context(|| format!("the broker has not confirmed what was published for {STALLED:?}"))??;
        }
        Ok(self.flights.take().unwrap_or_default())
    }

    async fn join(&mut self) -> Result<()> {
        self.flights = Some((&mut self.task).await.context("the publishing has died")??);
        Ok(())
    }
}

impl Drop for Publishing {
    /// Its threads look at the script now and then.
    fn drop(&mut self) {
        self.script.stop();
        self.task.abort();
    }
}

/// Where the messages of a load come from.
pub(super) enum Feed {
    Live(Publishing),
    Backlog(Flights, Instant),
}

impl Feed {
    /// All of it is there, from now on.
    pub(super) fn backlog(flights: Flights) -> Self {
        Self::Backlog(flights, Instant::now())
    }

    pub(super) fn elapsed(&self) -> Duration {
        match self {
            Self::Live(publishing) => publishing.elapsed(),
            Self::Backlog(_, began) => began.elapsed(),
        }
    }

    pub(super) fn counts(&self) -> (u64, u64) {
        match self {
            Self::Live(publishing) => publishing.counts(),
            Self::Backlog(flights, _) => (flights.sent.len() as u64, flights.confirmed.len() as u64),
        }
    }

    /// The times to the confirm since this was last asked, in microseconds.
    pub(super) fn take_confirm(&self) -> Option<Histogram<u64>> {
        match self {
            Self::Live(publishing) => Some(publishing.gauges.take_confirm()),
            Self::Backlog(..) => None,
        }
    }

    pub(super) async fn is_done(&mut self) -> Result<bool> {
        match self {
            Self::Live(publishing) => publishing.is_done().await,
            Self::Backlog(..) => Ok(true),
        }
    }

    pub(super) async fn finish(self) -> Result<Flights> {
        match self {
            Self::Live(publishing) => publishing.finish().await,
            Self::Backlog(flights, _) => Ok(flights),
        }
    }
}
