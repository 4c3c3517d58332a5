//! What a subscriber has received.

use hdrhistogram::Histogram;
use lapin::message::Delivery;
use serde::Deserialize;
use settled_core::contract::EventKind;
use uuid::Uuid;

use super::log::Log;
use crate::plan::Mark;
use crate::report::model::empty_histogram;

const BATCH: &str = "application/cloudevents-batch+json";
/// A task does not wait more often than this and one.
const MOST_VERSIONS: u8 = 16;
/// How many of the events that should not have come are kept.
const EXAMPLES: usize = 100;

#[derive(Debug)]
pub(crate) struct Received {
    mark: Mark,
    /// Ids below this opened the accounts.
    first: usize,
    /// What came for each number of the run's ids, from `first` on.
    heard: Vec<Heard>,
    /// Deliveries of the load, the repeated ones included.
    pub(crate) total: u64,
    pub(crate) unique: u64,
    /// Those of them that say that a task is scheduled, and those that say that one is parked.
    pub(crate) waiting: [u64; 2],
    /// When the last new one came, in microseconds since 1970.
    pub(crate) last_at: i64,
    /// Events of other runs, or of no run at all.
    pub(crate) foreign: u64,
    /// How many contradicted others, or could not be read.
    pub(crate) wrong: u64,
    pub(crate) examples: Vec<String>,
    /// How the stream was read; `None` if events came from a queue.
    pub(crate) log: Option<Log>,
    /// How long the new ones took since somebody last looked, in microseconds.
    pub(super) latency: Histogram<u64>,
}

#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Heard {
    /// The event of what it came to, if that came.
    last: Option<EventKind>,
    last_version: u8,
    /// The versions in which it waited and of which an event came, one bit each.
    waited: u16,
    /// When the event of what it came to first came, in microseconds since 1970.
    at: i64,
    /// How many different events had come before that one.
    place: u64,
}

impl Heard {
    /// The versions of which an event came, one bit each from the lowest on.
    pub(crate) fn versions(self) -> u16 {
        self.waited | self.last.map_or(0, |_| 1 << (self.last_version - 1))
    }
}

impl Received {
    pub(crate) fn new(mark: Mark, first: usize) -> Self {
        Self {
            mark,
            first,
            heard: Vec::new(),
            total: 0,
            unique: 0,
            waiting: [0; 2],
            last_at: 0,
            foreign: 0,
            wrong: 0,
            examples: Vec::new(),
            log: None,
            latency: empty_histogram(),
        }
    }

    /// The same, from a stream: each event is to be in it once, and in order.
    pub(crate) fn of_stream(mark: Mark, first: usize) -> Self {
        Self { log: Some(Log::default()), ..Self::new(mark, first) }
    }

    /// Which stream of its name is read, counted from 0, and where it is to be read from.
    pub(super) fn position(&self) -> (u32, u64) {
        self.log.as_ref().map_or((0, 0), Log::position)
    }

    /// Reads another stream of the same name from its beginning.
    pub(crate) fn begin_generation(&mut self) {
        if let Some(log) = &mut self.log {
            log.begin_generation();
        }
    }

    pub(super) fn take_all(&mut self) -> Self {
        let nothing = Self::new(self.mark, self.first);
        std::mem::replace(self, nothing)
    }

    /// All that came for that number of the run's ids.
    pub(crate) fn heard(&self, number: usize) -> Heard {
        let place = number.checked_sub(self.first);
        place.and_then(|place| self.heard.get(place)).copied().unwrap_or_default()
    }

    /// The event of what that number of the run's ids came to, if it came, and when its first delivery was, in
    /// microseconds since 1970.
    pub(crate) fn arrival(&self, number: usize) -> Option<(EventKind, i64)> {
        let heard = self.heard(number);
        Some((heard.last?, heard.at))
    }

    /// How many different events came before that of what this number of the run's ids came to, if it came.
    pub(crate) fn place(&self, number: usize) -> Option<u64> {
        let heard = self.heard(number);
        heard.last.map(|_| heard.place)
    }

    pub(crate) fn numbers(&self) -> impl Iterator<Item = usize> {
        let came = self.heard.iter().enumerate().filter(|(_, heard)| heard.versions() > 0);
        came.map(|(place, _)| place + self.first)
    }

