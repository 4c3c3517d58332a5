//! What a subscriber has received.

use hdrhistogram::Histogram;
use lapin::message::Delivery;
use serde::Deserialize;
use settled::contract::EventKind;
use uuid::Uuid;

use crate::plan::Mark;
use crate::report::model::empty_histogram;

const BATCH: &str = "application/cloudevents-batch+json";
/// How many of the events that should not have come are kept.
const EXAMPLES: usize = 100;

/// All events that came.
#[derive(Debug)]
pub(crate) struct Received {
    mark: Mark,
    /// Ids below this opened the accounts.
    first: usize,
    /// What came for each number of the run's ids, from `first` on.
    pub(crate) arrivals: Vec<Option<Arrival>>,
    /// Deliveries of the load, the repeated ones included.
    pub(crate) total: u64,
    /// Different events of the load.
    pub(crate) unique: u64,
    /// When the last new one came, in microseconds since 1970.
    pub(crate) last_at: i64,
    /// Events of other runs, or of no run at all.
    pub(crate) foreign: u64,
    /// How many contradicted others, or could not be read, or were of no first version.
    pub(crate) wrong: u64,
    /// Some of those.
    pub(crate) examples: Vec<String>,
    /// How long the new ones took since somebody last looked, in microseconds.
    pub(super) latency: Histogram<u64>,
}

/// The first delivery of an event.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Arrival {
    /// What kind it was.
    pub(crate) kind: EventKind,
    /// When, in microseconds since 1970.
    pub(crate) at: i64,
}

impl Received {
    /// Nothing yet.
    pub(crate) fn new(mark: Mark, first: usize) -> Self {
        Self {
            mark,
            first,
            arrivals: Vec::new(),
            total: 0,
            unique: 0,
            last_at: 0,
            foreign: 0,
            wrong: 0,
            examples: Vec::new(),
            latency: empty_histogram(),
        }
    }

    /// All of it; nothing is left.
    pub(super) fn take_all(&mut self) -> Self {
        let nothing = Self::new(self.mark, self.first);
        std::mem::replace(self, nothing)
    }

    /// The event of that number of the run's ids, if it came.
    pub(crate) fn arrival(&self, number: usize) -> Option<Arrival> {
        self.arrivals.get(number.checked_sub(self.first)?).copied().flatten()
    }

    /// The numbers of which an event came.
    pub(crate) fn numbers(&self) -> impl Iterator<Item = usize> {
        let came = self.arrivals.iter().enumerate().filter(|(_, arrival)| arrival.is_some());
        came.map(|(place, _)| place + self.first)
    }

    /// Notes a delivery that came at `now`, in microseconds since 1970.
    pub(super) fn take(&mut self, delivery: &Delivery, now: i64) {
        let properties = &delivery.properties;
        if properties.content_type().as_ref().is_some_and(|content_type| content_type.as_str() == BATCH) {
            return self.take_batch(&delivery.data, now);
        }
        match properties.message_id() {
            Some(id) => self.note(id.as_str(), delivery.routing_key.as_str(), now),
            None => self.complain("an event without a message_id".to_owned()),
        }
    }

    fn take_batch(&mut self, body: &[u8], now: i64) {
        #[derive(Deserialize)]
        struct Event<'a> {
            id: &'a str,
            #[serde(rename = "type")]
            kind: &'a str,
        }
        match serde_json::from_slice::<Vec<Event<'_>>>(body) {
            Ok(events) => events.iter().for_each(|event| self.note(event.id, event.kind, now)),
            Err(error) => self.complain(format!("a batch that cannot be read: {error}")),
        }
    }

    /// An event's id is `<task id>/<version>`.
    fn note(&mut self, id: &str, kind: &str, now: i64) {
        let task = id.split_once('/').and_then(|(task, version)| Some((task.parse::<Uuid>().ok()?, version)));
        let (Some((task, version)), Some(kind)) = (task, EventKind::from_name(kind)) else {
            return self.complain(format!("event {id} of type {kind}"));
        };
        let Some(stamp) = self.mark.read(task) else {
            self.foreign += 1;
            return;
        };
        let Some(place) = stamp.number.checked_sub(self.first) else { return };
        self.total += 1;
        if version != "1" {
            return self.complain(format!("event {id} of another version than the first"));
        }
        if self.arrivals.len() <= place {
            self.arrivals.resize(place + 1, None);
        }
        match self.arrivals[place] {
            None => {
                self.arrivals[place] = Some(Arrival { kind, at: now });
                self.unique += 1;
                self.last_at = now;
                self.latency.saturating_record(u64::try_from(now - stamp.scheduled).unwrap_or_default());
            }
            Some(first) if first.kind == kind => {}
            Some(first) => self.complain(format!("event {id} came as {} and as {}", first.kind.name(), kind.name())),
        }
    }

    fn complain(&mut self, what: String) {
        self.wrong += 1;
        if self.examples.len() < EXAMPLES {
            self.examples.push(what);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::Stamp;

    const NOW: i64 = 1_790_000_000_000_000;

    fn event(mark: Mark, number: usize) -> String {
        format!("{}/1", mark.id(Stamp { number, scheduled: NOW - 1500 }))
    }

    #[test]
    fn repeated_events_are_counted_and_contradictions_noted() {
        let mark = Mark::random();
        let id = event(mark, 12);
        let mut received = Received::new(mark, 10);
        received.note(&id, "payment.settled", NOW);
        received.take_batch(format!(r#"[{{"id":"{id}","type":"payment.settled","data":{{}}}}]"#).as_bytes(), NOW);
        assert_eq!((received.total, received.unique, received.wrong), (2, 1, 0));
        assert_eq!(received.arrival(12).map(|arrival| arrival.at), Some(NOW));
        assert_eq!(received.numbers().collect::<Vec<_>>(), [12]);
        received.note(&id, "payment.rejected", NOW);
        received.note("x", "payment.settled", NOW);
        received.take_batch(b"{", NOW);
        assert_eq!((received.unique, received.wrong), (1, 3));
    }

    #[test]
    fn events_of_others_and_of_the_opening_are_not_of_the_load() {
        let mark = Mark::random();
        let mut received = Received::new(mark, 10);
        received.note(&event(mark, 9), "account.opened", NOW);
        received.note(&format!("{}/1", Uuid::now_v7()), "payment.settled", NOW);
        assert_eq!((received.total, received.foreign, received.wrong), (0, 1, 0));
    }
}
