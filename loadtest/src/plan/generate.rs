//! From a shape and a seed to a plan.

use std::array::IntoIter;
use std::iter::Cycle;

use fastrand::Rng;
use settled::contract::{DeadReason, Rejection};
use settled::telemetry::labels::Outcome;

use super::{Account, Ask, Broken, Message, Mix, Plan, Shape, Skew};

const CURRENCY: &str = "USD";
const OTHER_CURRENCY: &str = "EUR";

/// Good payments have at most this, in minor units.
const MAX_PAYMENT: i64 = 100_000;
/// More than any account is ever funded with.
const TOO_MUCH: i64 = 900_000_000_000_000;

/// What a message of the load is to be.
#[derive(Clone, Copy)]
enum Part {
    Good,
    Duplicate,
    Altered,
    Broken,
    /// Declined: the account was never funded, or the amount is more than it can have.
    NoFunds,
    /// Declined: nobody opened the account that is to be paid.
    NoAccount,
    /// Declined: neither account is in that currency.
    WrongCurrency,
}

/// Messages of each 1000 that are not good payments.
const FAULTY: [(Part, usize); 6] = [
    (Part::Duplicate, 10),
    (Part::Altered, 2),
    (Part::Broken, 2),
    (Part::NoFunds, 5),
    (Part::NoAccount, 1),
    (Part::WrongCurrency, 1),
];

impl Plan {
    /// The plan of that shape.
    pub(crate) fn generate(shape: &Shape) -> Self {
        let mut generator = Generator::new(shape);
        let mut load = Vec::with_capacity(shape.count);
        for part in parts(shape, &mut generator.rng) {
            let message = generator.message(part, &load);
            load.push(message);
        }
        let opening = generator.opening();
        Self { accounts: generator.accounts, opening, load, ids: generator.ids }
    }
}

/// The parts of the load, mixed. The first is a good payment, so that there is one to repeat.
fn parts(shape: &Shape, rng: &mut Rng) -> Vec<Part> {
    let mut parts = vec![Part::Good; shape.count];
    if shape.mix == Mix::Faulty {
        let faulty = FAULTY.iter().flat_map(|(part, of_1000)| vec![*part; shape.count * of_1000 / 1000]);
        for (place, part) in parts.iter_mut().skip(1).zip(faulty) {
            *place = part;
        }
        rng.shuffle(parts.get_mut(1..).unwrap_or_default());
    }
    parts
}

struct Generator {
    rng: Rng,
    accounts: Vec<Account>,
    ids: usize,
    /// In turn, so that a load of any size has as many kinds as it can.
    broken: Cycle<IntoIter<Broken, { Broken::ALL.len() }>>,
    /// Where the money comes from.
    world: usize,
    customers: Vec<usize>,
    merchants: Vec<usize>,
    /// Pays, or would, and has nothing.
    poor: usize,
    /// Would be paid, and does not exist.
    nobody: usize,
    /// How many customers and merchants take part.
    active: (usize, usize),
}

impl Generator {
    fn new(shape: &Shape) -> Self {
        let mut accounts = Vec::new();
        let mut account = |name: String, currency, unlimited| {
            accounts.push(Account { name, currency, unlimited, final_balance: 0 });
            accounts.len() - 1
        };
        let customers = shape.customers.max(1);
        let world = account("world".to_owned(), Some(CURRENCY), true);
        let poor = account("customer:poor".to_owned(), Some(CURRENCY), false);
        let nobody = account("merchant:nobody".to_owned(), None, false);
        let merchants: Vec<usize> = (0..customers.div_ceil(10))
            .map(|number| account(format!("merchant:{number}"), Some(CURRENCY), false))
            .collect();
        let customers: Vec<usize> =
            (0..customers).map(|number| account(format!("customer:{number}"), Some(CURRENCY), false)).collect();
        let active = match shape.skew {
            Skew::Uniform => (customers.len(), merchants.len()),
            Skew::Hot => (1, 1),
        };
        let (rng, broken) = (Rng::with_seed(shape.seed), Broken::ALL.into_iter().cycle());
        Self { rng, accounts, ids: 0, broken, world, customers, merchants, poor, nobody, active }
    }

