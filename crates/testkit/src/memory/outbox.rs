//! The outbox rows, and the operations of the relay and the sweeper on them.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use settled_pipeline::store::{EventBatch, RowSize, Unrouted};

use super::Memory;

/// An outbox row: the events of a batch.
#[derive(Clone, Debug)]
pub struct OutboxRow {
    pub(super) body: Vec<u8>,
    pub(super) events: u32,
    pub(super) leased_until: Timestamp,
    pub(super) held_key: Option<String>,
    pub(super) held_reason: Option<String>,
    pub(super) created_at: Timestamp,
}

impl OutboxRow {
    const fn size(&self, id: i64) -> RowSize {
        RowSize { id, events: self.events as usize, bytes: self.body.len() }
    }

    fn batch(&self, id: i64) -> EventBatch {
        let Self { body, events, held_key, held_reason, .. } = self.clone();
        EventBatch { id, body, events, held_key, held_reason }
    }
}

impl Memory {
    pub(super) fn add_row(&mut self, row: OutboxRow) -> EventBatch {
        let event_batch = row.batch(self.next_row);
        self.outbox.insert(self.next_row, row);
        self.next_row += 1;
        event_batch
    }

    pub fn delete(&mut self, ids: &[i64]) {
        ids.iter().for_each(|id| drop(self.outbox.remove(id)));
    }

    pub fn hold(&mut self, id: i64, unrouted: &[Unrouted], retry: Duration, now: Timestamp) {
        if let ([Unrouted { key, reason, lines, events }], Some(row)) = (unrouted, self.outbox.get_mut(&id))
            && row.held_key.as_ref() == Some(key)
        {
            (row.body, row.events, row.held_reason) = (lines.clone(), events.unsigned_abs(), reason.clone());
            row.leased_until = now + retry;
            return;
        }
        let Some(OutboxRow { created_at, .. }) = self.outbox.remove(&id) else {
            return; // Whoever took it when its lease ran out has published or held it.
        };
        for Unrouted { key, reason, lines, events } in unrouted {
            let (body, events) = (lines.clone(), events.unsigned_abs());
            let (held_key, held_reason, leased_until) = (Some(key.clone()), reason.clone(), now + retry);
            self.add_row(OutboxRow { body, events, leased_until, held_key, held_reason, created_at });
        }
    }

    pub fn renew(&mut self, ids: &[i64], lease: Duration, now: Timestamp) {
        for id in ids {
            if let Some(row) = self.outbox.get_mut(id) {
                row.leased_until = now + lease;
            }
        }
    }

    pub fn abandoned(&self, most: usize, now: Timestamp) -> Vec<RowSize> {
        self.due_rows(most, now, |row| row.held_key.is_none())
    }

    pub fn held_of(&self, key: &str, refused: bool, most: usize, now: Timestamp) -> Vec<RowSize> {
        self.due_rows(most, now, |row| row.held_key.as_deref() == Some(key) && row.held_reason.is_some() == refused)
    }

    fn due_rows(&self, most: usize, now: Timestamp, of: impl Fn(&OutboxRow) -> bool) -> Vec<RowSize> {
        let rows = self.outbox.iter().filter(|(_, row)| row.leased_until < now && of(row));
        rows.take(most).map(|(id, row)| row.size(*id)).collect()
    }

    pub fn take(&mut self, ids: &[i64], lease: Duration, now: Timestamp) -> Vec<EventBatch> {
        let mut event_batches = Vec::new();
        for (id, row) in &mut self.outbox {
            if row.leased_until < now && ids.contains(id) {
                row.leased_until = now + lease;
                event_batches.push(row.batch(*id));
            }
        }
        event_batches
    }

    pub fn probes(&self, most: usize, now: Timestamp) -> Vec<RowSize> {
        let mut first = BTreeMap::new();
        for (id, row) in self.outbox.iter().filter(|(_, row)| row.held_reason.is_none()) {
            if let Some(key) = &row.held_key {
                first.entry(key.clone()).or_insert(*id);
            }
        }
        let first: Vec<i64> = first.into_values().collect();
        let mut refused: Vec<_> =
            self.outbox.iter().filter(|(_, row)| row.held_reason.is_some() && row.leased_until < now).collect();
        refused.sort_by_key(|(id, row)| (row.leased_until, **id));
        let first = self.outbox.iter().filter(|(id, row)| first.contains(id) && row.leased_until < now);
        first.chain(refused.into_iter().take(most)).map(|(id, row)| row.size(*id)).collect()
    }

    pub fn drop_held_replies(&mut self, limit: Duration, now: Timestamp) -> i64 {
        let is_reply = |key: &str| key == "reply" || key.starts_with("reply:");
        let mut dropped = 0;
        self.outbox.retain(|_, row| {
            let old = row.leased_until < now && row.created_at < now - limit;
            let drop = old && row.held_key.as_deref().is_some_and(is_reply);
            dropped += if drop { i64::from(row.events) } else { 0 };
            !drop
        });
        dropped
    }
}
