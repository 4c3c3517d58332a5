//! Defects between the pipeline and the outbox.

use std::sync::atomic::Ordering;
use std::time::Duration;

use settled_pipeline::store::{EventBatch, OutboxStore, RowSize, StoreError, Unrouted};

use super::{Defect, Defective};

impl<O: OutboxStore> OutboxStore for Defective<O> {
    async fn delete(&self, ids: &[i64]) -> Result<(), StoreError> {
        self.inner.delete(ids).await
    }

    async fn hold(&self, id: i64, unrouted: &[Unrouted], retry: Duration) -> Result<(), StoreError> {
        self.inner.hold(id, unrouted, retry).await
    }

    async fn renew(&self, ids: &[i64], lease: Duration) -> Result<(), StoreError> {
        self.inner.renew(ids, lease).await
    }

    async fn abandoned(&self, most: usize) -> Result<Vec<RowSize>, StoreError> {
        let mut rows = self.inner.abandoned(most).await?;
        if self.defect == Some(Defect::OutboxCursor) {
            let last = rows.iter().map(|row| row.id).max();
            let from = last.map_or(i64::MAX, |last| self.seen.swept.fetch_max(last, Ordering::Relaxed));
            rows.retain(|row| row.id > from);
        }
        Ok(rows)
    }

    async fn held_of(&self, key: &str, refused: bool, most: usize) -> Result<Vec<RowSize>, StoreError> {
        self.inner.held_of(key, refused, most).await
    }

    async fn probes(&self, most: usize) -> Result<Vec<RowSize>, StoreError> {
        self.inner.probes(most).await
    }

    async fn take(&self, ids: &[i64], lease: Duration) -> Result<Vec<EventBatch>, StoreError> {
        self.inner.take(ids, lease).await
    }

    async fn adopt(&self) -> Result<(), StoreError> {
        self.inner.adopt().await
    }

    async fn drop_held_replies(&self, limit: Duration) -> Result<i64, StoreError> {
        self.inner.drop_held_replies(limit).await
    }
}
