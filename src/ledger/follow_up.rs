//! What acts on an earlier payment: capture, void, refund, chargeback and its reversal, cancel.

use smallvec::{SmallVec, smallvec};

use super::apply::{Batch, Item, Verdict};
use super::movement::{Cover, Move, keep_last};
use super::payment::in_proportion;
use super::state::{Happening, Next, next};
use super::{Acted, Balance, Movement, Outcome, Payment, PaymentLeg, Pending};
use crate::contract::{Access, Action, FollowUp, PaymentState, Rejection};

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
            Action::Capture { .. } => Happening::CaptureRest,
            Action::Void => Happening::Void,
            Action::Refund { .. } => Happening::RefundRest,
            Action::Chargeback { .. } => Happening::ChargeBack,
            Action::ChargebackReversal { .. } => Happening::ReverseRest,
            Action::Cancel => Happening::Cancel,
        };
        match next(parent.state, asked) {
            Next::Early(reason) => return self.park(item, task.payment_id, reason),
            Next::Never(reason) => return Err(reason.into()),
            Next::To(_) => {}
        }
        if parent.expires_at.is_some_and(|at| at <= self.now) && matches!(asked, Happening::CaptureRest) {
            // The clock has won, whoever is first to write it down.
            return Err(Rejection::PaymentExpired.into());
        }
        let parent = parent.clone();
        match task.action {
            Action::Capture { amount, leg, is_final } => self.capture(parent, item, amount, leg, is_final),
            Action::Refund { amount, leg } => self.give_back(parent, item, amount, leg, task.action),
            Action::Chargeback { amount, leg } | Action::ChargebackReversal { amount, leg } => {
                self.give_back(parent, item, Some(amount), leg, task.action)
            }
            Action::Void => {
                let balances = self.release_all(&parent);
                self.acted(parent, item, asked, SmallVec::new(), balances)
            }
            Action::Cancel => self.acted(parent, item, asked, SmallVec::new(), SmallVec::new()),
        }
    }

    /// Whether the publisher has published the payment itself, or may publish one between its accounts.
    /// The accounts of a task that is scheduled or parked are not known here.
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
        let moves: SmallVec<[Move; 1]> = shares
            .iter()
            .map(|(ix, amount)| {
                let leg = &parent.legs[usize::from(*ix)];
                let (debit, credit, currency) = (leg.debit, leg.credit, leg.currency);
                Move { leg: *ix, debit, credit, currency, amount: *amount, cover: Cover::Held }
            })
            .collect();
        let movements = self.moves(&moves)?;
        for (ix, amount) in shares {
            parent.legs[usize::from(ix)].captured += amount;
        }
        let is_rest = is_final || parent.legs.iter().all(|leg| leg.captured == leg.amount);
        let (happening, balances) = if is_rest {
            (Happening::CaptureRest, self.release_all(&parent))
        } else {
            (Happening::CapturePart, SmallVec::new())
        };
        self.acted(parent, item, happening, movements, balances)
    }

    /// Refund, chargeback, and the reversal of one, which goes the other way.
    fn give_back(
        &mut self,
        mut parent: Payment,
        item: &Item<'_>,
        amount: Option<i64>,
        leg: Option<u8>,
        action: Action,
    ) -> Verdict {
        let reverses = matches!(action, Action::ChargebackReversal { .. });
        let left = if reverses { |leg: &PaymentLeg| leg.charged_back } else { PaymentLeg::kept };
        let shares = match shares(&parent, amount, leg, left) {
            Ok(shares) => shares,
            Err(Short::Wrong(reason)) => return Err(reason.into()),
            // While some of it is held, more can be captured; and a reversal can have overtaken
            // its chargeback.
            Err(Short::By(reason)) if parent.state.is_held() || reverses => {
                return self.park(item, parent.id, reason);
            }
            Err(Short::By(reason)) => return Err(reason.into()),
        };
        let cover = if matches!(action, Action::Refund { .. }) { Cover::Available } else { Cover::Imposed };
        let moves: SmallVec<[Move; 1]> = shares
            .iter()
            .map(|(ix, amount)| {
                let leg = &parent.legs[usize::from(*ix)];
                let (debit, credit) = if reverses { (leg.debit, leg.credit) } else { (leg.credit, leg.debit) };
                Move { leg: *ix, debit, credit, currency: leg.currency, amount: *amount, cover }
            })
            .collect();
        if moves.iter().any(|step| self.aside.debits(step.debit)) {
            return Ok(Outcome::SetAside { waits_on: None });
        }
        let movements = self.moves(&moves)?;
        for (ix, amount) in shares {
            let leg = &mut parent.legs[usize::from(ix)];
            match action {
                Action::Refund { .. } => leg.refunded += amount,
                Action::Chargeback { .. } => leg.charged_back += amount,
                _ => leg.charged_back -= amount,
            }
        }
        let is_all = |of: fn(&PaymentLeg) -> i64| parent.legs.iter().all(|leg| of(leg) == 0);
        let happening = match action {
            Action::Refund { .. } if is_all(PaymentLeg::kept) => Happening::RefundRest,
            Action::Refund { .. } => Happening::RefundPart,
            Action::Chargeback { .. } => Happening::ChargeBack,
            _ if is_all(|leg| leg.charged_back) => Happening::ReverseRest,
            _ => Happening::ReversePart,
        };
        self.acted(parent, item, happening, movements, SmallVec::new())
    }

    /// Releases all that is still held for a payment.
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

    fn acted(
        &mut self,
        mut parent: Payment,
        item: &Item<'_>,
        happening: Happening,
        mut movements: SmallVec<[Movement; 1]>,
        balances: SmallVec<[Balance; 1]>,
    ) -> Verdict {
        let transition = parent.happen(happening, Some(item.task.id))?;
        self.decision.transitions.push(transition);
        self.payments.insert(parent.id, parent.clone());
        // A release after a posting is the later word on the account.
        for balance in &balances {
            for posting in movements.iter_mut().flat_map(|movement| [&mut movement.debit, &mut movement.credit]) {
                if posting.after.account == balance.account && posting.after.version == balance.version {
                    posting.after = *balance;
                }
            }
        }
        let is_posted = |balance: &Balance| {
            movements.iter().any(|made| [made.debit.after, made.credit.after].iter().any(|after| after == balance))
        };
        let balances = balances.into_iter().filter(|balance| !is_posted(balance)).collect();
        Ok(Outcome::Acted(Box::new(Acted {
            state: PaymentState::Settled,
            moved: moved(&parent, &movements),
            movements,
            balances,
            payment: Some(parent),
        })))
    }
}

