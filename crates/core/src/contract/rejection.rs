//! Why a payment was rejected: an outcome with a stable name and its ISO 20022 code.

use crate::named::named;

named! {
    /// A decline. Committed, published and pinned to the task's id like any other outcome.
    Rejection, #[doc = "Returns the ISO 20022 external status reason code."] iso_code {
        /// The debit or the hold would take what is available of the account below its `min_balance`.
        InsufficientFunds = "insufficient_funds", "AM04";
        /// An account that no task has opened.
        AccountNotFound = "account_not_found", "AC01";
        /// `open_account` for an account that is open already.
        AccountExists = "account_exists", "AM05";
        /// A closed account takes part in nothing.
        AccountClosed = "account_closed", "AC04";
        /// A frozen account takes no debits, holds or captures, and isn't frozen again.
        AccountFrozen = "account_frozen", "AC06";
        /// The payment's currency is not the account's.
        CurrencyMismatch = "currency_mismatch", "AM03";
        /// `open_account` in a currency that ISO 4217 does not list as active, and the operator has not added.
        UnknownCurrency = "unknown_currency", "AM11";
        /// An amount outside 1 … 10^15, a limit outside -10^18 … 10^18 (of `open_account`: … 0), or a
        /// `min_balance` above the `max_balance`.
        AmountOutOfRange = "amount_out_of_range", "AM12";
        /// The balance would pass the account's `max_balance`, or ±10^18.
        LimitExceeded = "limit_exceeded", "AM14";
        /// Debit and credit account are the same.
        SameAccount = "same_account", "AG01";
        /// No payment with this `payment_id` came before the deadline, or what came isn't one that
        /// can be acted on in this way.
        PaymentNotFound = "payment_not_found", "NOOR";
        /// The payment was declined.
        PaymentRejected = "payment_rejected", "NOOR";
        /// The payment was called off.
        PaymentCanceled = "payment_canceled", "CUST";
        /// The hold was released.
        PaymentVoided = "payment_voided", "CUST";
        /// The hold ran out.
        PaymentExpired = "payment_expired", "AB03";
        /// The money was posted already: there is no hold to capture or void.
        AlreadyCaptured = "already_captured", "AM05";
        /// Nothing was captured before the deadline: there is nothing to move back.
        NotCaptured = "not_captured", "NOOR";
        /// More than is left to capture, to refund, to charge back or to reverse.
        AmountExceedsRemaining = "amount_exceeds_remaining", "AM09";
        /// The payment has been applied: too late to cancel it.
        AlreadyApplied = "already_applied", "ARDT";
        /// The payment has no such leg.
        LegNotFound = "leg_not_found", "NOOR";
        /// The legs have several currencies: an amount has to name its leg.
        LegRequired = "leg_required", "AM03";
        /// The task named in `after` was declined or canceled.
        DependencyFailed = "dependency_failed", "ED05";
        /// The task named in `after` had no outcome before the deadline.
        DependencyNotFound = "dependency_not_found", "NOOR";
        /// Only an account with a balance of zero and nothing held can be closed.
        AccountNotEmpty = "account_not_empty", "AG01";
        /// `unfreeze_account` for an account that isn't frozen.
        AccountNotFrozen = "account_not_frozen", "AG01";
        /// `expires_in` is longer than the operator lets a hold last.
        ExpiryOutOfRange = "expiry_out_of_range", "DT01";
        /// The publisher may not act on a payment between these accounts.
        Forbidden = "forbidden", "DS0H";
    }
}

impl Rejection {
    /// Whether a credit to an account (or its opening, or a change of it) could turn the decline into
    /// an acceptance, so that it is final only once nothing that arrived earlier can bring one.
    pub const fn depends_on_earlier_tasks(self) -> bool {
        matches!(self, Self::InsufficientFunds | Self::AccountNotFound | Self::AccountFrozen | Self::LimitExceeded)
    }
}
