//! What the clock does: holds run out.

use std::collections::HashSet;

use smallvec::SmallVec;
use uuid::Uuid;

use super::apply::Batch;
use super::state::Happening;
use super::{Acted, Books, NonePending, Transition};

/// Ends those holds of `payments` that have run out; answers what was done, and nothing for a
/// payment that holds no more, or not yet.
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
        if !payment.state.is_held() || payment.expires_at.is_none_or(|at| at > self.now) {
            return None;
        }
        let balances = self.release_all(&payment);
        let transition = payment.happen(Happening::Expire, None).ok()?;
        self.decision.transitions.push(transition);
        self.payments.insert(id, payment.clone());
        let state = payment.state;
        Some(Acted { state, movements: SmallVec::new(), balances, moved: None, payment: Some(payment) })
    }
}
