//! The messages of a case, and how cases are dealt out: each message among those of other cases, as
//! if many publishers went about their business.

use std::time::Duration;

use fastrand::Rng;
use settled_pipeline::labels::Outcome;
use smallvec::{SmallVec, smallvec};

use super::generate::CURRENCY;
use super::life::Kind;
use super::{Act, Ask, Message, Plan, legs_of};

/// A payment that is called off is for as long after it is published: nothing takes so long.
const FAR: Duration = Duration::from_secs(24 * 3600);

/// In the order in which they make sense.
type Case = SmallVec<[Message; 3]>;

impl Plan {
    /// So many messages that are whole cases, mixed with each other.
    pub(super) fn cases(&mut self, count: usize) -> Vec<Message> {
        let mut cases: Vec<Case> = Vec::new();
        let mut room = count;
        while room > 0 {
            let kind = self.generator.chooser.next(room);
            let mut case = self.case(kind, room);
            room -= case.len();
            if self.generator.rng.f64() < self.generator.life.out_of_order {
                case.reverse();
            }
            cases.push(case);
        }
        deal(cases, &mut self.generator.rng)
    }

    /// A case, and what it does to the balances. All of it succeeds, in whatever order its messages
    /// are applied as far as they can be.
    fn case(&mut self, kind: Kind, room: usize) -> Case {
        match kind {
            Kind::Transfer => smallvec![self.transfer()],
            Kind::Legs(legs) => smallvec![self.split(legs)],
            Kind::AuthorizeCapture => self.authorize_capture(),
            Kind::AuthorizeCaptureParts => self.authorize_capture_parts(),
            Kind::AuthorizeVoid => {
                let authorize = self.authorize(1);
                let void = self.follow_up(&authorize, &authorize, Act::Void, None);
                acted_on(smallvec![authorize, void])
            }
            Kind::Refund => self.refund(room),
            Kind::Chargeback => self.chargeback(room),
            Kind::Cancel => {
                let (debit, credit, amount) = self.generator.payment();
                let transfer =
                    self.first(Ask::Transfer { debit, credit, amount, currency: CURRENCY }, Outcome::Scheduled);
                let transfer = Message { execute_in: Some(FAR.as_millis() as u32), ..transfer };
                let cancel = self.follow_up(&transfer, &transfer, Act::Cancel, None);
                acted_on(smallvec![transfer, cancel])
            }
        }
    }

    fn transfer(&mut self) -> Message {
        let (debit, credit, amount) = self.generator.payment();
        self.move_money(debit, credit, amount);
        self.payment(Ask::Transfer { debit, credit, amount, currency: CURRENCY })
    }

    fn split(&mut self, legs: u8) -> Message {
        let (debit, credit, amount) = self.generator.payment();
        let amount = amount.max(legs.into());
        let moves: SmallVec<[_; 8]> = legs_of(&self.accounts, debit, credit, amount, legs).collect();
        for (debit, credit, amount) in moves {
            self.move_money(debit, credit, amount);
        }
        self.payment(Ask::Split { debit, credit, amount, legs })
    }

    fn authorize(&mut self, least: i64) -> Message {
        let (debit, credit, amount) = self.generator.payment();
        self.payment(Ask::Authorize { debit, credit, amount: amount.max(least), currency: CURRENCY })
    }

    fn authorize_capture(&mut self) -> Case {
        let authorize = self.authorize(1);
        let part = self.generator.part(authorize.ask.amount());
        let capture = self.follow_up(&authorize, &authorize, Act::Capture { is_final: true }, Some(part));
        acted_on(smallvec![authorize, capture])
    }

    /// Neither of the captures says that it is the last one: either can come first.
    fn authorize_capture_parts(&mut self) -> Case {
        let authorize = self.authorize(2);
        let amount = authorize.ask.amount();
        let one = self.generator.rng.i64(1..amount);
        let act = Act::Capture { is_final: false };
        let captures = [one, amount - one].map(|part| self.follow_up(&authorize, &authorize, act, Some(part)));
        acted_on(std::iter::once(authorize).chain(captures).collect())
    }

    fn refund(&mut self, room: usize) -> Case {
        let mut case = match room >= 3 && self.generator.rng.bool() {
            true => self.authorize_capture(),
            false => smallvec![self.transfer()],
        };
        let posted = case[case.len() - 1];
        let part = self.generator.part(posted.ask.amount());
        case.push(self.follow_up(&case[0], &posted, Act::Refund, Some(part)));
        acted_on(case)
    }

    fn chargeback(&mut self, room: usize) -> Case {
        let transfer = self.transfer();
        let part = self.generator.part(transfer.ask.amount());
        let chargeback = self.follow_up(&transfer, &transfer, Act::Chargeback, Some(part));
        let mut case: Case = smallvec![transfer, chargeback];
        if room >= 3 && self.generator.rng.bool() {
            let back = self.generator.part(part);
            case.push(self.follow_up(&transfer, &chargeback, Act::ChargebackReversal, Some(back)));
        }
        acted_on(case)
    }

    /// A payment that may have to wait for its time.
    fn payment(&mut self, ask: Ask) -> Message {
        let (rng, life) = (&mut self.generator.rng, &self.generator.life);
        let within = life.scheduled.within.as_millis() as u32;
        let execute_in = (rng.f64() < life.scheduled.share).then(|| rng.u32(1..=within.max(1)));
        Message { execute_in, ..self.first(ask, Outcome::Settled) }
    }

    /// What acts on `parent`, and can only be applied once `needs` is. An amount that is all there
    /// is is left out half the time.
    fn follow_up(&mut self, parent: &Message, needs: &Message, act: Act, moved: Option<i64>) -> Message {
        let amount = moved.unwrap_or_default();
        let is_all = amount == needs.ask.amount() && act.defaults_to_all();
        let says_amount = moved.is_some() && !(is_all && self.generator.rng.bool());
        if let Ask::Transfer { debit, credit, .. } | Ask::Authorize { debit, credit, .. } = parent.ask {
            match act {
                Act::Capture { .. } | Act::ChargebackReversal => self.move_money(debit, credit, amount),
                Act::Refund | Act::Chargeback => self.move_money(credit, debit, amount),
                Act::Void | Act::Cancel => {}
            }
        }
        let ask = Ask::FollowUp { parent: parent.id, needs: needs.id, act, amount, says_amount };
        self.first(ask, Outcome::Settled)
    }

    fn move_money(&mut self, debit: usize, credit: usize, amount: i64) {
        self.balances[debit] -= amount;
        self.balances[credit] += amount;
    }
}

impl super::Generator {
    /// All of an amount, or a part of it, each half of the time.
    fn part(&mut self, amount: i64) -> i64 {
        if self.rng.bool() { amount } else { self.rng.i64(1..=amount) }
    }
}

impl Act {
    /// Whether it can leave out the amount, and then takes all that is left.
    const fn defaults_to_all(self) -> bool {
        matches!(self, Self::Capture { is_final: true } | Self::Refund)
    }
}

/// Says of the payment of a case that it is not alone.
fn acted_on(mut case: Case) -> Case {
    case[0].is_alone = false;
    case
}

/// Their messages at random places, those of each case in its order.
fn deal(cases: Vec<Case>, rng: &mut Rng) -> Vec<Message> {
    let mut turns: Vec<usize> =
        cases.iter().enumerate().flat_map(|(place, case)| std::iter::repeat_n(place, case.len())).collect();
    rng.shuffle(&mut turns);
    let mut cases: Vec<_> = cases.into_iter().map(SmallVec::into_iter).collect();
    turns.into_iter().filter_map(|place| cases[place].next()).collect()
}
