//! The rows of the outbox, and what the keeper does with them.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;

use super::Memory;
use crate::store::Parcel;
use crate::store::outbox::{Depth, Unrouted};

/// The events of a batch.
#[derive(Clone, Debug)]
pub(crate) struct OutboxRow {
    pub(super) body: Vec<u8>,
    pub(super) events: u32,
    pub(super) leased_until: Timestamp,
    pub(super) held_key: Option<String>,
}

impl Memory {
    pub(crate) fn delete(&mut self, ids: &[i64]) {
        ids.iter().for_each(|id| drop(self.outbox.remove(id)));
    }

    pub(crate) fn hold(&mut self, id: i64, unrouted: &[Unrouted], retry: Duration, now: Timestamp) {
        if self.outbox.remove(&id).is_none() {
            return; // Whoever took it when its lease ran out has published or held it.
        }
        for Unrouted { key, lines, events } in unrouted {
            let (body, events) = (lines.clone(), events.unsigned_abs());
            let row = OutboxRow { body, events, leased_until: now + retry, held_key: Some(key.clone()) };
            self.outbox.insert(self.next_row, row);
            self.next_row += 1;
        }
    }

    pub(crate) fn renew(&mut self, ids: &[i64], lease: Duration, now: Timestamp) {
        for id in ids {
            if let Some(row) = self.outbox.get_mut(id) {
                row.leased_until = now + lease;
            }
        }
    }

    pub(crate) fn abandoned(&self, most: usize, now: Timestamp) -> Vec<(i64, usize)> {
        self.due_rows(most, now, |row| row.held_key.is_none())
    }

    pub(crate) fn held_of(&self, key: &str, most: usize, now: Timestamp) -> Vec<(i64, usize)> {
        self.due_rows(most, now, |row| row.held_key.as_deref() == Some(key))
    }

    fn due_rows(&self, most: usize, now: Timestamp, of: impl Fn(&OutboxRow) -> bool) -> Vec<(i64, usize)> {
        let rows = self.outbox.iter().filter(|(_, row)| row.leased_until < now && of(row));
        rows.take(most).map(|(id, row)| (*id, row.events as usize)).collect()
    }

    pub(crate) fn take(&mut self, ids: &[i64], lease: Duration, now: Timestamp) -> Vec<Parcel> {
        let mut parcels = Vec::new();
        for (id, row) in &mut self.outbox {
            if row.leased_until < now && ids.contains(id) {
                row.leased_until = now + lease;
                let (body, held_key) = (row.body.clone(), row.held_key.clone());
                parcels.push(Parcel { id: *id, body, events: row.events, held_key });
            }
        }
        parcels
    }

    pub(crate) fn take_held(&mut self, lease: Duration, now: Timestamp) -> Vec<Parcel> {
        let mut first = BTreeMap::new();
        for (id, row) in &self.outbox {
            if let Some(key) = &row.held_key {
                first.entry(key.clone()).or_insert(*id);
            }
        }
        let first: Vec<i64> = first.into_values().collect();
        self.take(&first, lease, now)
    }

    pub(crate) fn depth(&self) -> Depth {
        let events = |rows: &mut dyn Iterator<Item = &OutboxRow>| rows.map(|row| i64::from(row.events)).sum();
        Depth {
            rows: self.outbox.len() as i64,
            events: events(&mut self.outbox.values()),
            held: events(&mut self.outbox.values().filter(|row| row.held_key.is_some())),
            oldest_seconds: 0.0,
        }
    }
}
