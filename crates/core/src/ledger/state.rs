//! The state machine of a payment: the table `(state, trigger) -> state`, and [`Stage`], which only the table
//! changes.
//!
//! Invariant: the table lists every pair, without a wildcard. For a pair that is not legal it has the rejection
//! that the task gets. For a pair that is legal only later it has the rejection that the task gets if it has
//! waited in vain.
//!
//! Must never know: amounts, accounts, what a task says.

mod diagram;
mod stage;

use Next::{Early, Never, To};
use PaymentState::{
    Authorized, Canceled, ChargedBack, Expired, Parked, PartiallyCaptured, PartiallyRefunded, Refunded, Rejected,
    Scheduled, Settled, Voided,
};
use Trigger::{
    Authorize, Cancel, CapturePart, CaptureRest, ChargeBack, Expire, Park, RefundPart, RefundRest, Reject, ReversePart,
    ReverseRest, Schedule, Settle, Void,
};

pub use self::diagram::diagram;
pub use self::stage::Stage;
use crate::contract::{PaymentState, Rejection};
use crate::named::named;

named! {
    /// What can happen to a payment, in the order of the table. The names are the words on the arrows of the diagram.
    Trigger {
        /// The task waits for its `execute_at`.
        Schedule = "schedule";
        /// The task was applied: its money has moved, its account is open or changed.
        Settle = "settle";
        /// The task was applied: its money is held.
        Authorize = "authorize";
        /// The task was declined.
        Reject = "reject";
        /// The task waits for another task.
        Park = "park";
        /// The task was canceled before it was applied.
        Cancel = "cancel";
        /// A part of the held money was posted, the rest stays held.
        CapturePart = "capture a part";
        /// Held money was posted for the last time, the rest is released.
        CaptureRest = "capture the rest";
        /// The held money was released.
        Void = "void";
        /// The hold has run out.
        Expire = "expire";
        /// A part of the posted money was refunded.
        RefundPart = "refund a part";
        /// The rest of the posted money was refunded.
        RefundRest = "refund the rest";
        /// Posted money was charged back.
        ChargeBack = "charge back";
        /// A part of the chargebacks was reversed.
        ReversePart = "reverse a part";
        /// The rest of the chargebacks was reversed.
        ReverseRest = "reverse the rest";
    }
}

/// What the table has for a pair.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// It is legal, and leads to this state.
    To(PaymentState),
    /// It is too early: something else has to happen first. If that never happens, this is the rejection.
    Early(Rejection),
    /// It is not legal any more, and never will be.
    Never(Rejection),
}

/// Returns what the table has for a trigger in this state.
pub const fn next(state: PaymentState, trigger: Trigger) -> Next {
    match state {
        Scheduled | Parked => of_waiting(state, trigger),
        Authorized | PartiallyCaptured => of_held(state, trigger),
        Settled | PartiallyRefunded | Refunded | ChargedBack => of_posted(state, trigger),
        Voided => of_ended(trigger, Rejection::PaymentVoided, Rejection::AlreadyApplied),
        Expired => of_ended(trigger, Rejection::PaymentExpired, Rejection::AlreadyApplied),
        Canceled => of_ended(trigger, Rejection::PaymentCanceled, Rejection::PaymentCanceled),
        Rejected => of_ended(trigger, Rejection::PaymentRejected, Rejection::PaymentRejected),
    }
}

/// The rows of a task that waits. It can't be scheduled once its time has come.
const fn of_waiting(state: PaymentState, trigger: Trigger) -> Next {
    match trigger {
        Schedule if matches!(state, Parked) => Never(Rejection::AlreadyApplied),
        Schedule => To(Scheduled),
        Settle => To(Settled),
        Authorize => To(Authorized),
        Reject => To(Rejected),
        Park => To(Parked),
        Cancel => To(Canceled),
        CapturePart | CaptureRest | Void | Expire | RefundPart | RefundRest | ChargeBack | ReversePart
        | ReverseRest => Early(Rejection::PaymentNotFound),
    }
}

