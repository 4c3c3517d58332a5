//! The simulated task queue of the broker: deliveries, tags, acknowledgements and redelivery.

use std::collections::BTreeMap;
use std::sync::Arc;

use settled_pipeline::intake::Ack;
use tokio::sync::Notify;

/// Number of deliveries after which the broker dead-letters a message.
const DELIVERY_LIMIT: u32 = 50;

/// Distance between the first tags of two sessions. It makes tags unique, so that one used in another session is
/// noticed.
const TAGS: u64 = 1_000_000;

/// A message in the queue, identified by its index in the load.
#[derive(Clone, Copy, Debug)]
struct Queued {
    number: usize,
    deliveries: u32,
}

/// State of a session in the broker.
#[derive(Debug)]
pub(super) struct Consumer {
    pub(super) prefetch: usize,
    next_tag: u64,
    out: BTreeMap<u64, Queued>,
    pub(super) is_muted: bool,
}

/// The task queue and its consumers.
#[derive(Debug, Default)]
pub(super) struct Queue {
    /// Ready messages in the order of publication. Redelivered messages return to their old position.
    ready: BTreeMap<usize, Queued>,
    pub(super) consumers: BTreeMap<u64, Consumer>,
    sessions: u64,
    /// Messages that were dead-lettered.
    pub(super) dead: Vec<usize>,
    pub(super) changed: Arc<Notify>,
}

impl Queue {
    pub(super) fn publish(&mut self, number: usize) {
        self.ready.insert(number, Queued { number, deliveries: 0 });
        self.changed.notify_waiters();
    }

    /// Returns the number of messages that are not acknowledged.
    pub(super) fn left(&self) -> usize {
        self.ready.len() + self.consumers.values().map(|consumer| consumer.out.len()).sum::<usize>()
    }

    pub(super) fn open(&mut self, prefetch: u16) -> u64 {
        self.sessions += 1;
        let consumer = Consumer {
            prefetch: prefetch.into(),
            next_tag: self.sessions * TAGS + 1,
            out: BTreeMap::new(),
            is_muted: false,
        };
        self.consumers.insert(self.sessions, consumer);
        self.sessions
    }

    /// Ends a session and requeues its unacknowledged messages.
    pub(super) fn close(&mut self, session: u64) {
        let Some(consumer) = self.consumers.remove(&session) else { return };
        for mut queued in consumer.out.into_values() {
            queued.deliveries += 1;
            if queued.deliveries > DELIVERY_LIMIT {
                self.dead.push(queued.number);
            } else {
                self.ready.insert(queued.number, queued);
            }
        }
        self.changed.notify_waiters();
    }

    pub(super) fn close_all(&mut self) {
        for session in self.consumers.keys().copied().collect::<Vec<_>>() {
            self.close(session);
        }
    }

    /// Makes acknowledgements of all current sessions fail, while deliveries continue.
    pub(super) fn mute(&mut self) {
        self.consumers.values_mut().for_each(|consumer| consumer.is_muted = true);
    }

    /// Returns whether there is a message for this session, or `None` if the session is over.
    pub(super) fn has_next(&self, session: u64) -> Option<bool> {
        let consumer = self.consumers.get(&session)?;
        Some(consumer.out.len() < consumer.prefetch && !self.ready.is_empty())
    }

    pub(super) fn deliver(&mut self, session: u64) -> Option<(u64, usize)> {
        let consumer = self.consumers.get_mut(&session)?;
        if consumer.out.len() >= consumer.prefetch {
            return None;
        }
        let (number, queued) = self.ready.pop_first()?;
        let tag = consumer.next_tag;
        consumer.next_tag += 1;
        consumer.out.insert(tag, queued);
        Some((tag, number))
    }

    /// Removes the messages that an acknowledgement covers. Returns their indexes.
    pub(super) fn acknowledge(&mut self, session: u64, ack: Ack) -> Result<Vec<usize>, String> {
        // The session is over, so the acknowledgement is lost.
        let Some(consumer) = self.consumers.get_mut(&session) else { return Ok(Vec::new()) };
        let (Ack::Multiple(tag) | Ack::Single(tag)) = ack;
        if !consumer.out.contains_key(&tag) {
            return Err(format!("{ack:?} of a tag that is not out in session {session}"));
        }
        let is_covered = |(out, _): &(u64, Queued)| *out == tag || *out < tag && matches!(ack, Ack::Multiple(_));
        let out = std::mem::take(&mut consumer.out);
        let (done, rest): (BTreeMap<_, _>, _) = out.into_iter().partition(is_covered);
        consumer.out = rest;
        self.changed.notify_waiters();
        Ok(done.into_values().map(|queued| queued.number).collect())
    }
}
