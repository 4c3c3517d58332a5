//! The state machine: one table, `(state, what happened) → state`.
//!
//! Every pair is listed. What isn't legal has the reason for which the task is rejected; what is
//! only too early waits for what has to come first, and has the reason that it gets when nothing
//! came.

mod diagram;

use PaymentState::{
    Authorized, Canceled, ChargedBack, Expired, Parked, PartiallyCaptured, PartiallyRefunded, Refunded, Rejected,
    Scheduled, Settled, Voided,
};

pub use self::diagram::diagram;
use crate::contract::{PaymentState, Rejection};

/// What can happen to a payment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Happening {
    /// It was applied, and moved what it was to move.
    Settle,
    /// It was applied, and holds what it was to hold.
    Authorize,
    /// It was declined.
    Reject,
    /// Its time has come, but not what it waits for.
    Park,
    /// It was called off.
    Cancel,
    /// A part of what is held was posted, the rest stays held.
    CapturePart,
    /// What is held was posted, and what wasn't is released.
    CaptureRest,
    /// What is held was released.
    Void,
    /// The hold ran out.
    Expire,
    /// A part of what was posted has gone back.
    RefundPart,
    /// All that was posted has gone back.
    RefundRest,
    /// Posted money was taken back from outside.
    ChargeBack,
    /// A part of what was charged back has come again.
    ReversePart,
    /// All that was charged back has come again.
    ReverseRest,
}

