//! The private PostgreSQL: a primary and, if requested, a synchronous standby. Promoting the standby exchanges their
//! roles.

use std::mem;

use settled::dev::guardian::Databases;
use settled::dev::{DevError, NAME, Place, Postgres, Programs, StopMode};

use super::disk::Disk;
use super::{ServersOptions, standby};

/// Settings of servers in a pair: keep the WAL that the standby may still need, and retry soon.
const PAIR_SETTINGS: [&str; 2] = ["wal_keep_size=64MB", "wal_retrieve_retry_interval=200ms"];

/// A PostgreSQL with its disk, if it has a disk of its own.
pub(super) struct Member {
    pub(super) postgres: Postgres,
    pub(super) disk: Option<Disk>,
}

/// The primary, and the standby if there is one.
pub(super) struct Cluster {
    primary: Member,
    standby: Option<Member>,
    url: String,
}

impl Member {
    fn of(mut postgres: Postgres, options: &ServersOptions) -> Result<Self, DevError> {
        if options.standby {
            postgres.settings.extend(PAIR_SETTINGS.map(ToOwned::to_owned));
        }
        let mut disk = None;
        if let Some(bytes) = options.postgres_space {
            let mounted = Disk::mount(postgres.room.join("disk"), bytes)?;
            // The WAL is on the same disk and must leave room for the data.
            postgres.settings.extend([format!("max_wal_size={}kB", bytes / 4 / 1024), "min_wal_size=32MB".to_owned()]);
            postgres.data = mounted.path().join("data");
            disk = Some(mounted);
        }
        Ok(Self { postgres, disk })
    }

    fn disk(&self) -> Result<&Disk, DevError> {
        self.disk.as_ref().ok_or(DevError::Options("PostgreSQL has no disk of its own"))
    }
}

impl Cluster {
    /// Creates the directories. The second port is for the standby.
    pub(super) async fn prepare(
        programs: &Programs,
        place: &Place,
        [first, second]: [u16; 2],
        options: &ServersOptions,
    ) -> Result<Self, DevError> {
        let primary = Member::of(Postgres::prepare(programs, place, first).await?, options)?;
        primary.postgres.own_room().await?;
        let (mut url, mut standby) = (primary.postgres.url(), None);
        if options.standby {
            let (room, password) = (place.room("postgres-2")?, primary.postgres.password.clone());
            // The standby will have a copy of the data, so it needs the same password.
            let other = Member::of(Postgres::in_room(programs, room, second, password).await?, options)?;
            other.postgres.own_room().await?;
            url = url_of_both(&primary.postgres, &other.postgres);
            standby = Some(other);
        }
        Ok(Self { primary, standby, url })
    }

    /// Stops the primary and promotes the standby. There is never more than one primary.
    async fn promote(&mut self) -> Result<(), DevError> {
        let standby = self.standby.as_mut().filter(|standby| standby.postgres.pid().is_some());
        let standby = standby.ok_or(DevError::Options("there is no standby that runs"))?;
        self.primary.postgres.stop(StopMode::Immediate).await?;
        standby::promote(&standby.postgres).await?;
        mem::swap(&mut self.primary, standby);
        Ok(())
    }

    /// Makes the other server a standby, whatever it was before. Commits wait for it only after its copy is made.
    async fn rebuild(&mut self) -> Result<(), DevError> {
        let standby = self.standby.as_mut().ok_or(DevError::Options("there is only one PostgreSQL"))?;
        standby::follow(standby, &self.primary.postgres).await?;
        standby::wait_for_standby(&self.primary.postgres).await
    }

    fn the_standby(&self) -> Result<&Postgres, DevError> {
        let standby = self.standby.as_ref().map(|standby| &standby.postgres).filter(|standby| standby.pid().is_some());
        standby.ok_or(DevError::Options("there is no standby that runs"))
    }
}

impl Databases for Cluster {
    fn url(&self) -> String {
        self.url.clone()
    }

    fn pid(&self) -> Option<u32> {
        self.primary.postgres.pid()
    }

    fn other_pids(&self) -> Vec<u32> {
        self.standby.iter().filter_map(|standby| standby.postgres.pid()).collect()
    }

    async fn start_all(&mut self) -> Result<(), DevError> {
        self.primary.postgres.start().await?;
        if self.standby.is_some() { self.rebuild().await } else { Ok(()) }
    }

    async fn start(&mut self) -> Result<(), DevError> {
        self.primary.postgres.start().await
    }

    async fn stop(&mut self, mode: StopMode) -> Result<(), DevError> {
        self.primary.postgres.stop(mode).await
    }

    async fn stop_all(&mut self, mode: StopMode) -> Result<(), DevError> {
        // Stop the primary first: it waits for the standby.
        let primary = self.primary.postgres.stop(mode).await;
        match &mut self.standby {
            Some(standby) => primary.and(standby.postgres.stop(mode).await),
            None => primary,
        }
    }

    async fn free_shared_memory(&self) {
        self.primary.postgres.free_shared_memory().await;
        if let Some(standby) = &self.standby {
            standby.postgres.free_shared_memory().await;
        }
    }

    /// Carries out an order given as words, so that a person can type it too.
    async fn obey(&mut self, words: &str) -> Result<(), DevError> {
        match words.split_whitespace().collect::<Vec<_>>()[..] {
            ["disk", "fill"] => self.primary.disk()?.fill(),
            ["disk", "free"] => self.primary.disk()?.free(),
            ["standby", "promote"] => self.promote().await,
            ["standby", "rebuild"] => self.rebuild().await,
            ["standby", "cut"] => standby::cut_off(self.the_standby()?, &self.primary.postgres).await,
            ["standby", "rejoin"] => standby::rejoin(self.the_standby()?, &self.primary.postgres).await,
            _ => Err(DevError::Guardian(format!("unknown order {words:?}"))),
        }
    }
}

/// Connection URL that lists both servers, for clients that look for the primary.
fn url_of_both(first: &Postgres, second: &Postgres) -> String {
    let hosts = format!("127.0.0.1:{},127.0.0.1:{}", first.port, second.port);
    format!("postgresql://{NAME}:{}@{hosts}/{NAME}?target_session_attrs=read-write", first.password)
}
