//! The private PostgreSQL as a pair: one server that takes writes, and if it is asked for a standby
//! that every commit waits for. They change places when the standby is promoted.

use std::mem;

use super::error::DevError;
use super::place::Place;
use super::postgres::Postgres;
use super::programs::Programs;
use super::{ServersOptions, StopMode};

/// One PostgreSQL or two.
pub(super) struct Cluster {
    primary: Postgres,
    standby: Option<Postgres>,
    url: String,
}

impl Cluster {
    /// Makes the directories; the second port is the standby's.
    pub(super) async fn prepare(
        programs: &Programs,
        place: &Place,
        [first, second]: [u16; 2],
        options: &ServersOptions,
    ) -> Result<Self, DevError> {
        let primary = Postgres::prepare(programs, place, first, options).await?;
        let (mut url, mut standby) = (primary.url(), None);
        if options.standby {
            let second = primary.prepare_second(place, second, options).await?;
            url = primary.url_of_both(&second);
            standby = Some(second);
        }
        Ok(Self { primary, standby, url })
    }

    pub(super) fn url(&self) -> String {
        self.url.clone()
    }

    pub(super) fn pid(&self) -> Option<u32> {
        self.primary.pid()
    }

    pub(super) fn standby_pid(&self) -> Option<u32> {
        self.standby.as_ref().and_then(Postgres::pid)
    }

    /// Starts all there are.
    pub(super) async fn start_all(&mut self) -> Result<(), DevError> {
        self.primary.start().await?;
        if self.standby.is_some() { self.rebuild().await } else { Ok(()) }
    }

    /// Starts the one that takes writes.
    pub(super) async fn start(&mut self) -> Result<(), DevError> {
        self.primary.start().await
    }

    /// Stops the one that takes writes.
    pub(super) async fn stop(&mut self, mode: StopMode) -> Result<(), DevError> {
        self.primary.stop(mode).await
    }

    /// Stops all there are.
    pub(super) async fn stop_all(&mut self, mode: StopMode) -> Result<(), DevError> {
        // First the one that waits for the other.
        let primary = self.primary.stop(mode).await;
        match &mut self.standby {
            Some(standby) => primary.and(standby.stop(mode).await),
            None => primary,
        }
    }

    /// See [`Postgres::free_shared_memory`].
    pub(super) async fn free_shared_memory(&self) {
        self.primary.free_shared_memory().await;
        if let Some(standby) = &self.standby {
            standby.free_shared_memory().await;
        }
    }

    /// Fills the disk of the one that takes writes.
    pub(super) fn fill_disk(&self) -> Result<(), DevError> {
        self.primary.disk()?.fill()
    }

    /// Frees the disk of the one that takes writes.
    pub(super) fn free_disk(&self) -> Result<(), DevError> {
        self.primary.disk()?.free()
    }

    /// The standby takes the place of the one that takes writes, which is stopped first: there are
    /// never two of them.
    pub(super) async fn promote(&mut self) -> Result<(), DevError> {
        let standby = self.standby.as_mut().filter(|standby| standby.pid().is_some());
        let standby = standby.ok_or(DevError::Options("there is no standby that runs"))?;
        self.primary.stop(StopMode::Immediate).await?;
        standby.promote().await?;
        mem::swap(&mut self.primary, standby);
        Ok(())
    }

    /// Makes the other one a standby, whatever it was before. Commits wait for it only when it is
    /// there, or they would wait for its copy to be made.
    pub(super) async fn rebuild(&mut self) -> Result<(), DevError> {
        let standby = self.standby.as_mut().ok_or(DevError::Options("there is only one PostgreSQL"))?;
        standby.follow(&self.primary).await?;
        self.primary.wait_for_standby().await
    }

    /// Cuts the standby off; commits wait for it nevertheless.
    pub(super) async fn cut(&self) -> Result<(), DevError> {
        self.the_standby()?.cut_off(&self.primary).await
    }

    /// Ends [`Self::cut`].
    pub(super) async fn rejoin(&self) -> Result<(), DevError> {
        self.the_standby()?.rejoin(&self.primary).await
    }

    fn the_standby(&self) -> Result<&Postgres, DevError> {
        let standby = self.standby.as_ref().filter(|standby| standby.pid().is_some());
        standby.ok_or(DevError::Options("there is no standby that runs"))
    }
}
