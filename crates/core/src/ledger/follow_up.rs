//! Applies follow-ups, which act on an earlier payment: capture, void and cancel here, and what moves money back in
//! `returns`.

use smallvec::{SmallVec, smallvec};

use super::apply::{Batch, Verdict};
use super::movement::{Cover, Move, keep_last};
use super::returns::Return;
use super::shares::{Short, shares};
use super::state::{Next, Trigger, next};
use super::{Acted, Balance, Item, Movement, Outcome, Payment, PaymentLeg, Pending};
use crate::contract::{Access, Action, FollowUp, Rejection};

impl<P: Pending> Batch<'_, '_, P> {
    pub(super) fn follow_up(&mut self, task: &FollowUp, item: &Item<'_>) -> Verdict {
        let Some(parent) = self.payments.get(&task.payment_id) else {
            return self.park(item, task.payment_id, Rejection::PaymentNotFound);
        };
        if !self.may_act_on(parent, item) {
            return Err(Rejection::Forbidden.into());
        }
        if task.action != Action::Cancel && !parent.moves_money() {
            return Err(Rejection::PaymentNotFound.into());
        }
        // Of a pair, part and rest are legal in the same states.
        let asked = match task.action {
            Action::Capture { .. } => Trigger::CaptureRest,
            Action::Void => Trigger::Void,
            Action::Refund { .. } => Trigger::RefundRest,
            Action::Chargeback { .. } => Trigger::ChargeBack,
            Action::ChargebackReversal { .. } => Trigger::ReverseRest,
            Action::Cancel => Trigger::Cancel,
        };
        match next(parent.state(), asked) {
            Next::Early(reason) => return self.park(item, task.payment_id, reason),
            Next::Never(reason) => return Err(reason.into()),
            Next::To(_) => {}
        }
        if parent.expires_at.is_some_and(|at| at <= self.now) && asked == Trigger::CaptureRest {
            // The hold has run out, even if that is not written yet.
            return Err(Rejection::PaymentExpired.into());
        }
        let parent = parent.clone();
        match task.action {
            Action::Capture { amount, leg, is_final } => self.capture(parent, item, amount, leg, is_final),
            Action::Refund { amount, leg } => self.give_back(parent, item, Return::Refund, amount, leg),
            Action::Chargeback { amount, leg } => self.give_back(parent, item, Return::Chargeback, Some(amount), leg),
            Action::ChargebackReversal { amount, leg } => {
                self.give_back(parent, item, Return::Reversal, Some(amount), leg)
            }
            Action::Void => {
                let balances = self.release_all(&parent);
                self.act(parent, item, asked, SmallVec::new(), balances)
            }
            Action::Cancel => self.act(parent, item, asked, SmallVec::new(), SmallVec::new()),
        }
    }

    /// Whether the publisher has published the payment, or may publish one between its accounts. The accounts of a task
    /// that waits are not known.
    fn may_act_on(&self, parent: &Payment, item: &Item<'_>) -> bool {
        match item.access {
            Access::Everything => true,
            Access::Nothing => false,
            Access::Only(rules, own_name) => {
                let is_own = own_name.is_some() && parent.publisher.as_deref() == own_name;
                let covers = |leg: &PaymentLeg| rules.covers(self.names[leg.debit.0], self.names[leg.credit.0]);
                is_own || rules.covers_everything() || !parent.legs.is_empty() && parent.legs.iter().all(covers)
            }
        }
    }

    fn capture(
        &mut self,
        mut parent: Payment,
        item: &Item<'_>,
        amount: Option<i64>,
        leg: Option<u8>,
        is_final: bool,
    ) -> Verdict {
        let shares = match shares(&parent, amount, leg, |leg| leg.amount - leg.captured) {
            Ok(shares) => shares,
            Err(Short::By(reason) | Short::Wrong(reason)) => return Err(reason.into()),
        };
        let movement = |(ix, amount): &(u8, i64)| {
            let PaymentLeg { debit, credit, currency, .. } = parent.legs[usize::from(*ix)];
            Move { leg: *ix, debit, credit, currency, amount: *amount, cover: Cover::Held }
        };
        let moves: SmallVec<[Move; 1]> = shares.iter().map(movement).collect();
        let movements = self.moves(&moves)?;
        for (ix, amount) in shares {
            parent.legs[usize::from(ix)].captured += amount;
        }
        let is_rest = is_final || parent.legs.iter().all(|leg| leg.captured == leg.amount);
        let (trigger, balances) = if is_rest {
            (Trigger::CaptureRest, self.release_all(&parent))
        } else {
            (Trigger::CapturePart, SmallVec::new())
        };
        self.act(parent, item, trigger, movements, balances)
    }

    /// Releases all that is held for a payment.
    pub(super) fn release_all(&mut self, payment: &Payment) -> SmallVec<[Balance; 1]> {
        let mut balances = smallvec![];
        for leg in &payment.legs {
            let held = payment.held(leg);
            if held > 0 {
                let balance = self.release(leg.debit, held);
                keep_last(&mut balances, balance);
            }
        }
        balances
    }

    /// Takes the payment on which a task acts to its next stage. Its amounts are those after `trigger` already.
    pub(super) fn act(
        &mut self,
        mut parent: Payment,
        item: &Item<'_>,
        trigger: Trigger,
        mut movements: SmallVec<[Movement; 1]>,
        balances: SmallVec<[Balance; 1]>,
    ) -> Verdict {
        let transition = parent.happen(trigger, Some(item.task.id))?;
        self.decision.transitions.push(transition);
        self.payments.insert(parent.id, parent.clone());
        let balances = balances.into_iter().filter(|balance| !restate(&mut movements, balance)).collect();
        Ok(Outcome::Acted(Box::new(Acted::of(Trigger::Settle, movements, balances, Some(parent)))))
    }
}

/// Puts a balance that was changed after a posting, by a release, into the posting; a posting stands for its
/// account's balance. Returns whether there is one.
fn restate(movements: &mut [Movement], balance: &Balance) -> bool {
    let postings = movements.iter_mut().flat_map(|made| [&mut made.debit, &mut made.credit]);
    let is_same = |after: &Balance| after.account == balance.account && after.version == balance.version;
    let mut of_balance = postings.filter(|posting| is_same(&posting.after)).peekable();
    let is_posted = of_balance.peek().is_some();
    of_balance.for_each(|posting| posting.after = *balance);
    is_posted
}
