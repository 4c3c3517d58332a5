//! From a shape and a seed to a plan.

use std::collections::HashSet;
use std::iter::Cycle;
use std::slice::Iter;
use std::sync::Arc;

use clap::ValueEnum;
use fastrand::Rng;
use settled_core::contract::{DeadReason, Rejection};
use settled_pipeline::labels::Outcome;
use uuid::Uuid;

use super::life::{Chooser, Life};
use super::mix::{Mixer, Part};
use super::skew::Draw;
use super::{Account, Accounts, Ask, Broken, Ids, Message, Padding, Plan, Shape, body};

pub(super) const CURRENCY: &str = "USD";
const OTHER_CURRENCY: &str = "EUR";

/// Good payments have at most this, in minor units.
const MAX_PAYMENT: i64 = 10_000;
/// How far a customer may overdraw its account: enough for a thousand million payments.
const CREDIT: i64 = 10_000_000_000_000;
const TOO_MUCH: i64 = 900_000_000_000_000;

/// How many messages are mixed with each other.
const BLOCK: usize = 1000;
/// Half of all repetitions are of one of the last messages.
const RECENT: usize = 100;
/// How often an earlier message is looked for that may be repeated.
const TRIES: usize = 100;

#[derive(Debug)]
pub(super) struct Generator {
    pub(super) rng: Rng,
    mixer: Mixer,
    pub(super) life: Life,
    pub(super) chooser: Chooser,
    /// In turn, so that a load of any size has as many kinds as it can.
    broken: Cycle<Iter<'static, Broken>>,
    /// Places of the first customer and of the first merchant.
    customers: usize,
    merchants: usize,
    /// Place of the account without funds.
    poor: usize,
    /// Place of the account that is never opened.
    nobody: usize,
    payer: Draw,
    payee: Draw,
    /// Ids that were used again with other content: once each, so that no two messages are equal by
    /// chance.
    altered: HashSet<usize>,
    /// Ids that were used again with the same content.
    duplicated: HashSet<usize>,
}

impl Plan {
    /// The plan of that shape, with no load yet.
    pub(crate) fn new(shape: &Shape, prefix: &str) -> Self {
        let mut all = Vec::new();
        let mut account = |name: &str, currency, min_balance| {
            all.push(Account { name: format!("{prefix}:{name}"), currency, min_balance });
            all.len() - 1
        };
        let (customers, merchants) = (shape.accounts.max(1), shape.accounts.div_ceil(10).max(1));
        let poor = account("customer:poor", Some(CURRENCY), 0);
        let nobody = account("merchant:nobody", None, 0);
        let first_merchant = nobody + 1;
        for number in 0..merchants {
            account(&format!("merchant:{number}"), Some(CURRENCY), 0);
        }
        let first_customer = first_merchant + merchants;
        for number in 0..customers {
            account(&format!("customer:{number}"), Some(CURRENCY), -CREDIT);
        }
        let generator = Generator {
            rng: Rng::with_seed(shape.seed),
            mixer: Mixer::new(shape.mix),
            life: shape.life.clone(),
            chooser: Chooser::new(&shape.life.kinds),
            broken: Broken::value_variants().iter().cycle(),
            customers: first_customer,
            merchants: first_merchant,
            poor,
            nobody,
            payer: Draw::new(shape.skew, customers),
            payee: Draw::new(shape.skew, merchants),
            altered: HashSet::new(),
            duplicated: HashSet::new(),
        };
        let balances = vec![0; all.len()];
        let mut accounts = Accounts { all, merchants: first_merchant..first_customer, padding: Padding::default() };
        accounts.padding = Padding::of(shape.payload_bytes.saturating_sub(generator.shortest(&accounts)));
        let open = (0..accounts.all.len()).filter(|account| accounts.all[*account].currency.is_some());
        let opening: Vec<Message> = open.enumerate().map(|(id, account)| first(id, Ask::Open(account))).collect();
        let ids = opening.len();
        Self { accounts: Arc::new(accounts), balances, opening, load: Vec::new(), ids, generator }
    }

    /// Adds messages to the load up to its `until`-th, and where a payment has a life some more, so
    /// that no case is left unfinished; `end` is how many there may be in all.
    pub(crate) fn reach(&mut self, until: usize, end: Option<usize>) {
        let there = self.load.len();
        let at_once = if self.generator.life.is_plain() { 1 } else { BLOCK };
        let until = until.max(there + at_once).min(end.unwrap_or(usize::MAX));
        self.grow(until.saturating_sub(there));
    }

    /// Adds `count` messages to the load: whole cases.
    pub(crate) fn grow(&mut self, count: usize) {
        let until = self.load.len() + count;
        self.load.reserve(count);
        while self.load.len() < until {
            let made = self.load.len();
            let parts = self.generator.mixer.parts((until - made).min(BLOCK), &mut self.generator.rng);
            let mut cases = Vec::new();
            if !self.generator.life.is_plain() {
                cases = self.cases(parts.iter().filter(|part| **part == Part::Good).count());
            }
            let mut cases = cases.into_iter();
            for part in parts {
                let case = if part == Part::Good { cases.next() } else { None };
                let message = case.unwrap_or_else(|| self.message(part));
                self.load.push(message);
            }
        }
    }