    /// Notes a delivery that came at `now`, in microseconds since 1970.
    pub(super) fn take(&mut self, delivery: &Delivery, now: i64) {
        let properties = &delivery.properties;
        if let Some(log) = &mut self.log {
            match log.advance(properties.headers().as_ref()) {
                Some(true) => {}
                // A chunk is delivered from its beginning.
                Some(false) => return,
                None => return self.complain("an event of a stream without an offset".to_owned()),
            }
            if properties.message_id().as_ref().is_some_and(|id| log.is_mark(id.as_str())) {
                return;
            }
        }
        if properties.content_type().as_ref().is_some_and(|content_type| content_type.as_str() == BATCH) {
            return self.take_batch(&delivery.data, now);
        }
        // What comes from a stream has its name for a key.
        let kind = properties.kind().as_ref().filter(|_| self.log.is_some());
        let kind = kind.map_or(delivery.routing_key.as_str(), |kind| kind.as_str());
        match properties.message_id() {
            Some(id) => self.note(id.as_str(), kind, now),
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

    #[cfg(test)]
    pub(crate) fn hear(&mut self, id: &str, kind: &str) {
        self.note(id, kind, 0);
    }

    /// An event's id is `<task id>/<version>`.
    fn note(&mut self, id: &str, kind: &str, now: i64) {
        let task = id.split_once('/').and_then(|(task, version)| {
            let version = version.parse().ok().filter(|version| (1..=MOST_VERSIONS).contains(version));
            Some((task.parse::<Uuid>().ok()?, version?))
        });
        let (Some((task, version)), Some(kind)) = (task, EventKind::from_name(kind)) else {
            return self.complain(format!("event {id} of type {kind}"));
        };
        let Some(stamp) = self.mark.read(task) else {
            self.foreign += 1;
            return;
        };
        let Some(place) = stamp.number.checked_sub(self.first) else { return };
        self.total += 1;
        if self.heard.len() <= place {
            self.heard.resize(place + 1, Heard::default());
        }
        let heard = &mut self.heard[place];
        let bit = 1 << (version - 1);
        if let Some(log) = &mut self.log {
            log.note(place, version, heard.versions(), id);
        }
        if heard.versions() & bit != 0 {
            let again = if heard.waited & bit == 0 { heard.last } else { Some(kind).filter(|kind| is_waiting(*kind)) };
            if again != Some(kind) {
                self.complain(format!("event {id} came as {} too", kind.name()));
            }
            return;
        }
        match heard.last {
            _ if is_waiting(kind) => {
                heard.waited |= bit;
                let is_parked = matches!(kind, EventKind::PaymentParked | EventKind::AccountParked);
                self.waiting[usize::from(is_parked)] += 1;
            }
            None => {
                (heard.last, heard.last_version, heard.at) = (Some(kind), version, now);
                heard.place = self.unique;
                // What waited says nothing of how fast anybody is.
                if version == 1 {
                    self.latency.saturating_record(u64::try_from(now - stamp.scheduled).unwrap_or_default());
                }
            }
            Some(last) => return self.complain(format!("event {id} came as {} after {}", kind.name(), last.name())),
        }
        self.unique += 1;
        self.last_at = now;
    }

    fn complain(&mut self, what: String) {
        self.wrong += 1;
        if self.examples.len() < EXAMPLES {
            self.examples.push(what);
        }
    }
}

/// Whether it says that a task waits, and will come to something else.
const fn is_waiting(kind: EventKind) -> bool {
    matches!(
        kind,
        EventKind::PaymentScheduled | EventKind::PaymentParked | EventKind::AccountScheduled | EventKind::AccountParked
    )
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
    fn a_task_that_waited_has_an_event_of_each_state_and_one_of_its_outcome() {
        let mark = Mark::random();
        let id = |version: u8| format!("{}/{version}", mark.id(Stamp { number: 3, scheduled: NOW }));
        let mut received = Received::new(mark, 0);
        received.note(&id(3), "payment.settled", NOW);
        received.note(&id(1), "payment.scheduled", NOW + 1);
        for _ in 0..2 {
            received.note(&id(2), "payment.parked", NOW + 1);
        }
        assert_eq!((received.unique, received.total, received.wrong), (3, 4, 0));
        assert_eq!((received.heard(3).versions(), received.arrival(3).map(|(_, at)| at)), (0b111, Some(NOW)));
        received.note(&id(4), "payment.settled", NOW);
        received.note(&id(2), "payment.settled", NOW);
        received.note(&id(3), "payment.parked", NOW);
        assert_eq!((received.unique, received.wrong), (3, 3), "{:?}", received.examples);
    }

    #[test]
    fn repeated_events_are_counted_and_contradictions_noted() {
        let mark = Mark::random();
        let id = event(mark, 12);
        let mut received = Received::new(mark, 10);
        received.note(&id, "payment.settled", NOW);
        received.take_batch(format!(r#"[{{"id":"{id}","type":"payment.settled","data":{{}}}}]"#).as_bytes(), NOW);
        assert_eq!((received.total, received.unique, received.wrong), (2, 1, 0));
        assert_eq!(received.arrival(12).map(|(_, at)| at), Some(NOW));
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
