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

use PaymentState::{
    Authorized, Canceled, ChargedBack, Expired, Parked, PartiallyCaptured, PartiallyRefunded, Refunded, Rejected,
    Scheduled, Settled, Voided,
};

pub use self::diagram::diagram;
pub use self::stage::Stage;
use crate::contract::{PaymentState, Rejection};

/// What can happen to a payment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Trigger {
    /// The task waits for its `execute_at`.
    Schedule,
    /// The task was applied: its money has moved, its account is open or changed.
    Settle,
    /// The task was applied: its money is held.
    Authorize,
    /// The task was declined.
    Reject,
    /// The task waits for another task.
    Park,
    /// The task was canceled before it was applied.
    Cancel,
    /// A part of the held money was posted, the rest stays held.
    CapturePart,
    /// Held money was posted for the last time, the rest is released.
    CaptureRest,
    /// The held money was released.
    Void,
    /// The hold has run out.
    Expire,
    /// A part of the posted money was refunded.
    RefundPart,
    /// The rest of the posted money was refunded.
    RefundRest,
    /// Posted money was charged back.
    ChargeBack,
    /// A part of the chargebacks was reversed.
    ReversePart,
    /// The rest of the chargebacks was reversed.
    ReverseRest,
}

impl Trigger {
    /// All triggers, in the order of the table.
    pub const ALL: [Self; 15] = [
        Self::Schedule,
        Self::Settle,
        Self::Authorize,
        Self::Reject,
        Self::Park,
        Self::Cancel,
        Self::CapturePart,
        Self::CaptureRest,
        Self::Void,
        Self::Expire,
        Self::RefundPart,
        Self::RefundRest,
        Self::ChargeBack,
        Self::ReversePart,
        Self::ReverseRest,
    ];

    /// The words on the arrows of the diagram.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Schedule => "schedule",
            Self::Settle => "settle",
            Self::Authorize => "authorize",
            Self::Reject => "reject",
            Self::Park => "park",
            Self::Cancel => "cancel",
            Self::CapturePart => "capture a part",
            Self::CaptureRest => "capture the rest",
            Self::Void => "void",
            Self::Expire => "expire",
            Self::RefundPart => "refund a part",
            Self::RefundRest => "refund the rest",
            Self::ChargeBack => "charge back",
            Self::ReversePart => "reverse a part",
            Self::ReverseRest => "reverse the rest",
        }
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

/// The table.
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
    use Next::{Early, Never, To};
    use Trigger as H;
    match trigger {
        H::Schedule if matches!(state, Parked) => Never(Rejection::AlreadyApplied),
        H::Schedule => To(Scheduled),
        H::Settle => To(Settled),
        H::Authorize => To(Authorized),
        H::Reject => To(Rejected),
        H::Park => To(Parked),
        H::Cancel => To(Canceled),
        H::CapturePart
        | H::CaptureRest
        | H::Void
        | H::Expire
        | H::RefundPart
        | H::RefundRest
        | H::ChargeBack
        | H::ReversePart
        | H::ReverseRest => Early(Rejection::PaymentNotFound),
    }
}

/// The rows of a payment that holds money. What was captured stays.
const fn of_held(state: PaymentState, trigger: Trigger) -> Next {
    use Next::{Early, Never, To};
    use Trigger as H;
    let is_captured = matches!(state, PartiallyCaptured);
    match trigger {
        H::CapturePart => To(PartiallyCaptured),
        H::CaptureRest => To(Settled),
        H::Void => To(if is_captured { Settled } else { Voided }),
        H::Expire => To(if is_captured { Settled } else { Expired }),
        H::RefundPart | H::RefundRest | H::ChargeBack | H::ReversePart | H::ReverseRest if is_captured => {
            To(PartiallyCaptured)
        }
        H::RefundPart | H::RefundRest | H::ChargeBack | H::ReversePart | H::ReverseRest => {
            Early(Rejection::NotCaptured)
        }
        H::Schedule | H::Settle | H::Authorize | H::Reject | H::Park | H::Cancel => Never(Rejection::AlreadyApplied),
    }
}

