//! Tasks that act on an earlier payment.

use uuid::Uuid;

use super::super::contract::{Action, FollowUp, PaymentState, Rejection};
use super::rows::Leg;
use super::{Model, Stop};

impl Model {
    pub(super) fn follow_up(&mut self, task: Uuid, follow_up: &FollowUp) -> Result<(), Stop> {
        let parent = follow_up.payment_id;
        let unknown = Stop::WaitsFor(parent, Rejection::PaymentNotFound);
        let Some(place) = self.places.get(&parent).copied() else { return Err(unknown) };
        let Some(state) = self.rows[place].state else { return Err(unknown) };
        let is_waiting = matches!(state, PaymentState::Scheduled | PaymentState::Parked);
        let is_cancel = follow_up.action == Action::Cancel;
        if !is_cancel && !self.rows[place].moves_money() {
            return Err(Rejection::PaymentNotFound.into());
        }
        match state {
            _ if is_waiting && !is_cancel => return Err(unknown),
            PaymentState::Rejected => return Err(Rejection::PaymentRejected.into()),
            PaymentState::Canceled => return Err(Rejection::PaymentCanceled.into()),
            PaymentState::Voided if !is_cancel => return Err(Rejection::PaymentVoided.into()),
            PaymentState::Expired if !is_cancel => return Err(Rejection::PaymentExpired.into()),
            _ if is_cancel && !is_waiting => return Err(Rejection::AlreadyApplied.into()),
            _ => {}
        }
        match follow_up.action {
            Action::Cancel => {
                let row = &mut self.rows[place];
                (row.state, row.waits_until, row.waits_for) = (Some(PaymentState::Canceled), None, None);
            }
            Action::Void => {
                self.must_be_held(place)?;
                self.end_hold(place, PaymentState::Voided);
            }
            Action::Capture { amount, leg, is_final } => self.capture(task, place, (amount, leg), is_final)?,
            Action::Refund { .. } | Action::Chargeback { .. } | Action::ChargebackReversal { .. } => {
                self.back_and_forth(task, place, follow_up.action)?;
                let state = self.rows[place].applied();
                self.rows[place].state = Some(state);
            }
        }
        self.has_changed(place);
        Ok(())
    }

    fn must_be_held(&self, place: usize) -> Result<(), Rejection> {
        if self.rows[place].hold_until.is_some() { Ok(()) } else { Err(Rejection::AlreadyCaptured) }
    }

    fn capture(
        &mut self,
        task: Uuid,
        place: usize,
        asked: (Option<i64>, Option<u8>),
        is_final: bool,
    ) -> Result<(), Rejection> {
        self.must_be_held(place)?;
        if self.rows[place].hold_until.is_some_and(|until| until <= self.now) {
            return Err(Rejection::PaymentExpired);
        }
        let legs = self.rows[place].legs.clone();
        let parts = parts(&legs, asked, |leg| leg.amount - leg.captured)?;
        for (leg, part) in legs.iter().zip(&parts).filter(|(_, part)| **part > 0) {
            self.transfer_held(task, leg, *part)?;
        }
        for (leg, part) in self.rows[place].legs.iter_mut().zip(parts) {
            leg.captured += part;
        }
        let is_all = self.rows[place].legs.iter().all(|leg| leg.captured == leg.amount);
        if is_final || is_all {
            self.end_hold(place, PaymentState::Settled);
        } else {
            let state = self.rows[place].applied();
            self.rows[place].state = Some(state);
        }
        Ok(())
    }

    /// Applies a refund, a chargeback or a chargeback reversal.
    fn back_and_forth(&mut self, task: Uuid, place: usize, action: Action) -> Result<(), Stop> {
        let (id, state) = (self.rows[place].task.id, self.rows[place].state);
        let is_reversal = matches!(action, Action::ChargebackReversal { .. });
        let too_much = Rejection::AmountExceedsRemaining;
        match state {
            Some(PaymentState::Authorized) => return Err(Stop::WaitsFor(id, Rejection::NotCaptured)),
            Some(PaymentState::Refunded) => return Err(too_much.into()),
            Some(PaymentState::Settled | PaymentState::PartiallyRefunded) if is_reversal => {
                return Err(Stop::WaitsFor(id, too_much));
            }
            _ => {}
        }
        let legs = self.rows[place].legs.clone();
        let left = |leg: &Leg| if is_reversal { leg.charged_back } else { leg.kept() };
        let parts = match parts(&legs, (action.amount(), action.leg()), left) {
            // Wait: a later capture or chargeback may make the amount available.
            Err(reason) if reason == too_much && (is_reversal || self.rows[place].hold_until.is_some()) => {
                return Err(Stop::WaitsFor(id, too_much));
            }
            parts => parts?,
        };
        for (leg, part) in legs.iter().zip(&parts).filter(|(_, part)| **part > 0) {
            match action {
                Action::Refund { .. } => self.transfer(task, &leg.backwards(), *part)?,
                Action::Chargeback { .. } => self.impose(task, &leg.backwards(), *part)?,
                _ => self.impose(task, leg, *part)?,
            }
        }
        for (leg, part) in self.rows[place].legs.iter_mut().zip(parts) {
            match action {
                Action::Refund { .. } => leg.refunded += part,
                Action::Chargeback { .. } => leg.charged_back += part,
                _ => leg.charged_back -= part,
            }
        }
        Ok(())
    }
}

/// Returns the amount for each leg: all of it for the named leg, or proportional to what is left on each. Without an
/// amount, returns everything that is left.
fn parts(
    legs: &[Leg],
    (amount, named): (Option<i64>, Option<u8>),
    left: impl Fn(&Leg) -> i64,
) -> Result<Vec<i64>, Rejection> {
    let mut lefts: Vec<i64> = legs.iter().map(left).collect();
    match named {
        Some(named) if usize::from(named) >= legs.len() => return Err(Rejection::LegNotFound),
        Some(named) => {
            let of_named = lefts[usize::from(named)];
            lefts.fill(0);
            lefts[usize::from(named)] = of_named;
        }
        None if amount.is_some() && legs.iter().any(|leg| leg.currency != legs[0].currency) => {
            return Err(Rejection::LegRequired);
        }
        None => {}
    }
    let total: i64 = lefts.iter().sum();
    let amount = amount.unwrap_or(total);
    if amount > total || total == 0 {
        return Err(Rejection::AmountExceedsRemaining);
    }
    Ok(largest_remainders(amount, &lefts, total))
}

/// Divides `amount` in proportion to `lefts` by the largest remainder method. Among equal remainders, the first leg
/// gets the unit.
fn largest_remainders(amount: i64, lefts: &[i64], total: i64) -> Vec<i64> {
    let exact = |left: i64| i128::from(amount) * i128::from(left);
    let total = i128::from(total);
    let mut parts: Vec<i64> = lefts.iter().map(|left| (exact(*left) / total) as i64).collect();
    let mut lost: Vec<i128> = lefts.iter().map(|left| exact(*left) % total).collect();
    while parts.iter().sum::<i64>() < amount {
        let most = *lost.iter().max().expect("there are legs");
        let first = lost.iter().position(|lost| *lost == most).expect("it is one of them");
        parts[first] += 1;
        lost[first] = -1;
    }
    parts
}
