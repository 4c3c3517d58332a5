//! Moves, holds and releases money.
//!
//! Invariant: a task with several movements makes all of them or none.

use smallvec::{SmallVec, smallvec};

use super::apply::Batch;
use super::guards::Decline;
use super::{Account, AccountIx, AccountStatus, Balance, Movement, PaymentLeg, Pending, Posting};
use crate::contract::{Currency, Rejection};

/// How a debit is covered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cover {
    /// By the available balance.
    Available,
    /// By a hold, which ends with the debit.
    Held,
    /// By nothing: a chargeback may take an account below its limit, and debit a frozen one.
    Imposed,
}

/// A movement to be made.
#[derive(Clone, Copy, Debug)]
pub(super) struct Move {
    pub(super) leg: u8,
    pub(super) debit: AccountIx,
    pub(super) credit: AccountIx,
    pub(super) currency: Currency,
    pub(super) amount: i64,
    pub(super) cover: Cover,
}

/// Accounts as they were before a step, for when a later one is declined.
type Undo = SmallVec<[(AccountIx, Account); 2]>;

impl<P: Pending> Batch<'_, '_, P> {
    /// Makes all movements in their order, or none.
    pub(super) fn moves(&mut self, moves: &[Move]) -> Result<SmallVec<[Movement; 1]>, Decline> {
        let mut undo = Undo::new();
        let mut made = SmallVec::with_capacity(moves.len());
        for step in moves {
            for account in [step.debit, step.credit] {
                undo.push((account, self.accounts[account.0].clone()));
            }
            match self.make(step) {
                Ok(movement) => made.push(movement),
                Err(decline) => {
                    self.undo(undo);
                    return Err(decline);
                }
            }
        }
        Ok(made)
    }

    /// Holds the amounts of all legs on the accounts that will pay, or none. Returns the balances.
    pub(super) fn holds(&mut self, legs: &[PaymentLeg]) -> Result<SmallVec<[Balance; 1]>, Decline> {
        let mut undo = Undo::new();
        let mut balances: SmallVec<[Balance; 1]> = smallvec![];
        for PaymentLeg { debit, credit, currency, amount, .. } in legs {
            undo.push((*debit, self.accounts[debit.0].clone()));
            let admitted = self.admit(*debit, *credit, *currency, Cover::Available);
            match admitted.and_then(|()| self.hold(*debit, *amount)) {
                Ok(balance) => keep_last(&mut balances, balance),
                Err(decline) => {
                    self.undo(undo);
                    return Err(decline);
                }
            }
        }
        Ok(balances)
    }

    /// Releases `amount` of what is held of an account.
    pub(super) fn release(&mut self, account: AccountIx, amount: i64) -> Balance {
        let released = &mut self.accounts[account.0];
        released.held -= amount;
        released.restate_shortfall();
        self.balance(account)
    }

    pub(super) fn balance(&self, ix: AccountIx) -> Balance {
        let Account { posted, held, version, shortfall, .. } = self.accounts[ix.0];
        Balance { account: ix, posted, held, version, shortfall }
    }

    /// Makes one movement.
    pub(super) fn make(&mut self, step: &Move) -> Result<Movement, Decline> {
        let Move { leg, debit, credit, currency, amount, cover } = *step;
        self.admit(debit, credit, currency, cover)?;
        let payer = &self.accounts[debit.0];
        let payer_after = match cover {
            Cover::Available => payer.debited(amount),
            Cover::Held | Cover::Imposed => payer.debited_anyway(amount),
        };
        let payer_after = payer_after.map_err(Decline::on(debit))?;
        let payee_after = self.accounts[credit.0].credited(amount).map_err(Decline::on(credit))?;
        if cover == Cover::Held {
            self.accounts[debit.0].held -= amount;
        }
        Ok(Movement {
            leg,
            debit: self.post(debit, -amount, payer_after),
            credit: self.post(credit, amount, payee_after),
        })
    }

    /// Checks whether both accounts take part, the debited one first.
    pub(super) fn admit(
        &self,
        debit: AccountIx,
        credit: AccountIx,
        currency: Currency,
        cover: Cover,
    ) -> Result<(), Decline> {
        let (payer, payee) = (&self.accounts[debit.0], &self.accounts[credit.0]);
        payer.admits(currency).map_err(Decline::on(debit))?;
        payee.admits(currency).map_err(Decline::on(credit))?;
        if payer.status == AccountStatus::Frozen && cover != Cover::Imposed {
            return Err(Decline::on(debit)(Rejection::AccountFrozen));
        }
        if payee.status == AccountStatus::Frozen && !self.rules.frozen_takes_credits {
            return Err(Decline::on(credit)(Rejection::AccountFrozen));
        }
        Ok(())
    }

    pub(super) fn post(&mut self, ix: AccountIx, amount: i64, posted: i64) -> Posting {
        let account = &mut self.accounts[ix.0];
        account.posted = posted;
        account.version += 1;
        account.restate_shortfall();
        Posting { amount, after: self.balance(ix) }
    }

    fn hold(&mut self, ix: AccountIx, amount: i64) -> Result<Balance, Decline> {
        let account = &mut self.accounts[ix.0];
        account.held = account.holding(amount).map_err(Decline::on(ix))?;
        Ok(self.balance(ix))
    }

    fn undo(&mut self, undo: Undo) {
        for (ix, account) in undo.into_iter().rev() {
            self.accounts[ix.0] = account;
        }
    }
}

/// Keeps one balance an account: the last.
pub(super) fn keep_last(balances: &mut SmallVec<[Balance; 1]>, balance: Balance) {
    match balances.iter_mut().find(|known| known.account == balance.account) {
        Some(known) => *known = balance,
        None => balances.push(balance),
    }
}
