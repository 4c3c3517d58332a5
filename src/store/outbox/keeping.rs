//! The seam to the outbox: what the keeper does with its rows, each call by itself.
//!
//! Two sides fit it: the table in PostgreSQL, and the simulated store of the tests.

use std::future::Future;
use std::time::Duration;

use deadpool_postgres::{Object, Pool};

use super::{Depth, Unrouted};
use crate::store::{Parcel, StoreError};

/// The seam.
pub trait OutboxStore: Send + Sync + 'static {
    /// See [`super::delete`].
    fn delete(&self, ids: &[i64]) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// See [`super::hold`].
    fn hold(
        &self,
        id: i64,
        unrouted: &[Unrouted],
        retry: Duration,
    ) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// See [`super::renew`].
    fn renew(&self, ids: &[i64], lease: Duration) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// See [`super::abandoned`].
    fn abandoned(&self, most: usize) -> impl Future<Output = Result<Vec<(i64, usize)>, StoreError>> + Send;

    /// See [`super::take_abandoned`].
    fn take_abandoned(
        &self,
        ids: &[i64],
        lease: Duration,
    ) -> impl Future<Output = Result<Vec<Parcel>, StoreError>> + Send;

    /// See [`super::take_held`].
    fn take_held(&self, lease: Duration) -> impl Future<Output = Result<Vec<Parcel>, StoreError>> + Send;

    /// See [`super::take_held_of`].
    fn take_held_of(
        &self,
        key: &str,
        most: usize,
        lease: Duration,
    ) -> impl Future<Output = Result<Vec<Parcel>, StoreError>> + Send;

    /// The state of the outbox, and how many dead letters wait for a person.
    fn measure(&self) -> impl Future<Output = Result<(Depth, i64), StoreError>> + Send;
}

/// The outbox in PostgreSQL.
pub struct PostgresOutbox {
    pool: Pool,
}

impl PostgresOutbox {
    /// Works over `pool`.
    pub const fn new(pool: Pool) -> Self {
        Self { pool }
    }

    async fn client(&self) -> Result<Object, StoreError> {
        self.pool.get().await.map_err(|error| StoreError::pool(&error))
    }
}

/// A connection in an unknown state never goes back into the pool.
fn keep_if_well<T>(client: Object, answered: Result<T, tokio_postgres::Error>) -> Result<T, StoreError> {
    answered.map_err(|error| {
        drop(Object::take(client));
        StoreError::before_commit(&error)
    })
}

fn rows(most: usize) -> i64 {
    i64::try_from(most).unwrap_or(i64::MAX)
}

impl OutboxStore for PostgresOutbox {
    async fn delete(&self, ids: &[i64]) -> Result<(), StoreError> {
        let mut client = self.client().await?;
        let deleted = super::delete(&mut **client, ids).await;
        keep_if_well(client, deleted).map(drop)
    }

    async fn hold(&self, id: i64, unrouted: &[Unrouted], retry: Duration) -> Result<(), StoreError> {
        let mut client = self.client().await?;
        let held = super::hold(&mut **client, id, unrouted, retry).await;
        keep_if_well(client, held)
    }

    async fn renew(&self, ids: &[i64], lease: Duration) -> Result<(), StoreError> {
        let client = self.client().await?;
        let renewed = super::renew(&**client, ids, lease).await;
        keep_if_well(client, renewed).map(drop)
    }

    async fn abandoned(&self, most: usize) -> Result<Vec<(i64, usize)>, StoreError> {
        let client = self.client().await?;
        let found = super::abandoned(&**client, rows(most)).await;
        keep_if_well(client, found)
    }

    async fn take_abandoned(&self, ids: &[i64], lease: Duration) -> Result<Vec<Parcel>, StoreError> {
        let client = self.client().await?;
        let taken = super::take_abandoned(&**client, ids, lease).await;
        keep_if_well(client, taken)
    }

    async fn take_held(&self, lease: Duration) -> Result<Vec<Parcel>, StoreError> {
        let client = self.client().await?;
        let taken = super::take_held(&**client, lease).await;
        keep_if_well(client, taken)
    }

    async fn take_held_of(&self, key: &str, most: usize, lease: Duration) -> Result<Vec<Parcel>, StoreError> {
        let client = self.client().await?;
        let taken = super::take_held_of(&**client, key, rows(most), lease).await;
        keep_if_well(client, taken)
    }

    async fn measure(&self) -> Result<(Depth, i64), StoreError> {
        let client = self.client().await?;
        let measured = async { Ok((super::depth(&**client).await?, super::open_dead_letters(&**client).await?)) }.await;
        keep_if_well(client, measured)
    }
}
