//! The seam to the outbox: what the keeper does with its rows, each call by itself.
//!
//! Two sides fit it: the table in PostgreSQL, and the simulated store of the tests.

use std::future::Future;
use std::ops::{Deref, DerefMut};
use std::time::Duration;

use tokio_postgres::Client;

use super::{Depth, RowSize, Unrouted};
use crate::store::pool::{Object, Pool};
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
    fn abandoned(&self, most: usize) -> impl Future<Output = Result<Vec<RowSize>, StoreError>> + Send;

    /// See [`super::held_of`].
    fn held_of(
        &self,
        key: &str,
        refused: bool,
        most: usize,
    ) -> impl Future<Output = Result<Vec<RowSize>, StoreError>> + Send;

    /// See [`super::probes`].
    fn probes(&self, most: usize) -> impl Future<Output = Result<Vec<RowSize>, StoreError>> + Send;

    /// See [`super::take`].
    fn take(&self, ids: &[i64], lease: Duration) -> impl Future<Output = Result<Vec<Parcel>, StoreError>> + Send;

    /// See [`super::drop_held_replies`].
    fn drop_held_replies(&self, limit: Duration) -> impl Future<Output = Result<i64, StoreError>> + Send;

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

    async fn client(&self) -> Result<Doubtful, StoreError> {
        self.pool.get().await.map(|client| Doubtful(Some(client))).map_err(|error| StoreError::pool(&error))
    }
}

/// A connection of which it isn't known yet in which state it is: unless it is said to be well, as
/// when whoever waits for an answer gives up, it doesn't go back into the pool.
struct Doubtful(Option<Object>);

impl Doubtful {
    fn keep_if_well<T>(mut self, answered: Result<T, tokio_postgres::Error>) -> Result<T, StoreError> {
        if answered.is_ok() {
            drop(self.0.take());
        }
        answered.map_err(|error| StoreError::before_commit(&error))
    }
}

impl Deref for Doubtful {
    type Target = Client;

    fn deref(&self) -> &Client {
        self.0.as_ref().expect("it is there until it is kept or dropped")
    }
}

impl DerefMut for Doubtful {
    fn deref_mut(&mut self) -> &mut Client {
        self.0.as_mut().expect("it is there until it is kept or dropped")
    }
}

impl Drop for Doubtful {
    fn drop(&mut self) {
        drop(self.0.take().map(Object::take));
    }
}

fn rows(most: usize) -> i64 {
    i64::try_from(most).unwrap_or(i64::MAX)
}

impl OutboxStore for PostgresOutbox {
    async fn delete(&self, ids: &[i64]) -> Result<(), StoreError> {
        let mut client = self.client().await?;
        let deleted = super::delete(&mut *client, ids).await;
        client.keep_if_well(deleted).map(drop)
    }

    async fn hold(&self, id: i64, unrouted: &[Unrouted], retry: Duration) -> Result<(), StoreError> {
        let mut client = self.client().await?;
        let held = super::hold(&mut *client, id, unrouted, retry).await;
        client.keep_if_well(held)
    }

    async fn renew(&self, ids: &[i64], lease: Duration) -> Result<(), StoreError> {
        let client = self.client().await?;
        let renewed = super::renew(&*client, ids, lease).await;
        client.keep_if_well(renewed).map(drop)
    }

    async fn abandoned(&self, most: usize) -> Result<Vec<RowSize>, StoreError> {
        let client = self.client().await?;
        let found = super::abandoned(&*client, rows(most)).await;
        client.keep_if_well(found)
    }

    async fn held_of(&self, key: &str, refused: bool, most: usize) -> Result<Vec<RowSize>, StoreError> {
        let client = self.client().await?;
        let found = super::held_of(&*client, key, refused, rows(most)).await;
        client.keep_if_well(found)
    }

    async fn probes(&self, most: usize) -> Result<Vec<RowSize>, StoreError> {
        let client = self.client().await?;
        let found = super::probes(&*client, rows(most)).await;
        client.keep_if_well(found)
    }

    async fn take(&self, ids: &[i64], lease: Duration) -> Result<Vec<Parcel>, StoreError> {
        let client = self.client().await?;
        let taken = super::take(&*client, ids, lease).await;
        client.keep_if_well(taken)
    }

    async fn drop_held_replies(&self, limit: Duration) -> Result<i64, StoreError> {
        let client = self.client().await?;
        let dropped = super::drop_held_replies(&*client, limit).await;
        client.keep_if_well(dropped)
    }

    async fn measure(&self) -> Result<(Depth, i64), StoreError> {
        let client = self.client().await?;
        let measured = async { Ok((super::depth(&*client).await?, super::open_dead_letters(&*client).await?)) }.await;
        client.keep_if_well(measured)
    }
}
