//! The states of a payment.

use serde::Serialize;

/// Declares the states with their names and their ISO 20022 status.
macro_rules! states {
    ($($(#[$doc:meta])* $variant:ident = $name:literal, $iso:literal);+ $(;)?) => {
        /// Where a task, and the payment that it is, stands.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
        #[serde(rename_all = "snake_case")]
        #[cfg_attr(test, derive(schemars::JsonSchema))]
        pub enum PaymentState {
            $($(#[$doc])* $variant),+
        }

        impl PaymentState {
            /// All of them, in the order of a life.
            pub const ALL: [Self; [$($name),+].len()] = [$(Self::$variant),+];

            /// The name in the contract and in the database.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name),+
                }
            }

            /// The ISO 20022 external payment transaction status code.
            pub const fn iso_status(self) -> &'static str {
                match self {
                    $(Self::$variant => $iso),+
                }
            }
        }
    };
}

states! {
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

impl PaymentState {
    /// The state of that name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.name() == name)
    }

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_state_is_found_by_its_name_and_serialises_as_it() {
        for state in PaymentState::ALL {
            assert_eq!(PaymentState::from_name(state.name()), Some(state));
            assert_eq!(serde_json::to_value(state).expect("a string"), state.name());
        }
    }
}
