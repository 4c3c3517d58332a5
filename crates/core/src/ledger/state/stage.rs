//! A payment's place in the state machine.
//!
//! Invariant: the fields are private to this file, so a state that the ledger writes has come out of the table.

use super::{Next, Trigger, first, next};
use crate::contract::{PaymentState, Rejection};

/// A payment's state, and the number of states that it has had.
///
/// A state changes by `Stage::first` and `Stage::next`, which ask the table, and by nothing else.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stage {
    state: PaymentState,
    version: i32,
}

impl Stage {
    /// The stage of a payment that is stored. For the store, which reads it back; the ledger never calls this.
    pub const fn stored(state: PaymentState, version: i32) -> Self {
        Self { state, version }
    }

    /// Returns the payment's state.
    pub const fn state(self) -> PaymentState {
        self.state
    }

    /// The number of states that the payment has had: 1 for the first.
    pub const fn version(self) -> i32 {
        self.version
    }

    /// The first stage of a task. `None` if `trigger` can't come first.
    pub(in crate::ledger) fn first(trigger: Trigger) -> Option<Self> {
        first(trigger).map(|state| Self { state, version: 1 })
    }

    /// The stage after `trigger`. A task that goes on waiting as it did keeps its stage.
    ///
    /// `went_back` is what has happened to money that was posted and has gone back. A payment that comes to
    /// `settled` is then in the state to which that would have taken it, had it been settled at the time.
    ///
    /// # Errors
    ///
    /// The table's rejection, if `trigger` isn't legal in this state.
    pub(in crate::ledger) fn next(self, trigger: Trigger, went_back: Option<Trigger>) -> Result<Self, Rejection> {
        let to = match next(self.state, trigger) {
            Next::To(to) => to,
            Next::Early(reason) | Next::Never(reason) => return Err(reason),
        };
        let to = match went_back
            .filter(|_| to == PaymentState::Settled)
            .map(|went_back| next(PaymentState::Settled, went_back))
        {
            Some(Next::To(instead)) => instead,
            Some(Next::Early(_) | Next::Never(_)) | None => to,
        };
        let keeps_waiting = to == self.state && to.is_pending();
        Ok(Self { state: to, version: if keeps_waiting { self.version } else { self.version + 1 } })
    }
}
