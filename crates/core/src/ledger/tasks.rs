//! Applies tasks that act on no earlier payment: transfers, holds, and tasks about one account.

use smallvec::{SmallVec, smallvec};

use super::apply::{Batch, Verdict};
use super::movement::{Cover, Move};
use super::state::Trigger;
use super::{Account, AccountIx, AccountStatus, Acted, Item, Outcome, Payment, PaymentLeg, Pending};
use crate::contract::{AccountChange, Authorize, ChangeAccount, OpenAccount, Rejection, Transfer};

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
        // Tasks that are still on their way to the account were published before the change.
        if self.may_change(ix, item.arrival) {
            return Ok(Outcome::Deferred { waits_on: Some(task.account.clone()) });
        }
        change(&mut self.accounts[ix.0], task.change)?;
        Ok(acted(Acted::of(Trigger::Settle, SmallVec::new(), smallvec![self.balance(ix)], None)))
    }

    pub(super) fn transfer(&mut self, task: &Transfer, (debit, credit): (AccountIx, AccountIx)) -> Verdict {
        let Transfer { amount, currency, .. } = *task;
        let made = self.make(&Move { leg: 0, debit, credit, currency, amount, cover: Cover::Available })?;
        Ok(Outcome::Settled { debit: made.debit, credit: made.credit })
    }

    pub(super) fn split(&mut self, item: &Item<'_>) -> Verdict {
        let legs: SmallVec<[PaymentLeg; 1]> = item.legs().map(PaymentLeg::posted).collect();
        let moves: SmallVec<[Move; 1]> = (0..)
            .zip(&legs)
            .map(|(ix, leg)| {
                let PaymentLeg { debit, credit, currency, amount, .. } = *leg;
                Move { leg: ix, debit, credit, currency, amount, cover: Cover::Available }
            })
            .collect();
        let movements = self.moves(&moves)?;
        let payment = Payment { listed: true, legs, ..self.new_payment(item, Trigger::Settle) };
        Ok(acted(Acted::of(Trigger::Settle, movements, SmallVec::new(), Some(payment))))
    }

    pub(super) fn authorize(&mut self, task: &Authorize, item: &Item<'_>) -> Verdict {
        let lasts = task.expires_in.map_or(self.rules.hold, |seconds| jiff::SignedDuration::from_secs(seconds.into()));
        let expires_at = self.now.checked_add(lasts).ok();
        if lasts > self.rules.longest_hold || expires_at.is_none() {
            return Err(Rejection::ExpiryOutOfRange.into());
        }
        let legs: SmallVec<[PaymentLeg; 1]> = item.legs().collect();
        let balances = self.holds(&legs)?;
        let listed = task.terms.is_listed();
        let payment = Payment { listed, legs, expires_at, ..self.new_payment(item, Trigger::Authorize) };
        Ok(acted(Acted::of(Trigger::Authorize, SmallVec::new(), balances, Some(payment))))
    }

    fn new_payment(&self, item: &Item<'_>, trigger: Trigger) -> Payment {
        let stage = self.step(item, trigger).after;
        let publisher = item.publisher.map(Into::into);
        Payment { publisher, ..Payment::bare(item.task.id, item.task.body.task_type(), stage) }
    }
}

fn acted(acted: Acted) -> Outcome {
    Outcome::Acted(Box::new(acted))
}

fn change(account: &mut Account, change: AccountChange) -> Result<(), Rejection> {
    let is_frozen = match account.status {
        AccountStatus::Unopened => return Err(Rejection::AccountNotFound),
        AccountStatus::Closed => return Err(Rejection::AccountClosed),
        AccountStatus::Open => false,
        AccountStatus::Frozen => true,
    };
    account.status = match change {
        AccountChange::SetLimits(limits) => return account.limit(limits),
        AccountChange::Close if account.posted != 0 || account.held != 0 => return Err(Rejection::AccountNotEmpty),
        AccountChange::Close => AccountStatus::Closed,
        AccountChange::Freeze if is_frozen => return Err(Rejection::AccountFrozen),
        AccountChange::Freeze => AccountStatus::Frozen,
        AccountChange::Unfreeze if is_frozen => AccountStatus::Open,
        AccountChange::Unfreeze => return Err(Rejection::AccountNotFrozen),
    };
    Ok(())
}
