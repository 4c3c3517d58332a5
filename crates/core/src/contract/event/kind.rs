//! The types of events.

use crate::contract::{PaymentState, TaskType};
use crate::named::named;

named! {
    /// The types of events; the name is the CloudEvents type and the routing key.
    EventKind {
        /// An account was opened.
        AccountOpened = "account.opened";
        /// An account was closed.
        AccountClosed = "account.closed";
        /// An account was frozen.
        AccountFrozen = "account.frozen";
        /// An account was unfrozen.
        AccountUnfrozen = "account.unfrozen";
        /// An account has other limits.
        AccountLimitsSet = "account.limits_set";
        /// A task about an account waits for its time.
        AccountScheduled = "account.scheduled";
        /// A task about an account waits for another task.
        AccountParked = "account.parked";
        /// An account was not opened or not changed.
        AccountRejected = "account.rejected";
        /// A payment was posted to the ledger.
        PaymentSettled = "payment.settled";
        /// Money is held.
        PaymentAuthorized = "payment.authorized";
        /// Held money was posted.
        PaymentCaptured = "payment.captured";
        /// A hold was released.
        PaymentVoided = "payment.voided";
        /// A hold ran out.
        PaymentExpired = "payment.expired";
        /// Money has gone back.
        PaymentRefunded = "payment.refunded";
        /// Money was taken back from outside.
        PaymentChargedBack = "payment.charged_back";
        /// A chargeback was taken back.
        PaymentChargebackReversed = "payment.chargeback_reversed";
        /// A task that waited was called off: a payment, or a task about an account.
        PaymentCanceled = "payment.canceled";
        /// A payment waits for its time.
        PaymentScheduled = "payment.scheduled";
        /// A payment waits for another task.
        PaymentParked = "payment.parked";
        /// A payment was declined.
        PaymentRejected = "payment.rejected";
        /// A message became a dead letter; told where `events.dead_letters` is set, and to who asked.
        TaskDeadLettered = "task.dead_lettered";
    }
}

impl EventKind {
    /// The event of a task that has come to this state.
    pub const fn of(task: TaskType, state: PaymentState) -> Self {
        match (state, task.is_about_an_account()) {
            (PaymentState::Rejected, true) => Self::AccountRejected,
            (PaymentState::Rejected, false) => Self::PaymentRejected,
            (PaymentState::Scheduled, true) => Self::AccountScheduled,
            (PaymentState::Scheduled, false) => Self::PaymentScheduled,
            (PaymentState::Parked, true) => Self::AccountParked,
            (PaymentState::Parked, false) => Self::PaymentParked,
            (PaymentState::Canceled, true | false) => Self::PaymentCanceled,
            (
                PaymentState::Authorized
                | PaymentState::PartiallyCaptured
                | PaymentState::Settled
                | PaymentState::PartiallyRefunded
                | PaymentState::Refunded
                | PaymentState::ChargedBack
                | PaymentState::Voided
                | PaymentState::Expired,
                true | false,
            ) => Self::applied(task),
        }
    }

    const fn applied(task: TaskType) -> Self {
        match task {
            TaskType::OpenAccount => Self::AccountOpened,
            TaskType::CloseAccount => Self::AccountClosed,
            TaskType::FreezeAccount => Self::AccountFrozen,
            TaskType::UnfreezeAccount => Self::AccountUnfrozen,
            TaskType::SetLimits => Self::AccountLimitsSet,
            TaskType::Transfer => Self::PaymentSettled,
            TaskType::Authorize => Self::PaymentAuthorized,
            TaskType::Capture => Self::PaymentCaptured,
            TaskType::Void => Self::PaymentVoided,
            TaskType::Refund => Self::PaymentRefunded,
            TaskType::Chargeback => Self::PaymentChargedBack,
            TaskType::ChargebackReversal => Self::PaymentChargebackReversed,
            TaskType::Cancel => Self::PaymentCanceled,
        }
    }
}
