//! From the ledger's outcomes to what the world is told: pure. Apart from the rows, so that events
//! are put into words while PostgreSQL is writing the rows already.

use smallvec::{SmallVec, smallvec};

use super::decided::Decided;
use super::write::DeadLetterRow;
use crate::contract::{
    BalanceAfter, DeadLetterEvent, Event, EventKind, LegView, Message, PaymentState, PaymentView, Properties,
    Rejection, Reply, Task,
};
use crate::ledger::{Acted, Balance, Outcome, Payment, PaymentLeg};
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

type Balances<'a> = SmallVec<[BalanceAfter<'a>; 2]>;

impl<'a> Decided<'_, 'a> {
    /// The events of the batch, among them those of its `dead_letters`; they name `source` and the ledger's
    /// incarnation. What the clock did comes first.
    pub(super) fn events(&self, source: &str, dead_letters: &[DeadLetterRow<'_>]) -> Events {
        let source = &*format!("{}/{}", source.trim_end_matches('/'), self.incarnation);
        let mut events = Events::default();
        events.body.reserve(self.layout.items.len() * USUAL_BYTES);
        for acted in &self.expired {
            self.tell_expired(acted, source, &mut events);
        }
        for (ix, planned) in self.plan.tasks.iter().enumerate() {
            let message = self.batch[planned.position].message;
            let item = &self.layout.items[ix];
            match &self.decision.outcomes[ix] {
                Outcome::Duplicate if message.properties.reply_to.is_some() && !item.resumes => {
                    self.answer_again(planned.task, message, source, &mut events);
                }
                Outcome::Duplicate | Outcome::Conflict(_) | Outcome::SetAside { .. } => {}
                _ if self.waits_as_before(item) => {}
                _ => {
                    let to_all = !sabotage::strikes(Defect::DroppedEvent, item.arrival, planned.task);
                    self.with_event(ix, &message.properties, source, |event| events.tell(event, to_all));
                }
            }
        }
        for row in dead_letters {
            self.tell_dead_letter(row, source, &mut events);
        }
        events
    }

    /// An event for all, where that is set; and an answer to each delivery that asks for one.
    fn tell_dead_letter(&self, row: &DeadLetterRow<'_>, source: &str, events: &mut Events) {
        let event_of = |message: &Message, tell: &mut dyn FnMut(&DeadLetterEvent<'_>)| {
            tell(&DeadLetterEvent {
                digest: &row.digest,
                task_id: row.task_id,
                task_type: message.content.as_ref().ok().map(|task| task.body.task_type()),
                reason: row.reason,
                field: row.field.as_deref(),
                detail: &row.detail,
                properties: &message.properties,
                at: self.now,
                source,
            });
        };
        if let Some(message) = row.messages.first().filter(|_| self.tells_dead_letters) {
            event_of(message, &mut |event| event.write(&mut events.body));
            events.count += 1;
        }
        for (message, reply) in row.asked() {
            event_of(message, &mut |event| {
                event.write_reply(reply, &mut events.body);
            });
            events.count += 1;
        }
    }

    /// Puts the event of an item together.
    fn with_event(&self, ix: usize, properties: &Properties, source: &str, tell: impl FnOnce(&Event<'_>)) {
        let (item, outcome) = (&self.layout.items[ix], &self.decision.outcomes[ix]);
        let task: &Task = item.task;
        let state = outcome.state().unwrap_or(PaymentState::Rejected);
        let before = item.resumes.then(|| self.payments_before.get(&task.id)).flatten();
        let rejection: Option<Rejection> =
            if let Outcome::Rejected(rejection) = outcome { Some(*rejection) } else { None };
        let acted = if let Outcome::Acted(acted) = outcome { Some(acted) } else { None };
        let payment = acted.and_then(|acted| acted.payment.as_ref()).map(|payment| self.view(payment));
        let balances = self.balances_after(outcome, ix);
        tell(&Event {
            kind: EventKind::of(task.body.task_type(), state),
            task,
            properties,
            state,
            version: before.map_or(1, |own| own.version + 1),
            rejection,
            moved: acted.and_then(|acted| acted.moved),
            settled_at: self.now,
            payment: payment.as_ref(),
            balances: &balances,
            source,
        });
    }

    /// A hold that ran out: the event of the task that made it.
    fn tell_expired(&self, acted: &Acted, source: &str, events: &mut Events) {
        let Some(payment) = &acted.payment else { return };
        let Some(stored) = self.stored.get(&payment.id) else { return };
        let publisher = stored.publisher.as_deref().map(Into::into);
        let balances: Balances<'_> = acted.balances.iter().map(|balance| self.balance(balance)).collect();
        let (properties, view) = (Properties { publisher, ..Properties::default() }, self.view(payment));
        let event = Event {
            kind: EventKind::PaymentExpired,
            task: &stored.task,
            properties: &properties,
            state: acted.state,
            version: payment.version,
            rejection: None,
            moved: None,
            settled_at: self.now,
            payment: Some(&view),
            balances: &balances,
            source,
        };
        events.tell(&event, true);
    }

    /// The balances that an item's event tells.
    fn balances_after(&self, outcome: &Outcome, ix: usize) -> Balances<'a> {
        match outcome {
            Outcome::Settled { debit, credit } => smallvec![self.balance(&debit.after), self.balance(&credit.after)],
            Outcome::Opened => {
                let (account, _) = self.layout.items[ix].pairs[0];
                let name = self.layout.names[account.0].as_str();
                smallvec![BalanceAfter { account: name, posted: 0, held: Some(0), version: 0, shortfall: 0 }]
            }
            Outcome::Acted(acted) => {
                let postings = acted.movements.iter().flat_map(|made| [&made.debit.after, &made.credit.after]);
                postings.chain(&acted.balances).map(|balance| self.balance(balance)).collect()
            }
            _ => SmallVec::new(),
        }
    }

    fn balance(&self, balance: &Balance) -> BalanceAfter<'a> {
        let Balance { account, posted, held, version, shortfall } = *balance;
        let account = self.layout.names[account.0].as_str();
        BalanceAfter { account, posted, held: Some(held), version, shortfall }
    }

    fn view(&self, payment: &Payment) -> PaymentView<'a> {
        let leg = |leg: &PaymentLeg| LegView {
            debit_account: self.layout.names[leg.debit.0].as_str(),
            credit_account: self.layout.names[leg.credit.0].as_str(),
            currency: leg.currency,
            amount: leg.amount,
            held: payment.held(leg),
            captured: leg.captured,
            refunded: leg.refunded,
            charged_back: leg.charged_back,
        };
        PaymentView {
            id: payment.id,
            task_type: payment.task_type,
            state: payment.state,
            version: payment.version,
            expires_at: payment.expires_at,
            listed: payment.listed,
            legs: payment.legs.iter().map(leg).collect(),
        }
    }

    /// A repetition applies nothing, but who asks for a reply gets the stored outcome.
    fn answer_again(&self, task: &'a Task, message: &Message, source: &str, events: &mut Events) {
        if let Some(stored) = self.stored.get(&task.id) {
            stored.with_event(message.properties.clone(), source, |event| events.tell(event, false));
        } else if let Some(first) = self.layout.items.iter().position(|item| item.task.id == task.id) {
            let publisher = self.batch[self.plan.tasks[first].position].message.properties.publisher.clone();
            let properties = Properties { publisher, ..message.properties.clone() };
            self.with_event(first, &properties, source, |event| events.tell(event, false));
        }
    }
}
