//! Keeps track of the messages that no queue took, and of the routing keys that no queue is bound for.

use std::collections::{HashMap, HashSet};

use parking_lot::Mutex;

use super::publication::Publication;
use super::sink::Refusal;

/// The published messages that are in no queue, by their id on the wire.
#[derive(Debug, Default)]
pub(super) struct NotTaken {
    /// Messages that no queue is bound for (`basic.return`).
    pub(super) returned: HashSet<String>,
    /// Messages that a queue did not take (`basic.nack`): it is full with `reject-publish`, or failed.
    pub(super) nacked: HashSet<String>,
    /// Messages because of which the broker closes the channel.
    pub(super) refusals: HashMap<String, Refusal>,
    /// Batches that were too large, and the two that were published in place of each.
    pub(super) halves: HashMap<String, [Publication<'static>; 2]>,
}

impl NotTaken {
    /// Adds the messages of `other`.
    pub(super) fn extend(&mut self, other: Self) {
        self.returned.extend(other.returned);
        self.nacked.extend(other.nacked);
        self.refusals.extend(other.refusals);
        self.halves.extend(other.halves);
    }

    /// Returns whether no queue is bound for the message.
    pub(super) fn has_returned(&self, message: &Publication<'_>) -> bool {
        !self.returned.is_empty() && self.returned.contains(&*message.id_on_the_wire())
    }
}

/// The routing keys that no queue was bound for the last time. Used if unroutable events are discarded.
///
/// A returned event costs the broker more than one that a queue takes. So of each such key only one event of an event
/// batch is published, and the others are withheld: while that one is returned, they would be too.
#[derive(Debug, Default)]
pub(super) struct UnboundKeys(Mutex<HashSet<String>>);

impl UnboundKeys {
    /// Splits messages into those to publish, and those to withhold until it is known whether a queue takes the first
    /// of the same key.
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

    /// Updates the keys by what was returned of `published`. Splits `withheld` into the messages that a queue is bound
    /// for now, and those to discard.
    pub(super) fn update<'m, 'a>(
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

/// Messages that are borrowed from their event batches.
pub(super) type Messages<'m, 'a> = Vec<&'m Publication<'a>>;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outbox::{EventSettings, publications};

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
        let row = publications(1, ROW.as_bytes(), EventSettings::default().encoding()).expect("readable");
        let unbound = UnboundKeys::default();
        let (published, withheld) = unbound.split(row.iter().collect());
        assert_eq!((published.len(), withheld.len()), (4, 0));

        assert!(unbound.update(&published, withheld, &returned(&["1/1", "3/1"])).0.is_empty());
        let (published, withheld) = unbound.split(row.iter().collect());
        assert_eq!(ids(&published), ["1/1", "2/1", "3/1"], "the last is the reply");
        assert_eq!(ids(&withheld), ["3/1"]);
        let (welcome, discarded) = unbound.update(&published, withheld, &returned(&["1/1"]));
        assert_eq!((ids(&welcome), ids(&discarded)), (vec![], vec!["3/1"]), "still nobody");
    }

    #[test]
    fn once_a_queue_is_bound_the_rest_follows() {
        let row = publications(1, ROW.as_bytes(), EventSettings::default().encoding()).expect("readable");
        let unbound = UnboundKeys::default();
        let (published, withheld) = unbound.split(row.iter().collect());
        unbound.update(&published, withheld, &returned(&["1/1", "3/1"]));
        let (published, withheld) = unbound.split(row.iter().collect());
        assert_eq!(ids(&unbound.update(&published, withheld, &NotTaken::default()).0), ["3/1"]);
        assert_eq!(unbound.split(row.iter().collect()).1.len(), 0, "and the next ones are published as a whole");
    }
}
