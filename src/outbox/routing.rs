//! Which events a queue takes: what the broker sends back, and what needs not be sent again to
//! know that nobody is there.

use std::collections::{HashMap, HashSet};

use parking_lot::Mutex;

use super::publication::Publication;
use super::refusals::Refusal;

/// The messages that are not in a queue, by their id on the wire.
#[derive(Debug, Default)]
pub(super) struct NotTaken {
    /// There is no queue for them.
    pub(super) returned: HashSet<String>,
    /// A queue didn't take them: it is full and says so (`reject-publish`), or failed.
    pub(super) refused: HashSet<String>,
    /// The broker closes the channel on them.
    pub(super) refusals: HashMap<String, Refusal>,
    /// Batches that were too large, and what was published in their place.
    pub(super) halves: HashMap<String, [Publication<'static>; 2]>,
}

impl NotTaken {
    /// Adds what was found of other messages.
    pub(super) fn extend(&mut self, other: Self) {
        self.returned.extend(other.returned);
        self.refused.extend(other.refused);
        self.refusals.extend(other.refusals);
        self.halves.extend(other.halves);
    }

    fn has_returned(&self, message: &Publication<'_>) -> bool {
        !self.returned.is_empty() && self.returned.contains(&*message.id_on_the_wire())
    }
}

/// Where events that no queue takes are thrown away: the routing keys to which no queue was bound
/// the last time. The broker sends back each such event, which costs more than taking it. So of
/// each parcel one event a key is offered, and while that comes back the others would too.
#[derive(Debug, Default)]
pub(super) struct Unbound(Mutex<HashSet<String>>);

impl Unbound {
    /// Splits messages into what is to be published, and what only if a queue takes the first
    /// event of the same key.
    pub(super) fn split<'m, 'a>(&self, messages: Vec<&'m Publication<'a>>) -> (Messages<'m, 'a>, Messages<'m, 'a>) {
        let keys = self.0.lock();
        if keys.is_empty() {
            return (messages, Vec::new());
        }
        let mut probed: Vec<&str> = Vec::new();
        messages.into_iter().partition(|message| {
            let key = &*message.routing_key;
            if message.reply_to.is_some() || !keys.contains(key) {
                return true;
            }
            let first = !probed.contains(&key);
            probed.extend(first.then_some(key));
            first
        })
    }

    /// Learns from what came back of what was published; splits what was `withheld` into what a
    /// queue takes now, and what none would.
    pub(super) fn learn<'m, 'a>(
        &self,
        published: &[&'m Publication<'a>],
        withheld: Messages<'m, 'a>,
        not_taken: &NotTaken,
    ) -> (Messages<'m, 'a>, Messages<'m, 'a>) {
        let mut keys = self.0.lock();
        for message in published.iter().filter(|message| message.reply_to.is_none()) {
            let key = &*message.routing_key;
            if !not_taken.has_returned(message) {
                keys.remove(key);
            } else if !keys.contains(key) {
                keys.insert(key.to_owned());
            }
        }
        withheld.into_iter().partition(|message| !keys.contains(&*message.routing_key))
    }
}

/// Messages, each borrowed from its row.
pub(super) type Messages<'m, 'a> = Vec<&'m Publication<'a>>;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outbox::{BatchLimits, EventFormat, publications};

    const LIMITS: BatchLimits = BatchLimits { events: 1, bytes: 1 << 20 };

    const ROW: &str = concat!(
        r#"{"id":"1/1","source":"s","type":"a","subject":"1","time":"t","data":{}}"#,
        "\n",
        r#"{"id":"2/1","source":"s","type":"b","subject":"2","time":"t","data":{}}"#,
        "\n",
        r#"{"id":"3/1","source":"s","type":"a","subject":"3","time":"t","data":{}}"#,
        "\n",
        r#"{"reply_to":"q","event":{"id":"3/1","source":"s","type":"a","subject":"3","time":"t","data":{}}}"#,
        "\n",
    );

    fn ids<'m>(messages: &[&'m Publication<'_>]) -> Vec<&'m str> {
        messages.iter().map(|message| &*message.message_id).collect()
    }

    fn returned(ids: &[&str]) -> NotTaken {
        NotTaken { returned: ids.iter().map(ToString::to_string).collect(), ..NotTaken::default() }
    }

    #[test]
    fn while_nobody_is_bound_one_event_a_key_is_offered_and_every_reply() {
        let row = publications(1, ROW.as_bytes(), EventFormat::Single, LIMITS).expect("readable");
        let unbound = Unbound::default();
        let (published, withheld) = unbound.split(row.iter().collect());
        assert_eq!((published.len(), withheld.len()), (4, 0));

        assert!(unbound.learn(&published, withheld, &returned(&["1/1", "3/1"])).0.is_empty());
        let (published, withheld) = unbound.split(row.iter().collect());
        assert_eq!(ids(&published), ["1/1", "2/1", "3/1"], "the last is the reply");
        assert_eq!(ids(&withheld), ["3/1"]);
        let (welcome, discarded) = unbound.learn(&published, withheld, &returned(&["1/1"]));
        assert_eq!((ids(&welcome), ids(&discarded)), (vec![], vec!["3/1"]), "still nobody");
    }

    #[test]
    fn once_a_queue_is_bound_the_rest_follows() {
        let row = publications(1, ROW.as_bytes(), EventFormat::Single, LIMITS).expect("readable");
        let unbound = Unbound::default();
        let (published, withheld) = unbound.split(row.iter().collect());
        unbound.learn(&published, withheld, &returned(&["1/1", "3/1"]));
        let (published, withheld) = unbound.split(row.iter().collect());
        assert_eq!(ids(&unbound.learn(&published, withheld, &NotTaken::default()).0), ["3/1"]);
        assert_eq!(unbound.split(row.iter().collect()).1.len(), 0, "and the next ones are published as a whole");
    }
}