/// The rows of a payment that is posted.
const fn of_posted(state: PaymentState, trigger: Trigger) -> Next {
    use Next::{Early, Never, To};
    use Trigger as H;
    let (is_refunded, is_charged_back) = (matches!(state, Refunded), matches!(state, ChargedBack));
    match trigger {
        H::RefundPart | H::RefundRest | H::ChargeBack | H::ReversePart | H::ReverseRest if is_refunded => {
            Never(Rejection::AmountExceedsRemaining)
        }
        H::RefundPart | H::RefundRest | H::ChargeBack | H::ReversePart if is_charged_back => To(ChargedBack),
        H::ReverseRest if is_charged_back => To(Settled),
        H::RefundPart => To(PartiallyRefunded),
        H::RefundRest => To(Refunded),
        H::ChargeBack => To(ChargedBack),
        H::ReversePart | H::ReverseRest => Early(Rejection::AmountExceedsRemaining),
        H::CapturePart | H::CaptureRest | H::Void | H::Expire => Never(Rejection::AlreadyCaptured),
        H::Schedule | H::Settle | H::Authorize | H::Reject | H::Park | H::Cancel => Never(Rejection::AlreadyApplied),
    }
}

/// The rows of a payment that has ended with nothing posted: `ended` is the rejection of what would move its money,
/// `cancel` that of a cancellation.
const fn of_ended(trigger: Trigger, ended: Rejection, cancel: Rejection) -> Next {
    use Next::Never;
    use Trigger as H;
    match trigger {
        H::CapturePart
        | H::CaptureRest
        | H::Void
        | H::Expire
        | H::RefundPart
        | H::RefundRest
        | H::ChargeBack
        | H::ReversePart
        | H::ReverseRest => Never(ended),
        H::Cancel => Never(cancel),
        H::Schedule | H::Settle | H::Authorize | H::Reject | H::Park => Never(Rejection::AlreadyApplied),
    }
}

/// The table's row for a task that has no state yet. `None` for what can only happen to a payment that exists.
const fn first(trigger: Trigger) -> Option<PaymentState> {
    use Trigger as H;
    match trigger {
        H::Schedule => Some(Scheduled),
        H::Park => Some(Parked),
        H::Authorize => Some(Authorized),
        H::Settle => Some(Settled),
        H::Reject => Some(Rejected),
        H::Cancel
        | H::CapturePart
        | H::CaptureRest
        | H::Void
        | H::Expire
        | H::RefundPart
        | H::RefundRest
        | H::ChargeBack
        | H::ReversePart
        | H::ReverseRest => None,
    }
}

/// The states that a task can have first.
pub const FIRST: [PaymentState; 5] = [Scheduled, Parked, Authorized, Settled, Rejected];

/// What [`Stage::next`] makes of `settled` for a payment from which money has gone back: the state before, the
/// triggers, the state instead of `settled`.
const INSTEAD_OF_SETTLED: [(PaymentState, &[Trigger], PaymentState); 4] = [
    // Money went back while the rest was held. Of what is captured last, nothing can have gone back.
    (PartiallyCaptured, &[Trigger::CaptureRest, Trigger::Void, Trigger::Expire], PartiallyRefunded),
    (PartiallyCaptured, &[Trigger::Void, Trigger::Expire], Refunded),
    (PartiallyCaptured, &[Trigger::CaptureRest, Trigger::Void, Trigger::Expire], ChargedBack),
    // Money was refunded before the chargeback was reversed.
    (ChargedBack, &[Trigger::ReverseRest], PartiallyRefunded),
];

/// All pairs of states that a stored transition can have: the state that it leaves, the state that it comes to,
/// in the order of a life. A task that goes on waiting has no transition. A payment that keeps any other state
/// has one, because its amounts have changed.
pub fn transitions() -> Vec<(PaymentState, PaymentState)> {
    let of_table = PaymentState::ALL.into_iter().flat_map(|from| {
        Trigger::ALL.into_iter().filter_map(move |trigger| match next(from, trigger) {
            Next::To(to) if !(from.is_pending() && to == from) => Some((from, to)),
            Next::To(_) | Next::Early(_) | Next::Never(_) => None,
        })
    });
    let mut all: Vec<_> = of_table.chain(INSTEAD_OF_SETTLED.map(|(from, _, to)| (from, to))).collect();
    all.sort_unstable();
    all.dedup();
    all
}