/// How much was moved, where it is all of one currency.
pub(super) fn moved(payment: &Payment, movements: &[Movement]) -> Option<i64> {
    let currency = |movement: &Movement| payment.legs.get(usize::from(movement.leg)).map(|leg| leg.currency);
    let first = currency(movements.first()?)?;
    let is_one = movements.iter().all(|movement| currency(movement) == Some(first));
    is_one.then(|| movements.iter().map(|movement| movement.credit.amount).sum())
}

/// Why there are no shares.
enum Short {
    /// More than is left.
    By(Rejection),
    /// It can't be asked for in this way.
    Wrong(Rejection),
}

/// Which legs take part, and with how much: all that is left, or `amount` in proportion to it.
fn shares(
    payment: &Payment,
    amount: Option<i64>,
    leg: Option<u8>,
    left: impl Fn(&PaymentLeg) -> i64,
) -> Result<SmallVec<[(u8, i64); 1]>, Short> {
    let mut chosen: SmallVec<[(u8, &PaymentLeg); 1]> = (0..).zip(&payment.legs).collect();
    if let Some(named) = leg {
        chosen.retain(|(ix, _)| *ix == named);
        if chosen.is_empty() {
            return Err(Short::Wrong(Rejection::LegNotFound));
        }
    }
    let lefts: SmallVec<[i64; 1]> = chosen.iter().map(|(_, leg)| left(leg)).collect();
    let total: i64 = lefts.iter().sum();
    let parts = match amount {
        Some(_) if chosen.iter().any(|(_, leg)| leg.currency != chosen[0].1.currency) => {
            return Err(Short::Wrong(Rejection::LegRequired));
        }
        Some(amount) if amount > total => return Err(Short::By(Rejection::AmountExceedsRemaining)),
        None if total == 0 => return Err(Short::By(Rejection::AmountExceedsRemaining)),
        Some(amount) => in_proportion(amount, &lefts),
        None => lefts,
    };
    Ok(chosen.iter().map(|(ix, _)| *ix).zip(parts).filter(|(_, amount)| *amount > 0).collect())
}
