//! Random tasks of all types, most of them sensible. There are few accounts with little money, so that limits take
//! effect, and tasks refer to tasks that came before, come later, or never come.

use jiff::{SignedDuration, Timestamp};
use uuid::Uuid;

use super::super::contract::{
    AccountChange, AccountName, Action, Authorize, ChangeAccount, Currency, FollowUp, Leg, OpenAccount, SetLimits,
    Split, Task, TaskBody, Terms, Transfer, When,
};

const UNKNOWN_CURRENCY: &str = "QQQ";

/// Number of accounts: `<prefix>0` … `<prefix>7`.
pub const ACCOUNTS: usize = 8;
/// Index of the first account in euros.
const EUROS: usize = 5;
/// Accounts without a lower limit, one per currency.
const UNLIMITED: [usize; 2] = [0, EUROS];
/// The account that isn't opened at first and that may be closed.
const LAST: usize = ACCOUNTS - 1;

#[derive(Default)]
pub(super) struct Random<'a> {
    state: u64,
    seed: u64,
    prefix: &'a str,
    pub(super) now: Option<Timestamp>,
    made: Vec<Task>,
    /// Ids of transfers and authorizations.
    payments: Vec<Uuid>,
    /// Ids of authorizations.
    authorizations: Vec<Uuid>,
    /// Ids of payments with a chargeback.
    disputed: Vec<Uuid>,
    /// Ids that tasks referred to before the tasks with these ids were made.
    promised: Vec<Uuid>,
    numbers: u64,
}

impl<'a> Random<'a> {
    pub(super) fn new(seed: u64, prefix: &'a str, now: Option<Timestamp>) -> Self {
        Self { state: seed, seed, prefix, now, ..Self::default() }
    }

    /// Returns a number from 0 to `below` - 1 (SplitMix64).
    pub(super) fn below(&mut self, below: usize) -> usize {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((mixed ^ (mixed >> 31)) % below as u64) as usize
    }

    pub(super) fn chance(&mut self, percent: usize) -> bool {
        self.below(100) < percent
    }

    fn one_of<T: Copy>(&mut self, some: &[T]) -> T {
        some[self.below(some.len())]
    }

    fn fresh(&mut self) -> Uuid {
        self.numbers += 1;
        Uuid::from_u64_pair(self.seed, self.numbers)
    }

    pub(super) fn task(&mut self) -> Task {
        let opened = self.made.len();
        let task = if opened < LAST {
            let body = self.open(opened);
            Task::new(self.fresh(), body)
        } else if self.chance(4) {
            self.repetition()
        } else {
            let body = self.body();
            let is_payment = matches!(body, TaskBody::Transfer(_) | TaskBody::Split(_) | TaskBody::Authorize(_));
            let id = match self.promised.len() {
                promised if promised > 0 && is_payment && self.chance(50) => {
                    let place = self.below(promised);
                    self.promised.swap_remove(place)
                }
                _ => self.fresh(),
            };
            if is_payment {
                self.payments.push(id);
            }
            if matches!(body, TaskBody::Authorize(_)) {
                self.authorizations.push(id);
            }
            let when = self.when(id);
            Task::timed(id, when, body)
        };
        self.made.push(task.clone());
        task
    }

    /// Returns an earlier task again, unchanged or with another amount.
    fn repetition(&mut self) -> Task {
        let place = self.below(self.made.len());
        let Task { id, when, mut body, .. } = self.made[place].clone();
        match &mut body {
            TaskBody::Transfer(transfer) if self.chance(50) => transfer.amount += 1,
            TaskBody::Split(split) if self.chance(50) => split.legs[0].amount += 1,
            TaskBody::FollowUp(FollowUp { action: Action::Capture { is_final, .. }, .. }) if self.chance(50) => {
                *is_final = !*is_final;
            }
            _ => {}
        }
        Task::timed(id, when, body)
    }

    fn when(&mut self, id: Uuid) -> When {
        let now = self.now.filter(|_| self.chance(8));
        let execute_at = now.map(|now| now + SignedDuration::from_secs(self.below(50) as i64 - 10));
        let after = if self.chance(8) {
            Some(self.reference(|made| &made.payments)).filter(|after| *after != id)
        } else {
            None
        };
        When { execute_at, after }
    }

    /// Returns the id of a task to refer to, mostly one of the last of `those`.
    fn reference(&mut self, those: fn(&Self) -> &[Uuid]) -> Uuid {
        let recent = those(self).len().min(8);
        match self.below(100) {
            0..=79 if recent > 0 => {
                let back = self.below(recent);
                those(self)[those(self).len() - 1 - back]
            }
            80..=85 => {
                let place = self.below(self.made.len());
                self.made[place].id
            }
            86..=97 => {
                let id = self.fresh();
                self.promised.push(id);
                id
            }
            _ => self.fresh(),
        }
    }

