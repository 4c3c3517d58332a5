//! What the benchmarks share: payments of any size, and accounts for them.
#![allow(dead_code, unused_imports, reason = "no benchmark uses all of it")]

mod database;

use criterion::Criterion;
use jiff::Timestamp;
use settled_core::contract::{
    AccountName, BalanceAfter, Currency, Event, EventKind, Message, PaymentState, Properties, Rejection, Task,
    TaskBody, Transfer,
};
use settled_core::ledger::Arrival;
use settled_pipeline::lanes::InFlight;
use settled_pipeline::store::Submission;
use uuid::Uuid;

pub(crate) use database::{Database, servers};

/// Whether this is `cargo bench`. Under `cargo test` everything runs once, and small.
pub(crate) fn measuring() -> bool {
    std::env::args().any(|argument| argument == "--bench")
}

/// Runs the benchmarks of a target as the command line says: `criterion_main!` without its
/// groups, so that a target may end what it has started.
pub(crate) fn run(benches: impl FnOnce(&mut Criterion)) {
    let mut criterion = Criterion::default().configure_from_args();
    benches(&mut criterion);
    criterion.final_summary();
}

pub(crate) fn name(account: usize) -> AccountName {
    AccountName::parse(&format!("account:{account}")).expect("a name")
}

pub(crate) fn usd() -> Currency {
    Currency::parse("USD").expect("a currency")
}

/// A payment with an id of its own.
pub(crate) fn payment(debit: usize, credit: usize) -> Task {
    let body = Transfer {
        debit_account: name(debit),
        credit_account: name(credit),
        amount: 1250,
        currency: usd(),
        reference: Some("order-123".into()),
        metadata: Some(r#"{"channel":"web"}"#.into()),
    };
    Task::new(Uuid::now_v7(), TaskBody::Transfer(body))
}

/// Enters a task into the register, as admission does. Returns its lane and its number.
pub(crate) fn enter(register: &InFlight, task: &Task) -> (usize, Arrival) {
    let keys = register.keys(task);
    let register = register.lock();
    let lane = register.lane(Some(&keys));
    (lane, register.enter(Some(&keys), lane, |_| ()))
}

/// A task as it comes from the queue; nobody looks at the bytes of a good one.
pub(crate) fn message(task: Task) -> Message {
    let content = Ok(task);
    Message { body: Vec::new(), properties: properties(), received_at: Timestamp::now(), content, is_answerable: true }
}

pub(crate) fn properties() -> Properties {
    Properties {
        content_type: Some("application/json".into()),
        publisher: Some("shop".into()),
        routing_key: Some("task.transfer".into()),
        ..Properties::default()
    }
}

/// Appends an event of a payment to the body of an outbox row, as the store does.
pub(crate) fn event(task: &Task, rejection: Option<Rejection>, out: &mut Vec<u8>) {
    let balance = |account| BalanceAfter { account, posted: 1_000_000, held: Some(0), version: 1, shortfall: 0 };
    let balances = [balance("customer:alice"), balance("merchant:42")];
    let (state, balances) = match rejection {
        None => (PaymentState::Settled, &balances[..]),
        Some(_) => (PaymentState::Rejected, &[][..]),
    };
    let event = Event {
        kind: EventKind::of(task.body.task_type(), state),
        task,
        properties: &properties(),
        state,
        version: 1,
        rejection,
        moved: None,
        settled_at: Timestamp::UNIX_EPOCH,
        payment: None,
        balances,
        source: "settled",
    };
    event.write(out);
}

pub(crate) fn submissions(messages: &[Message]) -> Vec<Submission<'_>> {
    let arrivals = (0..).map(Arrival);
    arrivals.zip(messages).map(|(arrival, message)| Submission::of(arrival, message)).collect()
}

/// Numbers without a pattern, the same ones in each run (xorshift).
pub(crate) struct Random(u64);

impl Random {
    pub(crate) const fn new() -> Self {
        Self(0x9e37_79b9_7f4a_7c15)
    }

    /// One of 0 … `below` - 1.
    pub(crate) fn below(&mut self, below: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % below as u64) as usize
    }

    /// Two different ones of `accounts` accounts.
    pub(crate) fn pair(&mut self, accounts: usize) -> (usize, usize) {
        let debit = self.below(accounts);
        (debit, (debit + 1 + self.below(accounts - 1)) % accounts)
    }

    pub(crate) fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            items.swap(last, self.below(last + 1));
        }
    }
}
