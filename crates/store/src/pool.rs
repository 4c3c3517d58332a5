//! The pool of connections to PostgreSQL: with all timeouts, to a server that takes writes.

use std::ops::{Deref, DerefMut};
use std::time::Duration;

use deadpool::Runtime;
use deadpool::managed::{self, Metrics, RecycleError, RecycleResult};

use settled_pipeline::settings::Live;
use settled_pipeline::store::StoreError;

use super::session::Session;
use super::{ConnectError, PostgresSettings, connect, error};

pub type Pool = managed::Pool<Sessions>;

/// A connection that was taken out of the pool, and goes back when it is dropped.
pub type Object = managed::Object<Sessions>;

/// Why a pool cannot be created.
#[derive(Debug, thiserror::Error)]
pub enum PoolSetUpError {
    /// A file that the settings name can't be used.
    #[error("postgres: {0}")]
    File(#[from] ConnectError),
    #[error("postgres: {0}")]
    Pool(#[from] managed::BuildError),
}

/// A connection that was idle for this long is checked before it is used again. A firewall may have dropped it without
/// notice, and the next statement would hang.
const QUIET: Duration = Duration::from_secs(5);

#[derive(Debug)]
pub struct Sessions {
    settings: Live<PostgresSettings>,
}

impl managed::Manager for Sessions {
    type Type = Session;
    type Error = ConnectError;

    /// Reads the password and the certificate authorities again, since the files or the settings may be others by now.
    async fn create(&self) -> Result<Session, ConnectError> {
        let settings = self.settings.get();
        Ok(Session::begin(connect::open(&settings).await?, &settings).await?)
    }

    async fn recycle(&self, session: &mut Session, metrics: &Metrics) -> RecycleResult<ConnectError> {
        if session.is_closed() {
            return Err(RecycleError::message("the connection is closed"));
        }
        if metrics.last_used() >= QUIET {
            // One round trip; the pool limits its time.
            session.batch_execute("").await.map_err(ConnectError::from)?;
        }
        Ok(())
    }
}

/// A connection of the pool whose state is in doubt, as in the middle of a transaction. It is closed when it is dropped,
/// which is also what happens if the caller is cancelled. Only [`keep`](Self::keep) returns it to the pool.
pub(crate) struct ConnectionGuard(Option<Object>);

impl ConnectionGuard {
    /// Takes a connection out of the pool.
    pub(crate) async fn take(pool: &Pool) -> Result<Self, StoreError> {
        pool.get().await.map(|object| Self(Some(object))).map_err(error::pool)
    }

    /// Returns the connection to the pool: nothing is going on in it.
    pub(crate) fn keep(mut self) {
        drop(self.0.take());
    }

    /// Returns the connection to the pool if what was asked on it has succeeded.
    pub(crate) fn keep_if_well<T>(self, answered: Result<T, StoreError>) -> Result<T, StoreError> {
        if answered.is_ok() {
            self.keep();
        }
        answered
    }
}

impl Deref for ConnectionGuard {
    type Target = Session;

    fn deref(&self) -> &Session {
        self.0.as_ref().expect("it is there until it is kept or dropped")
    }
}

impl DerefMut for ConnectionGuard {
    fn deref_mut(&mut self) -> &mut Session {
        self.0.as_mut().expect("it is there until it is kept or dropped")
    }
}

impl Drop for ConnectionGuard {
    fn drop(&mut self) {
        drop(self.0.take().map(Object::take));
    }
}

/// Creates a pool. It connects when a connection is first needed.
///
/// # Errors
///
/// If a file that the settings name cannot be read.
pub fn pool(settings: &PostgresSettings) -> Result<Pool, PoolSetUpError> {
    live_pool(settings.clone().into())
}

/// Like [`pool`], but how to connect follows the settings: connections that are made after a reload use the new ones.
///
/// # Errors
///
/// If a file that the settings name cannot be read.
pub fn live_pool(live: Live<PostgresSettings>) -> Result<Pool, PoolSetUpError> {
    let size = live.get().pool_size;
    sized_pool(live, size)
}

/// Like [`live_pool`], with another number of connections than the settings say.
pub(crate) fn sized_pool(live: Live<PostgresSettings>, size: usize) -> Result<Pool, PoolSetUpError> {
    let settings = live.get();
    connect::check_files(&settings)?;
    // Each host may take the whole limit, the last one too.
    let hosts = u32::try_from(settings.url.parts().get_hosts().len()).unwrap_or(1);
    Ok(Pool::builder(Sessions { settings: live })
        .max_size(size)
        .wait_timeout(Some(settings.wait_timeout))
        .create_timeout(Some(settings.connect_timeout * (hosts + 1)))
        .recycle_timeout(Some(settings.recycle_timeout))
        .runtime(Runtime::Tokio1)
        .build()?)
}
