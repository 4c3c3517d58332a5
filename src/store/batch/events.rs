//! From the ledger's outcomes to what the world is told: pure. Apart from the rows, so that events
//! are put into words while PostgreSQL is writing the rows already.

use jiff::Timestamp;
use smallvec::{SmallVec, smallvec};

use super::plan::Decided;
use crate::contract::{AccountName, BalanceAfter, Event, Message, Properties, Rejection, Reply, Task};
use crate::ledger::{AccountIx, Outcome, Posting};
use crate::sabotage::{self, Defect};

/// What most events take, so that the lines of a batch seldom have to move.
const USUAL_BYTES: usize = 640;

/// The content of an outbox row.
#[derive(Debug, Default)]
pub(super) struct Events {
    /// One line an event.
    pub(super) body: Vec<u8>,
    /// How many.
    pub(super) count: i32,
}

impl Events {
    /// Appends the event (unless it was published before) and the reply that is asked for.
    fn tell(&mut self, event: &Event<'_>, to_all: bool) {
        if to_all {
            event.write(&mut self.body);
            self.count += 1;
        }
        if let Some(reply_to) = event.properties.reply_to.as_deref() {
            let reply = Reply { reply_to, correlation_id: event.properties.correlation_id.as_deref() };
            event.write_reply(reply, &mut self.body);
            self.count += 1;
        }
    }
}

impl<'a> Decided<'_, 'a> {
    /// The events of the batch, decided at `now`, that name `source`.
    pub(super) fn events(&self, now: Timestamp, source: &str) -> Events {
        let mut events = Events::default();
        events.body.reserve(self.items.len() * USUAL_BYTES);
        for (ix, planned) in self.plan.tasks.iter().enumerate() {
            let message = self.batch[planned.position].message;
            match &self.outcomes[ix] {
                Outcome::Opened | Outcome::Settled { .. } | Outcome::Rejected(_) => {
                    let (properties, balances) = (&message.properties, self.balances_after(ix));
                    let rejection = self.rejection(ix);
                    let event = Event {
                        task: planned.task,
                        properties,
                        rejection,
                        settled_at: now,
                        balances: &balances,
                        source,
                    };
                    events.tell(&event, !sabotage::strikes(Defect::DroppedEvent, self.items[ix].arrival, planned.task));
                }
                Outcome::Duplicate if message.properties.reply_to.is_some() => {
                    self.answer_again(planned.task, message, now, source, &mut events);
                }
                Outcome::Duplicate | Outcome::Conflict(_) | Outcome::SetAside { .. } => {}
            }
        }
        events
    }

    fn rejection(&self, ix: usize) -> Option<Rejection> {
        match &self.outcomes[ix] {
            Outcome::Rejected(rejection) => Some(*rejection),
            _ => None,
        }
    }

    /// The balances that an item's event tells.
    fn balances_after(&self, ix: usize) -> SmallVec<[BalanceAfter<'a>; 2]> {
        let held = |account: AccountIx| self.accounts[account.0].held;
        let after = |posting: &Posting, account: &'a AccountName| BalanceAfter {
            account: account.as_str(),
            posted: posting.balance_after,
            held: held(posting.account),
            version: posting.seq,
        };
        let body = &self.items[ix].task.body;
        match &self.outcomes[ix] {
            Outcome::Settled { debit, credit } => {
                smallvec![after(debit, body.ordering_account()), after(credit, body.credited_account())]
            }
            Outcome::Opened => {
                smallvec![BalanceAfter { account: body.ordering_account().as_str(), posted: 0, held: 0, version: 0 }]
            }
            _ => SmallVec::new(),
        }
    }

    /// A repetition applies nothing, but who asks for a reply gets the stored outcome.
    fn answer_again(&self, task: &'a Task, message: &Message, now: Timestamp, source: &str, events: &mut Events) {
        if let Some(stored) = self.stored.get(&task.id) {
            stored.with_event(message.properties.clone(), source, |event| events.tell(event, false));
        } else if let Some(first) = self.items.iter().position(|item| item.task.id == task.id) {
            let rejection = self.rejection(first);
            let balances = self.balances_after(first);
            let publisher = self.batch[self.plan.tasks[first].position].message.properties.publisher.clone();
            let properties = Properties { publisher, ..message.properties.clone() };
            let event =
                Event { task, properties: &properties, rejection, settled_at: now, balances: &balances, source };
            events.tell(&event, false);
        }
    }
}
