//! Defects between the pipeline and the outbox.

use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use settled_pipeline::store::{Depth, OutboxStore, RowSize, Unrouted};
use settled_pipeline::store::{EventBatch, StoreError};

use super::Defect;

/// Wraps an outbox and adds the defect.
pub struct DefectiveOutbox<O> {
    inner: O,
    defect: Option<Defect>,
    /// Highest row id that a sweep has returned.
    cursor: AtomicI64,
}

impl<O> DefectiveOutbox<O> {
    pub(super) const fn new(inner: O, defect: Option<Defect>) -> Self {
        Self { inner, defect, cursor: AtomicI64::new(0) }
    }
}

impl<O: OutboxStore> OutboxStore for DefectiveOutbox<O> {
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
            let from = last.map_or(i64::MAX, |last| self.cursor.fetch_max(last, Ordering::Relaxed));
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

    async fn drop_held_replies(&self, limit: Duration) -> Result<i64, StoreError> {
        self.inner.drop_held_replies(limit).await
    }

    async fn measure(&self) -> Result<(Depth, i64), StoreError> {
        self.inner.measure().await
    }
}
