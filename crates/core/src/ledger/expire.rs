//! Ends holds that have run out.

use std::collections::HashSet;

use smallvec::SmallVec;
use uuid::Uuid;

use super::apply::Batch;
use super::state::Trigger;
use super::{Acted, Books, NonePending, Transition};

/// Ends those holds of `payments` that have run out. Returns what was done; a payment whose hold has been ended before
/// or has not run out yet is left out.
pub fn expire(payments: &[Uuid], books: Books<'_>) -> (Vec<Acted>, Vec<Transition>) {
    let mut batch = Batch::new(&[], books, &NonePending);
    let distinct: HashSet<Uuid> = payments.iter().copied().collect();
    let mut due: Vec<Uuid> = distinct.into_iter().collect();
    due.sort_unstable();
    let acted = due.into_iter().filter_map(|id| batch.expire(id)).collect();
    (acted, batch.decision.transitions)
}

impl Batch<'_, '_, NonePending> {
    fn expire(&mut self, id: Uuid) -> Option<Acted> {
        let mut payment = self.payments.get(&id)?.clone();
        if !payment.state().is_held() || payment.expires_at.is_none_or(|at| at > self.now) {
            return None;
        }
        let balances = self.release_all(&payment);
        let transition = payment.happen(Trigger::Expire, None).ok()?;
        self.decision.transitions.push(transition);
        self.payments.insert(id, payment.clone());
        Some(Acted::of(Trigger::Expire, SmallVec::new(), balances, Some(payment)))
    }
}
