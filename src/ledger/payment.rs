//! A payment as the ledger sees it: what a follow-up acts on.

use compact_str::CompactString;
use jiff::Timestamp;
use smallvec::SmallVec;
use uuid::Uuid;

use super::state::{Happening, Next, next};
use super::{AccountIx, Transition};
use crate::contract::{Currency, PaymentState, Rejection, TaskType};

/// A task that others refer to, and the payment that it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Payment {
    /// The task's id.
    pub id: Uuid,
    /// The task's type.
    pub task_type: TaskType,
    /// Where it stands.
    pub state: PaymentState,
    /// How many states it has had.
    pub version: i32,
    /// While it is held: until when.
    pub expires_at: Option<Timestamp>,
    /// While it waits: until when.
    pub deadline: Option<Timestamp>,
    /// Whether its movements were written as a list.
    pub listed: bool,
    /// Its movements; none for a task that isn't a `transfer` or an `authorize`.
    pub legs: SmallVec<[PaymentLeg; 1]>,
    /// Who published it.
    pub publisher: Option<CompactString>,
}

/// One movement of a payment; amounts are in minor units.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PaymentLeg {
    /// Pays.
    pub debit: AccountIx,
    /// Is paid.
    pub credit: AccountIx,
    /// Both accounts' currency.
    pub currency: Currency,
    /// What was asked for.
    pub amount: i64,
    /// What was posted.
    pub captured: i64,
    /// What has gone back.
    pub refunded: i64,
    /// What was taken back from outside.
    pub charged_back: i64,
}

impl PaymentLeg {
    /// What was posted and hasn't gone back.
    pub const fn kept(&self) -> i64 {
        self.captured - self.refunded - self.charged_back
    }
}

impl Payment {
    /// A task of which nothing is known yet but that it is there.
    pub(super) fn bare(id: Uuid, task_type: TaskType, version: i32) -> Self {
        Self {
            id,
            task_type,
            state: PaymentState::Settled,
            version,
            expires_at: None,
            deadline: None,
            listed: false,
            legs: SmallVec::new(),
            publisher: None,
        }
    }

    /// Whether it moves money, so that it can be captured, refunded and the like.
    pub const fn moves_money(&self) -> bool {
        matches!(self.task_type, TaskType::Transfer | TaskType::Authorize)
    }

    /// What is held for a leg: all that wasn't captured, while the payment is held.
    pub const fn held(&self, leg: &PaymentLeg) -> i64 {
        if self.state.is_held() { leg.amount - leg.captured } else { 0 }
    }

    /// Takes it to its next state: the amounts are those after `happening` already.
    pub(super) fn happen(&mut self, happening: Happening, cause: Option<Uuid>) -> Result<Transition, Rejection> {
        let Next::To(to) = next(self.state, happening) else {
            return Err(Rejection::AlreadyApplied);
        };
        let from = self.state;
        self.state = self.with_what_went_back(to);
        self.version += 1;
        if !self.state.is_held() {
            self.expires_at = None;
        }
        if !self.state.is_pending() {
            self.deadline = None;
        }
        Ok(Transition { payment: self.id, version: self.version, from, to: self.state, cause })
    }

    /// A payment that comes to `settled` and from which money has gone back before (while a part of
    /// it was still held, or before a chargeback was reversed) is on where that took it.
    fn with_what_went_back(&self, state: PaymentState) -> PaymentState {
        if state != PaymentState::Settled {
            return state;
        }
        let sum = |of: fn(&PaymentLeg) -> i64| self.legs.iter().map(of).sum::<i64>();
        let happened = match (sum(|leg| leg.charged_back), sum(|leg| leg.refunded), sum(PaymentLeg::kept)) {
            (1.., ..) => Happening::ChargeBack,
            (_, 1.., 0) => Happening::RefundRest,
            (_, 1.., _) => Happening::RefundPart,
            _ => return state,
        };
        match next(state, happened) {
            Next::To(state) => state,
            Next::Early(_) | Next::Never(_) => state,
        }
    }
}

/// `amount` in proportion to `left`, in whole minor units that sum to `amount` exactly, and of none
/// more than is left of it: each share is rounded down, and the units that remain go, one each, to
/// the shares that lost most by it; of equal ones to the first.
///
/// `amount` is at most the sum of `left`, and that isn't zero.
pub(super) fn in_proportion(amount: i64, left: &[i64]) -> SmallVec<[i64; 1]> {
    if let [_] = left {
        return SmallVec::from_slice(&[amount]);
    }
    let total: i128 = left.iter().copied().map(i128::from).sum();
    let exact = |left: i64| i128::from(amount) * i128::from(left);
    // No larger than `left`, which is 64 bits wide.
    let mut shares: SmallVec<[i64; 1]> =
        left.iter().map(|left| i64::try_from(exact(*left) / total).unwrap_or(*left)).collect();
    let mut by_loss: Vec<usize> = (0..left.len()).collect();
    by_loss.sort_by_key(|ix| std::cmp::Reverse(exact(left[*ix]) % total));
    let mut missing = amount - shares.iter().sum::<i64>();
    for ix in by_loss {
        if missing == 0 {
            break;
        }
        shares[ix] += 1;
        missing -= 1;
    }
    shares
}
