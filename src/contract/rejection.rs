//! Why a payment was rejected: an outcome with a stable name and its ISO 20022 code.

use serde::Serialize;

/// A decline. Committed, published and pinned to the task's id like any other outcome.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub enum Rejection {
    /// The debit would take the account below its `min_balance`.
    InsufficientFunds,
    /// An account that no task has opened.
    AccountNotFound,
    /// `open_account` for an account that is open already.
    AccountExists,
    /// A closed account takes part in nothing.
    AccountClosed,
    /// A frozen account takes no debits.
    AccountFrozen,
    /// The payment's currency is not the account's.
    CurrencyMismatch,
    /// ISO 4217 doesn't list the currency.
    UnknownCurrency,
    /// An amount outside 1 … 10^15, or a `min_balance` outside -10^18 … 0.
    AmountOutOfRange,
    /// The balance would pass ±10^18.
    LimitExceeded,
    /// Debit and credit account are the same.
    SameAccount,
}

impl Rejection {
    /// All of them, in the order in which they are documented.
    pub const ALL: [Self; 10] = [
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

    /// Whether a credit to (or the opening of) an account could turn the decline into an
    /// acceptance, so that it is final only once nothing that arrived earlier can bring one.
    pub const fn depends_on_earlier_tasks(self) -> bool {
        matches!(self, Self::InsufficientFunds | Self::AccountNotFound)
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