impl Happening {
    /// All of them, in the order of the table.
    pub const ALL: [Self; 14] = [
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

    /// In words.
    pub const fn name(self) -> &'static str {
        match self {
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

/// What the table says of a pair.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// It happens, and this is the state then.
    To(PaymentState),
    /// Too early: something else has to happen first. The reason, should it not.
    Early(Rejection),
    /// It can't happen any more.
    Never(Rejection),
}

/// The table.
pub const fn next(state: PaymentState, happening: Happening) -> Next {
    use Happening as H;
    use Next::{Early, Never, To};
    match (state, happening) {
        // What waits: for its time, or for another task.
        (Scheduled | Parked, H::Settle) => To(Settled),
        (Scheduled | Parked, H::Authorize) => To(Authorized),
        (Scheduled | Parked, H::Reject) => To(Rejected),
        (Scheduled | Parked, H::Park) => To(Parked),
        (Scheduled | Parked, H::Cancel) => To(Canceled),
        (
            Scheduled | Parked,
            H::CapturePart
            | H::CaptureRest
            | H::Void
            | H::Expire
            | H::RefundPart
            | H::RefundRest
            | H::ChargeBack
            | H::ReversePart
            | H::ReverseRest,
        ) => Early(Rejection::PaymentNotFound),

        // Held.
        (Authorized | PartiallyCaptured, H::CapturePart) => To(PartiallyCaptured),
        (Authorized | PartiallyCaptured, H::CaptureRest) => To(Settled),
        (Authorized, H::Void) => To(Voided),
        (Authorized, H::Expire) => To(Expired),
        // What was captured stays.
        (PartiallyCaptured, H::Void | H::Expire) => To(Settled),
        (Authorized, H::RefundPart | H::RefundRest | H::ChargeBack | H::ReversePart | H::ReverseRest) => {
            Early(Rejection::NotCaptured)
        }
        (PartiallyCaptured, H::RefundPart | H::RefundRest | H::ChargeBack | H::ReversePart | H::ReverseRest) => {
            To(PartiallyCaptured)
        }

        // Posted.
        (Settled | PartiallyRefunded, H::RefundPart) => To(PartiallyRefunded),
        (Settled | PartiallyRefunded, H::RefundRest) => To(Refunded),
        (Settled | PartiallyRefunded, H::ChargeBack) => To(ChargedBack),
        (ChargedBack, H::RefundPart | H::RefundRest | H::ChargeBack | H::ReversePart) => To(ChargedBack),
        (ChargedBack, H::ReverseRest) => To(Settled),
        (Settled | PartiallyRefunded, H::ReversePart | H::ReverseRest) => Early(Rejection::AmountExceedsRemaining),
        (Refunded, H::RefundPart | H::RefundRest | H::ChargeBack | H::ReversePart | H::ReverseRest) => {
            Never(Rejection::AmountExceedsRemaining)
        }
        (
            Settled | PartiallyRefunded | Refunded | ChargedBack,
            H::CapturePart | H::CaptureRest | H::Void | H::Expire,
        ) => Never(Rejection::AlreadyCaptured),

        // Over, with nothing posted.
        (
            Voided,
            H::CapturePart
            | H::CaptureRest
            | H::Void
            | H::Expire
            | H::RefundPart
            | H::RefundRest
            | H::ChargeBack
            | H::ReversePart
            | H::ReverseRest,
        ) => Never(Rejection::PaymentVoided),
        (
            Expired,
            H::CapturePart
            | H::CaptureRest
            | H::Void
            | H::Expire
            | H::RefundPart
            | H::RefundRest
            | H::ChargeBack
            | H::ReversePart
            | H::ReverseRest,
        ) => Never(Rejection::PaymentExpired),
        (
            Canceled,
            H::Cancel
            | H::CapturePart
            | H::CaptureRest
            | H::Void
            | H::Expire
            | H::RefundPart
            | H::RefundRest
            | H::ChargeBack
            | H::ReversePart
            | H::ReverseRest,
        ) => Never(Rejection::PaymentCanceled),
        (
            Rejected,
            H::Cancel
            | H::CapturePart
            | H::CaptureRest
            | H::Void
            | H::Expire
            | H::RefundPart
            | H::RefundRest
            | H::ChargeBack
            | H::ReversePart
            | H::ReverseRest,
        ) => Never(Rejection::PaymentRejected),

        // Applied once is applied for ever.
        (
            Authorized | PartiallyCaptured | Settled | PartiallyRefunded | Refunded | ChargedBack | Voided | Expired,
            H::Cancel,
        )
        | (
            Authorized | PartiallyCaptured | Settled | PartiallyRefunded | Refunded | ChargedBack | Voided | Expired
            | Canceled | Rejected,
            H::Settle | H::Authorize | H::Reject | H::Park,
        ) => Never(Rejection::AlreadyApplied),
    }
}

/// The states in which a task can be at first.
pub const FIRST: [PaymentState; 5] = [Scheduled, Parked, Authorized, Settled, Rejected];

/// Where a payment that the table takes to `settled` comes instead, because money has gone back
/// before: what would have happened had it been settled when the money went.
pub(super) const INSTEAD_OF_SETTLED: [(PaymentState, &[Happening], PaymentState); 4] = [
    // While the rest was held; of what is captured last, nothing can have gone back.
    (PartiallyCaptured, &[Happening::CaptureRest, Happening::Void, Happening::Expire], PartiallyRefunded),
    (PartiallyCaptured, &[Happening::Void, Happening::Expire], Refunded),
    (PartiallyCaptured, &[Happening::CaptureRest, Happening::Void, Happening::Expire], ChargedBack),
    // Before what was charged back has come again.
    (ChargedBack, &[Happening::ReverseRest], PartiallyRefunded),
];

/// All pairs of states that a stored transition can be between, the one that it leaves first, in
/// the order of a life. What stays parked has no transition; what stays in any other state has one,
/// because its amounts have changed.
pub fn transitions() -> Vec<(PaymentState, PaymentState)> {
    let of_table = PaymentState::ALL.into_iter().flat_map(|from| {
        Happening::ALL.into_iter().filter_map(move |happening| match next(from, happening) {
            Next::To(to) if !(from == Parked && to == Parked) => Some((from, to)),
            Next::To(_) | Next::Early(_) | Next::Never(_) => None,
        })
    });
    let mut all: Vec<_> = of_table.chain(INSTEAD_OF_SETTLED.map(|(from, _, to)| (from, to))).collect();
    all.sort_unstable();
    all.dedup();
    all
}