    fn message(&mut self, part: Part) -> Message {
        let (debit, credit, amount) = self.generator.payment();
        let transfer = Ask::Transfer { debit, credit, amount, currency: CURRENCY };
        match part {
            Part::Good => {
                self.balances[debit] -= amount;
                self.balances[credit] += amount;
                self.first(transfer, Outcome::Settled)
            }
            Part::Duplicate => self.duplicate(),
            Part::Altered => self.altered(),
            Part::Malformed => {
                let broken = self.generator.broken.next().copied().unwrap_or(Broken::NotJson);
                let dead = self.first(transfer, Outcome::DeadLettered(broken.reason()));
                Message { broken: Some(broken), field: broken.field(), ..dead }
            }
            Part::Insufficient => {
                let poor = self.generator.rng.bool();
                let (debit, amount) = if poor { (self.generator.poor, amount) } else { (debit, TOO_MUCH) };
                let ask = Ask::Transfer { debit, credit, amount, currency: CURRENCY };
                self.first(ask, Outcome::Rejected(Rejection::InsufficientFunds))
            }
            Part::UnknownAccount => {
                let ask = Ask::Transfer { debit, credit: self.generator.nobody, amount, currency: CURRENCY };
                self.first(ask, Outcome::Rejected(Rejection::AccountNotFound))
            }
            Part::WrongCurrency => {
                let ask = Ask::Transfer { debit, credit, amount, currency: OTHER_CURRENCY };
                self.first(ask, Outcome::Rejected(Rejection::CurrencyMismatch))
            }
        }
    }

    /// A message with an id of its own.
    pub(super) fn first(&mut self, ask: Ask, outcome: Outcome) -> Message {
        self.ids += 1;
        Message { outcome, ..first(self.ids - 1, ask) }
    }

    /// An earlier message that is settled or declined: half the time one of the last, which may
    /// well be in the same batch, else any.
    fn decided_before(&mut self) -> Message {
        let rng = &mut self.generator.rng;
        let from = if rng.bool() { self.load.len().saturating_sub(RECENT) } else { 0 };
        // The first message of all is decided, so there is one.
        let decided =
            |range: &[Message], at: usize| range[..=at].iter().rev().find(|message| message.is_decided()).copied();
        let at = rng.usize(from..self.load.len());
        decided(&self.load, at).unwrap_or(self.load[0])
    }

    /// An earlier message once more. Not of one that is altered too: if the altered one came
    /// first, this would be a conflict as well.
    fn duplicate(&mut self) -> Message {
        let unaltered = |generator: &Generator, message: &Message| !generator.altered.contains(&message.id);
        let message = self.decided_before_that(unaltered).unwrap_or(self.load[0]);
        self.generator.duplicated.insert(message.id);
        Message { outcome: Outcome::Duplicate, ..message }
    }

    /// The id of an earlier transfer that nothing acts on, with another amount. From the same account, so it is the
    /// later one of the two for the ledger too. A repetition if there is none left to alter.
    fn altered(&mut self) -> Message {
        let first = self.load[0].id;
        let unused = |generator: &Generator, message: &Message| {
            let id = &message.id;
            matches!(message.ask, Ask::Transfer { .. })
                && message.is_alone
                && *id != first
                && !generator.altered.contains(id)
                && !generator.duplicated.contains(id)
        };
        let Some(mut message) = self.decided_before_that(unused) else { return self.duplicate() };
        self.generator.altered.insert(message.id);
        if let Ask::Transfer { amount, .. } = &mut message.ask {
            *amount += self.generator.rng.i64(1..=MAX_PAYMENT);
        }
        let outcome = Outcome::DeadLettered(DeadReason::IdempotencyConflict);
        Message { outcome, field: Some("amount"), ..message }
    }

    /// One of which that is true, if one is found.
    fn decided_before_that(&mut self, suits: impl Fn(&Generator, &Message) -> bool) -> Option<Message> {
        for _ in 0..TRIES {
            let message = self.decided_before();
            if suits(&self.generator, &message) {
                return Some(message);
            }
        }
        None
    }
}

impl Generator {
    /// Ids that were used again with other content.
    pub(super) const fn altered(&self) -> &HashSet<usize> {
        &self.altered
    }

    pub(super) fn payment(&mut self) -> (usize, usize, i64) {
        let debit = self.customers + self.payer.draw(&mut self.rng);
        let credit = self.merchants + self.payee.draw(&mut self.rng);
        (debit, credit, self.rng.i64(1..=MAX_PAYMENT))
    }

    /// The length of a payment without padding, in bytes.
    fn shortest(&self, accounts: &Accounts) -> usize {
        let (debit, credit) = (self.customers, self.merchants);
        let payment = first(0, Ask::Transfer { debit, credit, amount: MAX_PAYMENT / 2, currency: CURRENCY });
        let ids = Ids { own: Uuid::nil(), parent: None, due: 0 };
        body(accounts, &payment, ids).map_or(0, |body| body.len())
    }
}

/// A message that is the first with its id, and good.
fn first(id: usize, ask: Ask) -> Message {
    Message { id, ask, broken: None, outcome: Outcome::Settled, field: None, execute_in: None, is_alone: true }
}
