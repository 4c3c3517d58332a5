//! A load that is being published, or has been.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use hdrhistogram::Histogram;
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout};

use super::gauges::Gauges;
use super::script::Script;
use super::{Flights, STALLED};

/// A load that is published by a task and by threads of its own.
pub(crate) struct Publishing {
    pub(super) task: JoinHandle<Result<Flights>>,
    pub(super) script: Arc<Script>,
    pub(super) began: Instant,
    pub(super) gauges: Arc<Gauges>,
    pub(super) flights: Option<Flights>,
    pub(super) is_live: bool,
}

impl Publishing {
    /// Takes the load for a backlog: all of it is published, and its clock begins to run now.
    pub(crate) fn as_backlog(&mut self) {
        (self.began, self.is_live) = (Instant::now(), false);
    }

    /// Returns true unless all of it was there before the daemons.
    pub(crate) const fn is_live(&self) -> bool {
        self.is_live
    }

    pub(crate) fn elapsed(&self) -> Duration {
        self.began.elapsed()
    }

    /// Returns the numbers of messages published and confirmed.
    pub(crate) fn counts(&self) -> (u64, u64) {
        self.gauges.counts()
    }

    /// Returns the times to the confirm since the last call, in microseconds; `None` of a backlog.
    pub(crate) fn take_confirm(&self) -> Option<Histogram<u64>> {
        self.is_live.then(|| self.gauges.take_confirm())
    }

    /// Returns whether all is published and confirmed.
    ///
    /// # Errors
    /// Whatever kept it from being published.
    pub(crate) async fn is_done(&mut self) -> Result<bool> {
        if self.flights.is_none() && self.task.is_finished() {
            self.join().await?;
        }
        Ok(self.flights.is_some())
    }

    /// Returns what was published up to now, when it is confirmed.
    pub(crate) async fn finish(mut self) -> Result<Flights> {
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
