//! What is set aside in a batch, and who stands behind it.

use std::collections::HashSet;

use uuid::Uuid;

use super::{AccountIx, Item, Payment};
use crate::contract::{Action, TaskBody};

/// All that is set aside so far.
#[derive(Debug, Default)]
pub(super) struct Aside {
    tasks: HashSet<Uuid>,
    /// The accounts that these debit, open or change.
    accounts: HashSet<AccountIx>,
    /// The payments on which they act.
    payments: HashSet<Uuid>,
}

impl Aside {
    /// Adds a task, and the payment on which it acts as far as that is known.
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

    /// Whether a task stands behind another one: on the same account, on the same payment, or because
    /// it refers to it.
    pub(super) fn is_before(&self, item: &Item<'_>) -> bool {
        !self.tasks.is_empty()
            && (item.pairs.iter().any(|(debit, _)| self.accounts.contains(debit))
                || item.task.refers_to().any(|id| self.tasks.contains(&id))
                || item.task.body.payment_id().is_some_and(|payment| self.payments.contains(&payment)))
    }

    /// Whether debits of an account wait.
    pub(super) fn debits(&self, account: AccountIx) -> bool {
        self.accounts.contains(&account)
    }
}
