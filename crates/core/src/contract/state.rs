//! The states of a payment.

use crate::named::named;

named! {
    /// Where a task, and the payment that it is, stands.
    #[derive(PartialOrd, Ord)]
    PaymentState, #[doc = "Returns the ISO 20022 external payment transaction status code."] iso_status {
        /// Waits for its `execute_at`.
        Scheduled = "scheduled", "PDNG";
        /// Waits for the payment it acts on, or for the task it comes after.
        Parked = "parked", "RCVD";
        /// The money is held.
        Authorized = "authorized", "ACFC";
        /// A part was posted, the rest is held.
        PartiallyCaptured = "partially_captured", "ACSP";
        /// Done: what was to be posted is posted, and nothing is held.
        Settled = "settled", "ACSC";
        /// A part of what was posted has gone back.
        PartiallyRefunded = "partially_refunded", "ACSC";
        /// All that was posted has gone back.
        Refunded = "refunded", "ACSC";
        /// Some of what was posted was taken back from outside.
        ChargedBack = "charged_back", "ACSC";
        /// The hold was released, nothing was posted.
        Voided = "voided", "CANC";
        /// The hold ran out, nothing was posted.
        Expired = "expired", "CANC";
        /// It was called off before it was applied.
        Canceled = "canceled", "CANC";
        /// Declined.
        Rejected = "rejected", "RJCT";
    }
}

impl PaymentState {
    /// Not applied yet, and not declined.
    pub const fn is_pending(self) -> bool {
        matches!(self, Self::Scheduled | Self::Parked)
    }

    /// Money is held.
    pub const fn is_held(self) -> bool {
        matches!(self, Self::Authorized | Self::PartiallyCaptured)
    }

    /// It will not happen: whoever comes after it will not either.
    pub const fn is_failed(self) -> bool {
        matches!(self, Self::Rejected | Self::Canceled)
    }
}
