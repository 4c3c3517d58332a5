//! Posted money that goes back to the account that paid: by refund or chargeback; and money that comes again by
//! the reversal of a chargeback.

use smallvec::SmallVec;

use super::apply::{Batch, Verdict};
use super::movement::{Cover, Move};
use super::shares::{Short, shares};
use super::state::Trigger;
use super::{Item, Outcome, Payment, PaymentLeg, Pending};

/// The ways in which money goes back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Return {
    Refund,
    Chargeback,
    /// Of a chargeback: the money comes again.
    Reversal,
}

impl Return {
    /// The amount of a leg that can still go this way.
    const fn left(self, leg: &PaymentLeg) -> i64 {
        match self {
            Self::Refund | Self::Chargeback => leg.kept(),
            Self::Reversal => leg.charged_back,
        }
    }

    /// The movement of `amount` of the leg at `ix`.
    const fn movement(self, ix: u8, leg: &PaymentLeg, amount: i64) -> Move {
        let (debit, credit, cover) = match self {
            Self::Refund => (leg.credit, leg.debit, Cover::Available),
            Self::Chargeback => (leg.credit, leg.debit, Cover::Imposed),
            Self::Reversal => (leg.debit, leg.credit, Cover::Imposed),
        };
        Move { leg: ix, debit, credit, currency: leg.currency, amount, cover }
    }

    /// Adds `amount` to what has gone this way.
    const fn add(self, leg: &mut PaymentLeg, amount: i64) {
        match self {
            Self::Refund => leg.refunded += amount,
            Self::Chargeback => leg.charged_back += amount,
            Self::Reversal => leg.charged_back -= amount,
        }
    }

    /// What has happened to a payment whose amounts are those after it.
    fn trigger(self, payment: &Payment) -> Trigger {
        let is_rest = payment.legs.iter().all(|leg| self.left(leg) == 0);
        match (self, is_rest) {
            (Self::Refund, true) => Trigger::RefundRest,
            (Self::Refund, false) => Trigger::RefundPart,
            (Self::Chargeback, true | false) => Trigger::ChargeBack,
            (Self::Reversal, true) => Trigger::ReverseRest,
            (Self::Reversal, false) => Trigger::ReversePart,
        }
    }
}

impl<P: Pending> Batch<'_, '_, P> {
    /// Moves `amount` back, or all that is left; of one leg, or in proportion of all.
    pub(super) fn give_back(
        &mut self,
        mut parent: Payment,
        item: &Item<'_>,
        way: Return,
        amount: Option<i64>,
        leg: Option<u8>,
    ) -> Verdict {
        let shares = match shares(&parent, amount, leg, |leg| way.left(leg)) {
            Ok(shares) => shares,
            Err(Short::Wrong(reason)) => return Err(reason.into()),
            // More can be captured while some of it is held, and a reversal can have overtaken its chargeback.
            Err(Short::By(reason)) if parent.state().is_held() || way == Return::Reversal => {
                return self.park(item, parent.id, reason);
            }
            Err(Short::By(reason)) => return Err(reason.into()),
        };
        let movement = |(ix, amount): &(u8, i64)| way.movement(*ix, &parent.legs[usize::from(*ix)], *amount);
        let moves: SmallVec<[Move; 1]> = shares.iter().map(movement).collect();
        if moves.iter().any(|step| self.aside.debits(step.debit)) {
            return Ok(Outcome::Deferred { waits_on: None });
        }
        let movements = self.moves(&moves)?;
        for (ix, amount) in shares {
            way.add(&mut parent.legs[usize::from(ix)], amount);
        }
        let trigger = way.trigger(&parent);
        self.act(parent, item, trigger, movements, SmallVec::new())
    }
}