    fn message(&mut self, part: Part, earlier: &[Message]) -> Message {
        let (debit, credit, amount) = self.payment();
        let good = Ask::Transfer { debit, credit, amount, currency: CURRENCY };
        match part {
            Part::Good => {
                self.book(debit, credit, amount);
                self.first(good, Outcome::Settled)
            }
            Part::Duplicate => Message { outcome: Outcome::Duplicate, ..self.decided(earlier) },
            Part::Altered => self.altered(earlier),
            Part::Broken => {
                let broken = self.broken.next().unwrap_or(Broken::NotJson);
                let dead = self.first(good, Outcome::DeadLettered(broken.reason()));
                Message { broken: Some(broken), field: broken.field(), ..dead }
            }
            Part::NoFunds => {
                let (debit, amount) = if self.rng.bool() { (self.poor, amount) } else { (debit, TOO_MUCH) };
                self.declined(Ask::Transfer { debit, credit, amount, currency: CURRENCY }, Rejection::InsufficientFunds)
            }
            Part::NoAccount => self.declined(
                Ask::Transfer { debit, credit: self.nobody, amount, currency: CURRENCY },
                Rejection::AccountNotFound,
            ),
            Part::WrongCurrency => self.declined(
                Ask::Transfer { debit, credit, amount, currency: OTHER_CURRENCY },
                Rejection::CurrencyMismatch,
            ),
        }
    }

    /// Who pays whom how much.
    fn payment(&mut self) -> (usize, usize, i64) {
        let debit = self.customers[self.rng.usize(..self.active.0)];
        let credit = self.merchants[self.rng.usize(..self.active.1)];
        (debit, credit, self.rng.i64(1..=MAX_PAYMENT))
    }

    fn book(&mut self, debit: usize, credit: usize, amount: i64) {
        self.accounts[debit].final_balance -= amount;
        self.accounts[credit].final_balance += amount;
    }

    /// A message with an id of its own.
    fn first(&mut self, ask: Ask, outcome: Outcome) -> Message {
        self.ids += 1;
        Message { id: self.ids - 1, ask, broken: None, outcome, field: None }
    }

    fn declined(&mut self, ask: Ask, rejection: Rejection) -> Message {
        self.first(ask, Outcome::Rejected(rejection))
    }

    /// An earlier message that is settled or declined: half the time one of the last, which may
    /// well be in the same batch, else any.
    fn decided(&mut self, earlier: &[Message]) -> Message {
        let from = if self.rng.bool() { earlier.len().saturating_sub(100) } else { 0 };
        loop {
            // The first message of all is decided, so this ends.
            let message = &earlier[self.rng.usize(from.min(earlier.len() - 1)..earlier.len())];
            if message.is_decided() {
                return message.clone();
            }
            if from > 0 && !earlier[from..].iter().any(Message::is_decided) {
                return earlier[0].clone();
            }
        }
    }

    /// The id of an earlier message with another amount. From the same account, so it is the
    /// later one of the two for the ledger too.
    fn altered(&mut self, earlier: &[Message]) -> Message {
        let mut message = self.decided(earlier);
        if let Ask::Transfer { amount, .. } = &mut message.ask {
            *amount += self.rng.i64(1..=MAX_PAYMENT);
        }
        Message { outcome: Outcome::DeadLettered(DeadReason::IdempotencyConflict), field: Some("amount"), ..message }
    }

    /// Opens every account that is to exist, and funds each customer with what its payments
    /// need and a little more.
    fn opening(&mut self) -> Vec<Message> {
        let exist: Vec<usize> = (0..self.accounts.len()).filter(|ix| self.accounts[*ix].currency.is_some()).collect();
        let mut opening: Vec<Message> =
            exist.into_iter().map(|account| self.first(Ask::Open(account), Outcome::Settled)).collect();
        for customer in self.customers.clone() {
            let amount = self.rng.i64(1..=MAX_PAYMENT) - self.accounts[customer].final_balance;
            self.book(self.world, customer, amount);
            let ask = Ask::Transfer { debit: self.world, credit: customer, amount, currency: CURRENCY };
            opening.push(self.first(ask, Outcome::Settled));
        }
        opening
    }
}
