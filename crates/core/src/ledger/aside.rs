//! The tasks of a batch that are deferred, and who has to come after them.
//!
//! Invariant: a task that debits the same account, acts on the same payment or refers to the task comes after it.

use std::collections::HashSet;

use uuid::Uuid;

use super::account::AccountIx;
use super::books::Item;
use super::payment::Payment;
use crate::contract::{Action, TaskBody};

/// The tasks that are deferred so far.
#[derive(Debug, Default)]
pub(super) struct Aside {
    tasks: HashSet<Uuid>,
    /// The accounts that they debit, open or change.
    accounts: HashSet<AccountIx>,
    /// The payments on which they act.
    payments: HashSet<Uuid>,
}

impl Aside {
    /// Adds a task. `parent` is the payment on which it acts, if that exists.
    pub(super) fn add(&mut self, item: &Item<'_>, parent: Option<&Payment>) {
        self.tasks.insert(item.task.id);
        self.accounts.extend(item.pairs.iter().map(|(debit, _)| *debit));
        let TaskBody::FollowUp(follow_up) = &item.task.body else { return };
        self.payments.insert(follow_up.payment_id);
        let legs = parent.map_or(&[][..], |parent| &parent.legs);
        match follow_up.action {
            Action::Refund { .. } | Action::Chargeback { .. } => {
                self.accounts.extend(legs.iter().map(|leg| leg.credit));
            }
            Action::ChargebackReversal { .. } => self.accounts.extend(legs.iter().map(|leg| leg.debit)),
            // These debit what is held already, or nothing.
            Action::Capture { .. } | Action::Void | Action::Cancel => {}
        }
    }

    /// Whether a task has to come after one that is deferred.
    pub(super) fn is_before(&self, item: &Item<'_>) -> bool {
        !self.tasks.is_empty()
            && (item.pairs.iter().any(|(debit, _)| self.accounts.contains(debit))
                || item.task.refers_to().any(|id| self.tasks.contains(&id))
                || item.task.body.payment_id().is_some_and(|payment| self.payments.contains(&payment)))
    }

    /// Whether debits of the account have to wait.
    pub(super) fn debits(&self, account: AccountIx) -> bool {
        self.accounts.contains(&account)
    }
}
