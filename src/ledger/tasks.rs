//! What doesn't act on an earlier payment: transfers, holds, and what is about one account.

use smallvec::{SmallVec, smallvec};

use super::apply::{Batch, Item, Verdict};
use super::follow_up::moved;
use super::movement::{Cover, Move};
use super::{Account, AccountIx, AccountStatus, Acted, Outcome, Payment, PaymentLeg, Pending};
use crate::contract::{
    AccountChange, Authorize, ChangeAccount, Leg, OpenAccount, PaymentState, Rejection, Split, TaskBody, Transfer,
};

type Pair = (AccountIx, AccountIx);

impl<P: Pending> Batch<'_, '_, P> {
    pub(super) fn open_account(&mut self, task: &OpenAccount, ix: AccountIx) -> Verdict {
        let account = &mut self.accounts[ix.0];
        match account.status {
            AccountStatus::Unopened => {
                account.open(task);
                Ok(Outcome::Opened)
            }
            AccountStatus::Open | AccountStatus::Frozen => Err(Rejection::AccountExists.into()),
            AccountStatus::Closed => Err(Rejection::AccountClosed.into()),
        }
    }

    pub(super) fn change_account(&mut self, task: &ChangeAccount, ix: AccountIx, item: &Item<'_>) -> Verdict {
        // Whatever is still on its way to the account was published before the change.
        if self.may_change(ix, item.arrival) {
            return Ok(Outcome::SetAside { waits_on: Some(task.account.clone()) });
        }
        let account = &mut self.accounts[ix.0];
        change(account, task.change)?;
        let (state, balances) = (PaymentState::Settled, smallvec![self.balance(ix)]);
        Ok(acted(Acted { state, movements: SmallVec::new(), balances, moved: None, payment: None }))
    }

    pub(super) fn transfer(&mut self, task: &Transfer, (debit, credit): Pair) -> Verdict {
        let Transfer { amount, currency, .. } = *task;
        let made = self.make(&Move { leg: 0, debit, credit, currency, amount, cover: Cover::Available })?;
        Ok(Outcome::Settled { debit: made.debit, credit: made.credit })
    }

    pub(super) fn split(&mut self, task: &Split, pairs: &[Pair], item: &Item<'_>) -> Verdict {
        let moves: Vec<Move> = (0..)
            .zip(pairs.iter().zip(&task.legs))
            .map(|(leg, ((debit, credit), Leg { currency, amount, .. }))| Move {
                leg,
                debit: *debit,
                credit: *credit,
                currency: *currency,
                amount: *amount,
                cover: Cover::Available,
            })
            .collect();
        let movements = self.moves(&moves)?;
        let state = PaymentState::Settled;
        let legs = legs(&task.legs, pairs, true);
        let payment = Payment { state, listed: true, legs, ..self.new_payment(item) };
        let (moved, balances) = (moved(&payment, &movements), SmallVec::new());
        Ok(acted(Acted { state, movements, balances, moved, payment: Some(payment) }))
    }

    pub(super) fn authorize(&mut self, task: &Authorize, pairs: &[Pair], item: &Item<'_>) -> Verdict {
        let lasts = task.expires_in.map_or(self.rules.hold, |seconds| jiff::SignedDuration::from_secs(seconds.into()));
        let expires_at = self.now.checked_add(lasts).ok();
        if lasts > self.rules.longest_hold || expires_at.is_none() {
            return Err(Rejection::ExpiryOutOfRange.into());
        }
        let wanted = pairs.iter().zip(task.legs());
        let balances = self.holds(wanted.map(|((debit, credit), leg)| (*debit, *credit, leg.currency, leg.amount)))?;
        let (state, listed, legs) = (PaymentState::Authorized, task.terms.is_listed(), legs(task.legs(), pairs, false));
        let payment = Payment { state, listed, legs, expires_at, ..self.new_payment(item) };
        Ok(acted(Acted { state, movements: SmallVec::new(), balances, moved: None, payment: Some(payment) }))
    }

    /// The payment that a settled transfer is, for whoever refers to it.
    pub(super) fn posted(&self, item: &Item<'_>) -> Payment {
        let TaskBody::Transfer(transfer) = &item.task.body else { return self.new_payment(item) };
        let legs = item.pairs.iter().map(|(debit, credit)| PaymentLeg {
            debit: *debit,
            credit: *credit,
            currency: transfer.currency,
            amount: transfer.amount,
            captured: transfer.amount,
            refunded: 0,
            charged_back: 0,
        });
        Payment { state: PaymentState::Settled, legs: legs.collect(), ..self.new_payment(item) }
    }

    fn new_payment(&self, item: &Item<'_>) -> Payment {
        let publisher = item.publisher.map(Into::into);
        Payment { publisher, ..Payment::bare(item.task.id, item.task.body.task_type(), self.version_of(item)) }
    }
}

fn acted(acted: Acted) -> Outcome {
    Outcome::Acted(Box::new(acted))
}

fn legs(legs: &[Leg], pairs: &[Pair], is_posted: bool) -> SmallVec<[PaymentLeg; 1]> {
    let leg = |((debit, credit), leg): (&Pair, &Leg)| PaymentLeg {
        debit: *debit,
        credit: *credit,
        currency: leg.currency,
        amount: leg.amount,
        captured: if is_posted { leg.amount } else { 0 },
        refunded: 0,
        charged_back: 0,
    };
    pairs.iter().zip(legs).map(leg).collect()
}

fn change(account: &mut Account, change: AccountChange) -> Result<(), Rejection> {
    match (account.status, change) {
        (AccountStatus::Unopened, _) => Err(Rejection::AccountNotFound),
        (AccountStatus::Closed, _) => Err(Rejection::AccountClosed),
        (_, AccountChange::Close) if account.posted != 0 || account.held != 0 => Err(Rejection::AccountNotEmpty),
        (_, AccountChange::Close) => {
            account.status = AccountStatus::Closed;
            Ok(())
        }
        (AccountStatus::Open, AccountChange::Freeze) => {
            account.status = AccountStatus::Frozen;
            Ok(())
        }
        (AccountStatus::Frozen, AccountChange::Freeze) => Err(Rejection::AccountFrozen),
        (AccountStatus::Frozen, AccountChange::Unfreeze) => {
            account.status = AccountStatus::Open;
            Ok(())
        }
        (AccountStatus::Open, AccountChange::Unfreeze) => Err(Rejection::AccountNotFrozen),
        (_, AccountChange::SetLimits(limits)) => account.limit(limits),
    }
}