/// The rows of a payment that holds money. What was captured stays.
const fn of_held(state: PaymentState, trigger: Trigger) -> Next {
    let is_captured = matches!(state, PartiallyCaptured);
    match trigger {
        CapturePart => To(PartiallyCaptured),
        CaptureRest => To(Settled),
        Void => To(if is_captured { Settled } else { Voided }),
        Expire => To(if is_captured { Settled } else { Expired }),
        RefundPart | RefundRest | ChargeBack | ReversePart | ReverseRest if is_captured => To(PartiallyCaptured),
        RefundPart | RefundRest | ChargeBack | ReversePart | ReverseRest => Early(Rejection::NotCaptured),
        Schedule | Settle | Authorize | Reject | Park | Cancel => Never(Rejection::AlreadyApplied),
    }
}

/// The rows of a payment that is posted.
const fn of_posted(state: PaymentState, trigger: Trigger) -> Next {
    let (is_refunded, is_charged_back) = (matches!(state, Refunded), matches!(state, ChargedBack));
    match trigger {
        RefundPart | RefundRest | ChargeBack | ReversePart | ReverseRest if is_refunded => {
            Never(Rejection::AmountExceedsRemaining)
        }
        RefundPart | RefundRest | ChargeBack | ReversePart if is_charged_back => To(ChargedBack),
        ReverseRest if is_charged_back => To(Settled),
        RefundPart => To(PartiallyRefunded),
        RefundRest => To(Refunded),
        ChargeBack => To(ChargedBack),
        ReversePart | ReverseRest => Early(Rejection::AmountExceedsRemaining),
        CapturePart | CaptureRest | Void | Expire => Never(Rejection::AlreadyCaptured),
        Schedule | Settle | Authorize | Reject | Park | Cancel => Never(Rejection::AlreadyApplied),
    }
}

/// The rows of a payment that has ended with nothing posted: `ended` is the rejection of what would move its money,
/// `cancel` that of a cancellation.
const fn of_ended(trigger: Trigger, ended: Rejection, cancel: Rejection) -> Next {
    match trigger {
        CapturePart | CaptureRest | Void | Expire | RefundPart | RefundRest | ChargeBack | ReversePart
        | ReverseRest => Never(ended),
        Cancel => Never(cancel),
        Schedule | Settle | Authorize | Reject | Park => Never(Rejection::AlreadyApplied),
    }
}

/// The table's row for a task that has no state yet: that of one whose time has come, but nothing is there to cancel.
/// `None` for what can only happen to a payment that exists.
const fn first(trigger: Trigger) -> Option<PaymentState> {
    match of_waiting(Scheduled, trigger) {
        To(Canceled) | Early(_) | Never(_) => None,
        To(state) => Some(state),
    }
}

/// The states that a task can have first.
pub const FIRST: [PaymentState; 5] = [Scheduled, Parked, Authorized, Settled, Rejected];

/// What [`Stage::next`] makes of `settled` for a payment from which money has gone back: the state before, the
/// triggers, the state instead of `settled`.
const INSTEAD_OF_SETTLED: [(PaymentState, &[Trigger], PaymentState); 4] = [
    // Money went back while the rest was held. Of what is captured last, nothing can have gone back.
    (PartiallyCaptured, &[CaptureRest, Void, Expire], PartiallyRefunded),
    (PartiallyCaptured, &[Void, Expire], Refunded),
    (PartiallyCaptured, &[CaptureRest, Void, Expire], ChargedBack),
    // Money was refunded before the chargeback was reversed.
    (ChargedBack, &[ReverseRest], PartiallyRefunded),
];

/// All pairs of states that a stored transition can have: the state that it leaves, the state that it comes to,
/// in the order of a life. A task that goes on waiting has no transition. A payment that keeps any other state
/// has one, because its amounts have changed.
pub fn transitions() -> Vec<(PaymentState, PaymentState)> {
    let of_table = PaymentState::ALL.into_iter().flat_map(|from| {
        Trigger::ALL.into_iter().filter_map(move |trigger| match next(from, trigger) {
            To(to) if !(from.is_pending() && to == from) => Some((from, to)),
            To(_) | Early(_) | Never(_) => None,
        })
    });
    let mut all: Vec<_> = of_table.chain(INSTEAD_OF_SETTLED.map(|(from, _, to)| (from, to))).collect();
    all.sort_unstable();
    all.dedup();
    all
}
