//! The outbox in PostgreSQL, behind the pipeline's seam.

use crate::error;
use std::ops::{Deref, DerefMut};
use std::time::Duration;

use tokio_postgres::Client;

use crate::pool::{Object, Pool};
use settled_pipeline::store::{Depth, EventBatch, OutboxStore, RowSize, StoreError, Unrouted};

/// The outbox in PostgreSQL.
pub struct PostgresOutbox {
    pool: Pool,
}

impl PostgresOutbox {
    /// Creates an outbox on `pool`.
    pub const fn new(pool: Pool) -> Self {
        Self { pool }
    }

    async fn client(&self) -> Result<Doubtful, StoreError> {
        self.pool.get().await.map(|client| Doubtful(Some(client))).map_err(|error| error::pool(&error))
    }
}

/// A connection in an unknown state. It returns to the pool only by [`Doubtful::keep_if_well`], and is closed if it is
/// dropped, as when the caller is cancelled.
struct Doubtful(Option<Object>);

impl Doubtful {
    fn keep_if_well<T>(mut self, answered: Result<T, tokio_postgres::Error>) -> Result<T, StoreError> {
        if answered.is_ok() {
            drop(self.0.take());
        }
        answered.map_err(|error| error::before_commit(&error))
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

    async fn take(&self, ids: &[i64], lease: Duration) -> Result<Vec<EventBatch>, StoreError> {
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
