//! Makes events of the ledger's outcomes, one a line: pure. Apart from the rows, so that events are encoded while
//! PostgreSQL writes the rows.

use smallvec::{SmallVec, smallvec};

use super::decided::{DecidedBatch, postings};
use super::rows::DeadLetterRow;
use settled_core::contract::{
    BalanceAfter, DeadLetterEvent, Event, EventKind, LegView, Message, PaymentView, Properties, Reply, Task,
};
use settled_core::ledger::{Acted, Balance, Outcome, Payment, PaymentLeg, Step};

/// The usual size of an event, for the first allocation.
const USUAL_BYTES: usize = 640;

/// Events or replies, one a line.
#[derive(Debug, Default)]
pub struct Lines {
    /// The lines, each with its line feed.
    pub body: Vec<u8>,
    /// Number of lines.
    pub count: i32,
}

/// What a batch tells.
#[derive(Debug, Default)]
pub struct Events {
    /// The content of an outbox row: events and replies, or replies alone if there is a stream.
    pub outbox: Lines,
    /// The events, if they go to a stream.
    pub stream: Option<Lines>,
}

impl Events {
    /// Begins with nothing told. With a stream, events and replies are kept apart.
    pub fn new(has_stream: bool) -> Self {
        Self { outbox: Lines::default(), stream: has_stream.then(Lines::default) }
    }

    /// Appends the event (unless it was published before) and the reply that is asked for.
    pub fn tell(&mut self, event: &Event<'_>, to_all: bool) {
        if to_all {
            self.tell_all(|body| event.write(body));
        }
        if let Some(reply_to) = event.properties.reply_to.as_deref() {
            let reply = Reply { reply_to, correlation_id: event.properties.correlation_id.as_deref() };
            self.reply(|body| event.write_reply(reply, body));
        }
    }

    fn tell_all(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        let lines = self.stream.as_mut().unwrap_or(&mut self.outbox);
        write(&mut lines.body);
        lines.count += 1;
    }

    fn reply(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        write(&mut self.outbox.body);
        self.outbox.count += 1;
    }

    fn reserve(&mut self, bytes: usize) {
        self.stream.as_mut().unwrap_or(&mut self.outbox).body.reserve(bytes);
    }
}

type Balances<'a> = SmallVec<[BalanceAfter<'a>; 2]>;

impl<'a> DecidedBatch<'_, 'a> {
    /// Returns the events of the batch and of its `dead_letters`. Their source is `source` and the ledger's incarnation.
    /// Expired holds come first.
    pub fn events(&self, source: &str, dead_letters: &[DeadLetterRow<'_>]) -> Events {
        let source = &*format!("{}/{}", source.trim_end_matches('/'), self.locked.incarnation);
        let mut events = Events::new(self.has_stream);
        events.reserve(self.layout.items.len() * USUAL_BYTES);
        for acted in &self.expired {
            self.tell_expired(acted, source, &mut events);
        }
        for (ix, planned) in self.plan.tasks.iter().enumerate() {
            let message = self.batch[planned.position].message;
            if matches!(self.decision.outcomes[ix], Outcome::Duplicate) {
                if message.properties.reply_to.is_some() && !self.layout.items[ix].resumes {
                    self.answer_again(planned.task, message, source, &mut events);
                }
            } else if !self.keeps_waiting(ix) {
                self.with_event(ix, &message.properties, source, |event| events.tell(event, true));
            }
        }
        for row in dead_letters {
            self.tell_dead_letter(row, source, &mut events);
        }
        events
    }

    /// Adds the event of a dead letter, if the operator wants them, and a reply for each delivery that asks for one.
    fn tell_dead_letter(&self, row: &DeadLetterRow<'_>, source: &str, events: &mut Events) {
        if let Some(message) = row.messages.first().filter(|_| self.tells_dead_letters) {
            events.tell_all(|body| self.dead_letter_event(row, message, source).write(body));
        }
        for (message, reply) in row.asked() {
            events.reply(|body| self.dead_letter_event(row, message, source).write_reply(reply, body));
        }
    }

    fn dead_letter_event<'e>(
        &self,
        row: &'e DeadLetterRow<'_>,
        message: &'e Message,
        source: &'e str,
    ) -> DeadLetterEvent<'e> {
        DeadLetterEvent {
            digest: &row.digest,
            task_id: row.task_id,
            task_type: message.content.as_ref().ok().map(|task| task.body.task_type()),
            reason: row.reason,
            field: row.field.as_deref(),
            detail: &row.detail,
            properties: &message.properties,
            at: self.locked.now,
            source,
        }
    }

    /// Calls `tell` with the event of an item, if the item's task has an outcome.
    fn with_event(&self, ix: usize, properties: &Properties, source: &str, tell: impl FnOnce(&Event<'_>)) {
        let (item, outcome) = (&self.layout.items[ix], &self.decision.outcomes[ix]);
        let Some(Step { after: own, .. }) = self.decision.steps[ix] else { return };
        let task: &Task = item.task;
        let payment = outcome.acted().and_then(|acted| acted.payment.as_ref()).map(|payment| self.view(payment));
        let balances = self.balances_after(outcome, ix);
        tell(&Event {
            kind: EventKind::of(task.body.task_type(), own.state()),
            task,
            properties,
            state: own.state(),
            version: own.version(),
            rejection: outcome.rejection(),
            moved: outcome.acted().and_then(|acted| acted.moved),
            settled_at: self.locked.now,
            payment: payment.as_ref(),
            balances: &balances,
            source,
        });
    }

    /// Adds the event of a hold that has run out.
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
            state: payment.state(),
            version: payment.version(),
            rejection: None,
            moved: None,
            settled_at: self.locked.now,
            payment: Some(&view),
            balances: &balances,
            source,
        };
        events.tell(&event, true);
    }

    /// Returns the balances in an item's event.
    fn balances_after(&self, outcome: &Outcome, ix: usize) -> Balances<'a> {
        if matches!(outcome, Outcome::Opened) {
            let (account, _) = self.layout.items[ix].pairs[0];
            let name = self.layout.names[account.0].as_str();
            return smallvec![BalanceAfter { account: name, posted: 0, held: Some(0), version: 0, shortfall: 0 }];
        }
        let others = outcome.acted().into_iter().flat_map(|acted| &acted.balances);
        postings(outcome).map(|posting| &posting.after).chain(others).map(|balance| self.balance(balance)).collect()
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
            state: payment.state(),
            version: payment.version(),
            expires_at: payment.expires_at,
            listed: payment.listed,
            legs: payment.legs.iter().map(leg).collect(),
        }
    }

    /// Adds the reply to a repetition that asks for one: the first outcome again.
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
