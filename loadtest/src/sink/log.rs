//! How a stream was read: how far, and what in it was repeated or out of order.

use lapin::types::{AMQPValue, FieldTable};
use uuid::Uuid;

/// Where RabbitMQ says at which place of the stream an event is.
const OFFSET: &str = "x-stream-offset";
/// What the message id of a mark begins with. An event has another one.
const MARK: &str = "settled-loadtest mark ";
/// How many of the events that are not as they should be are named.
const EXAMPLES: usize = 3;

/// What is known of a stream beside what it tells. A stream that is deleted and declared again is another generation of
/// it: what a daemon does not know to be in the old one is appended to the new one, so that it can come again, once.
#[derive(Debug, Default)]
pub(crate) struct Log {
    /// Behind the last message that was read.
    next: u64,
    /// The last mark that was read, and how many messages were before it.
    mark: Option<(String, u64)>,
    generation: u32,
    /// The generation in which events of each of the run's ids came last, and their versions, one bit each.
    came: Vec<(u32, u16)>,
    /// Events that were in a generation more than once.
    pub(crate) repeated: Wrong,
    /// Events that came after one of a later version.
    pub(crate) misplaced: Wrong,
}

/// Events that are not as they should be.
#[derive(Debug, Default)]
pub(crate) struct Wrong {
    count: u64,
    examples: Vec<String>,
}

impl Wrong {
    fn note(&mut self, id: &str) {
        self.count += 1;
        if self.examples.len() < EXAMPLES {
            self.examples.push(id.to_owned());
        }
    }

    /// How many there are, and which are the first; `None` if there are none.
    pub(crate) fn said(&self) -> Option<String> {
        (self.count > 0).then(|| format!("{} events, such as {}", self.count, self.examples.join(", ")))
    }
}

/// Returns the message id of a mark that is appended behind events, to know when they were read.
pub(super) fn new_mark() -> String {
    format!("{MARK}{}", Uuid::now_v7())
}

impl Log {
    /// Whether the message that was read last is a mark, by its id.
    pub(super) fn is_mark(&mut self, id: &str) -> bool {
        let is_mark = id.starts_with(MARK);
        if is_mark {
            self.mark = Some((id.to_owned(), self.next.saturating_sub(1)));
        }
        is_mark
    }

    /// How many messages were before that mark, if it was read.
    pub(super) fn before(&self, mark: &str) -> Option<u64> {
        self.mark.as_ref().filter(|(id, _)| id == mark).map(|(_, before)| *before)
    }

    /// The generation, and the offset behind what was read of it.
    pub(super) const fn position(&self) -> (u32, u64) {
        (self.generation, self.next)
    }

    /// Reads another stream of the same name from its beginning.
    pub(super) const fn begin_generation(&mut self) {
        self.generation += 1;
        self.next = 0;
    }

    /// Whether a delivery is one that was not read before; `None` if it does not say where it was.
    pub(super) fn advance(&mut self, headers: Option<&FieldTable>) -> Option<bool> {
        let offset = match headers?.inner().get(OFFSET)? {
            AMQPValue::LongLongInt(offset) => u64::try_from(*offset).ok()?,
            _ => return None,
        };
        let is_new = offset >= self.next;
        if is_new {
            self.next = offset + 1;
        }
        Some(is_new)
    }

    /// Notes the event of a version. `place` is that of its task among the run's ids, and `before` has the versions of
    /// which events came before, in any generation.
    pub(super) fn note(&mut self, place: usize, version: u8, before: u16, id: &str) {
        if self.came.len() <= place {
            self.came.resize(place + 1, (0, 0));
        }
        let (bit, came) = (1 << (version - 1), &mut self.came[place]);
        if came.0 != self.generation {
            *came = (self.generation, 0);
        }
        let is_repeated = came.1 & bit != 0;
        came.1 |= bit;
        if is_repeated {
            self.repeated.note(id);
        } else if before & bit == 0 && before >> version != 0 {
            self.misplaced.note(id);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(offset: i64) -> FieldTable {
        let mut headers = FieldTable::default();
        headers.insert(OFFSET.into(), AMQPValue::LongLongInt(offset));
        headers
    }

    #[test]
    fn what_was_read_before_a_connection_was_lost_is_not_read_again() {
        let mut log = Log::default();
        assert_eq!([0, 1, 2].map(|offset| log.advance(Some(&at(offset)))), [Some(true); 3]);
        // The chunk comes again from its beginning.
        assert_eq!([1, 2, 3].map(|offset| log.advance(Some(&at(offset)))), [Some(false), Some(false), Some(true)]);
        assert_eq!(
            (log.position(), log.advance(None), log.advance(Some(&FieldTable::default()))),
            ((0, 4), None, None)
        );
        log.begin_generation();
        assert_eq!((log.position(), log.advance(Some(&at(0)))), ((1, 0), Some(true)));
    }

    #[test]
    fn a_mark_tells_how_many_were_before_it_once_it_is_read() {
        let (mut log, mark) = (Log::default(), new_mark());
        log.advance(Some(&at(0)));
        assert!(!log.is_mark("a/1"));
        assert_eq!(log.before(&mark), None);
        log.advance(Some(&at(1)));
        assert!(log.is_mark(&mark));
        assert_eq!((log.before(&mark), log.before(&new_mark())), (Some(1), None));
    }

    #[test]
    fn an_event_is_in_each_generation_once() {
        let mut log = Log::default();
        log.note(3, 1, 0, "a/1");
        log.begin_generation();
        log.note(3, 1, 0b1, "a/1");
        log.note(3, 2, 0b1, "a/2");
        assert_eq!((log.repeated.said(), log.misplaced.said()), (None, None));
        log.note(3, 1, 0b11, "a/1");
        assert_eq!((log.repeated.said().as_deref(), log.misplaced.said()), (Some("1 events, such as a/1"), None));
    }

    #[test]
    fn the_versions_of_a_task_come_in_their_order() {
        let mut log = Log::default();
        log.note(0, 1, 0, "a/1");
        log.note(0, 3, 0b1, "a/3");
        log.note(0, 2, 0b101, "a/2");
        assert_eq!((log.repeated.said(), log.misplaced.said().as_deref()), (None, Some("1 events, such as a/2")));
    }
}