    fn body(&mut self) -> TaskBody {
        match self.below(100) {
            0..=23 => {
                let Leg { debit_account, credit_account, amount, currency } = self.leg();
                let (reference, metadata) = (None, None);
                TaskBody::Transfer(Transfer { debit_account, credit_account, amount, currency, reference, metadata })
            }
            24..=29 => TaskBody::Split(Split { legs: self.legs(), reference: None, metadata: None }),
            30..=47 => self.authorize(),
            48..=91 => {
                let action = self.action();
                let payment_id = match action {
                    Action::Capture { .. } | Action::Void => self.reference(|made| &made.authorizations),
                    Action::ChargebackReversal { .. } => self.reference(|made| &made.disputed),
                    _ => self.reference(|made| &made.payments),
                };
                if matches!(action, Action::Chargeback { .. }) {
                    self.disputed.push(payment_id);
                }
                TaskBody::FollowUp(FollowUp { payment_id, action, reference: None, metadata: None })
            }
            92..=98 => {
                let ix = self.below(ACCOUNTS);
                TaskBody::ChangeAccount(ChangeAccount { account: self.name(ix), change: self.change(ix) })
            }
            _ => {
                let ix = if self.chance(70) { LAST } else { self.below(ACCOUNTS) };
                self.open(ix)
            }
        }
    }

    fn authorize(&mut self) -> TaskBody {
        let terms = if self.chance(70) { Terms::One(self.leg()) } else { Terms::Legs(self.legs()) };
        let lasts = match self.now {
            Some(_) => self.one_of(&[None, None, None, Some(5), Some(30), Some(90), Some(150), Some(150), Some(151)]),
            None => self.one_of(&[None, None, None, None, None, None, None, Some(100_000)]),
        };
        TaskBody::Authorize(Authorize { terms, expires_in: lasts, reference: None, metadata: None })
    }

    fn action(&mut self) -> Action {
        let part = 1 + self.below(12) as i64;
        let leg = if self.chance(15) { Some(self.below(4) as u8) } else { None };
        let amount = if self.chance(60) { Some(part) } else { None };
        match self.below(44) {
            0..=15 => Action::Capture { amount, leg, is_final: self.chance(30) },
            16..=18 => Action::Void,
            19..=31 => Action::Refund { amount, leg },
            // Often more than what remains of the payment.
            32..=36 => Action::Chargeback { amount: part + self.below(12) as i64, leg },
            37..=40 => Action::ChargebackReversal { amount: part, leg },
            _ => Action::Cancel,
        }
    }

    fn change(&mut self, ix: usize) -> AccountChange {
        match self.below(10) {
            0 if ix == LAST => AccountChange::Close,
            0..=1 if !UNLIMITED.contains(&ix) || self.chance(10) => AccountChange::Freeze,
            2..=5 => AccountChange::Unfreeze,
            _ => {
                let zero = Some(Some(0));
                let min = self.one_of(&[None, None, Some(None), zero, zero, zero, Some(Some(-10)), Some(Some(5))]);
                let max = self.one_of(&[None, Some(None), Some(None), Some(None), Some(Some(100)), Some(Some(-5))]);
                let min_balance = min.filter(|_| !UNLIMITED.contains(&ix));
                let max_balance = if min_balance.is_none() { Some(max.flatten()) } else { max };
                AccountChange::SetLimits(SetLimits { min_balance, max_balance })
            }
        }
    }

    fn open(&mut self, ix: usize) -> TaskBody {
        let min_balance = if UNLIMITED.contains(&ix) { None } else { Some(self.one_of(&[0, 0, 0, -10])) };
        let currency = if self.chance(3) { parse(UNKNOWN_CURRENCY) } else { currency_of(ix) };
        TaskBody::OpenAccount(OpenAccount { account: self.name(ix), currency, min_balance })
    }

    fn legs(&mut self) -> Vec<Leg> {
        (0..1 + self.below(4)).map(|_| self.leg()).collect()
    }

    /// Returns a leg, mostly between two accounts of one currency and often from the one without a limit.
    fn leg(&mut self) -> Leg {
        let is_euros = self.chance(15);
        let (first, count) = if is_euros { (EUROS, ACCOUNTS - EUROS) } else { (0, EUROS) };
        let mut debit = if self.chance(22) { first } else { first + self.below(count) };
        let credit = first + (debit - first + 1 + self.below(count - 1)) % count;
        if self.chance(2) {
            debit = self.below(ACCOUNTS);
        }
        let currency = if self.chance(1) { parse(UNKNOWN_CURRENCY) } else { currency_of(credit) };
        let amount = if self.chance(1) { 0 } else { 1 + self.below(25) as i64 };
        Leg { debit_account: self.name(debit), credit_account: self.name(credit), amount, currency }
    }

    fn name(&self, ix: usize) -> AccountName {
        AccountName::parse(&format!("{}{ix}", self.prefix)).expect("a name")
    }
}

fn currency_of(ix: usize) -> Currency {
    parse(if ix < EUROS { "USD" } else { "EUR" })
}

fn parse(code: &str) -> Currency {
    Currency::parse(code).expect("three letters")
}
