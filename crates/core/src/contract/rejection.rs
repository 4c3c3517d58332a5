//! Why a payment was rejected: an outcome with a stable name and its ISO 20022 code.

use serde::Serialize;

/// A decline. Committed, published and pinned to the task's id like any other outcome.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub enum Rejection {
    /// The debit or the hold would take what is available of the account below its `min_balance`.
    InsufficientFunds,
    /// An account that no task has opened.
    AccountNotFound,
    /// `open_account` for an account that is open already.
    AccountExists,
    /// A closed account takes part in nothing.
    AccountClosed,
    /// A frozen account takes no debits, holds or captures, and isn't frozen again.
    AccountFrozen,
    /// The payment's currency is not the account's.
    CurrencyMismatch,
    /// `open_account` in a currency that ISO 4217 does not list as active, and the operator has not added.
    UnknownCurrency,
    /// An amount outside 1 … 10^15, a limit outside -10^18 … 10^18 (of `open_account`: … 0), or a
    /// `min_balance` above the `max_balance`.
    AmountOutOfRange,
    /// The balance would pass the account's `max_balance`, or ±10^18.
    LimitExceeded,
    /// Debit and credit account are the same.
    SameAccount,
    /// No payment with this `payment_id` came before the deadline, or what came isn't one that
    /// can be acted on in this way.
    PaymentNotFound,
    /// The payment was declined.
    PaymentRejected,
    /// The payment was called off.
    PaymentCanceled,
    /// The hold was released.
    PaymentVoided,
    /// The hold ran out.
    PaymentExpired,
    /// The money was posted already: there is no hold to capture or void.
    AlreadyCaptured,
    /// Nothing was captured before the deadline: there is nothing to move back.
    NotCaptured,
    /// More than is left to capture, to refund, to charge back or to reverse.
    AmountExceedsRemaining,
    /// The payment has been applied: too late to cancel it.
    AlreadyApplied,
    /// The payment has no such leg.
    LegNotFound,
    /// The legs have several currencies: an amount has to name its leg.
    LegRequired,
    /// The task named in `after` was declined or canceled.
    DependencyFailed,
    /// The task named in `after` had no outcome before the deadline.
    DependencyNotFound,
    /// Only an account with a balance of zero and nothing held can be closed.
    AccountNotEmpty,
    /// `unfreeze_account` for an account that isn't frozen.
    AccountNotFrozen,
    /// `expires_in` is longer than the operator lets a hold last.
    ExpiryOutOfRange,
    /// The publisher may not act on a payment between these accounts.
    Forbidden,
}

impl Rejection {
    /// All of them, in the order in which they are documented.
    pub const ALL: [Self; 27] = [
        Self::InsufficientFunds,
        Self::AccountNotFound,
        Self::AccountExists,
        Self::AccountClosed,
        Self::AccountFrozen,
        Self::CurrencyMismatch,
        Self::UnknownCurrency,
        Self::AmountOutOfRange,
        Self::LimitExceeded,
        Self::SameAccount,
        Self::PaymentNotFound,
        Self::PaymentRejected,
        Self::PaymentCanceled,
        Self::PaymentVoided,
        Self::PaymentExpired,
        Self::AlreadyCaptured,
        Self::NotCaptured,
        Self::AmountExceedsRemaining,
        Self::AlreadyApplied,
        Self::LegNotFound,
        Self::LegRequired,
        Self::DependencyFailed,
        Self::DependencyNotFound,
        Self::AccountNotEmpty,
        Self::AccountNotFrozen,
        Self::ExpiryOutOfRange,
        Self::Forbidden,
    ];

    /// The stable name, as it is stored and published.
    pub const fn name(self) -> &'static str {
        self.row().0
    }

    /// The ISO 20022 external status reason code.
    pub const fn iso_code(self) -> &'static str {
        self.row().1
    }

    /// The rejection of that name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|rejection| rejection.name() == name)
    }

    /// Whether a credit to an account (or its opening, or a change of it) could turn the decline into
    /// an acceptance, so that it is final only once nothing that arrived earlier can bring one.
    pub const fn depends_on_earlier_tasks(self) -> bool {
        matches!(self, Self::InsufficientFunds | Self::AccountNotFound | Self::AccountFrozen | Self::LimitExceeded)
    }

    const fn row(self) -> (&'static str, &'static str) {
        match self {
            Self::InsufficientFunds => ("insufficient_funds", "AM04"),
            Self::AccountNotFound => ("account_not_found", "AC01"),
            Self::AccountExists => ("account_exists", "AM05"),
            Self::AccountClosed => ("account_closed", "AC04"),
            Self::AccountFrozen => ("account_frozen", "AC06"),
            Self::CurrencyMismatch => ("currency_mismatch", "AM03"),
            Self::UnknownCurrency => ("unknown_currency", "AM11"),
            Self::AmountOutOfRange => ("amount_out_of_range", "AM12"),
            Self::LimitExceeded => ("limit_exceeded", "AM14"),
            Self::SameAccount => ("same_account", "AG01"),
            Self::PaymentNotFound => ("payment_not_found", "NOOR"),
            Self::PaymentRejected => ("payment_rejected", "NOOR"),
            Self::PaymentCanceled => ("payment_canceled", "CUST"),
            Self::PaymentVoided => ("payment_voided", "CUST"),
            Self::PaymentExpired => ("payment_expired", "AB03"),
            Self::AlreadyCaptured => ("already_captured", "AM05"),
            Self::NotCaptured => ("not_captured", "NOOR"),
            Self::AmountExceedsRemaining => ("amount_exceeds_remaining", "AM09"),
            Self::AlreadyApplied => ("already_applied", "ARDT"),
            Self::LegNotFound => ("leg_not_found", "NOOR"),
            Self::LegRequired => ("leg_required", "AM03"),
            Self::DependencyFailed => ("dependency_failed", "ED05"),
            Self::DependencyNotFound => ("dependency_not_found", "NOOR"),
            Self::AccountNotEmpty => ("account_not_empty", "AG01"),
            Self::AccountNotFrozen => ("account_not_frozen", "AG01"),
            Self::ExpiryOutOfRange => ("expiry_out_of_range", "DT01"),
            Self::Forbidden => ("forbidden", "DS0H"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_rejection_is_found_by_its_name_and_serialises_as_it() {
        for rejection in Rejection::ALL {
            assert_eq!(Rejection::from_name(rejection.name()), Some(rejection));
            let json = serde_json::to_value(rejection).expect("a string");
            assert_eq!(json, rejection.name());
        }
    }
}
