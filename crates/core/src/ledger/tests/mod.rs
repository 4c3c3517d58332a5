//! What the ledger decides, by behaviour.

mod accounts;
mod against_model;
mod authority;
mod captures;
mod legs;
mod precedence;
mod refunds;
mod setting_aside;
mod table;
mod tasks;
mod timing;
mod transfers;
mod world;

use jiff::SignedDuration;
use uuid::Uuid;

use self::tasks::*;
use self::world::{EARLIER, Earlier, World};
use super::state::Stage;
use super::*;
use crate::contract::{PaymentState, Rejection, Task};

fn rejected(reason: Rejection) -> Outcome {
    Outcome::Rejected(reason)
}

fn is_settled(outcome: &Outcome) -> bool {
    state_of(outcome) == Some(PaymentState::Settled)
}

/// The state to which the outcome of a new task takes it.
fn state_of(outcome: &Outcome) -> Option<PaymentState> {
    Some(Stage::first(outcome.trigger()?).expect("a task has a first state").state())
}

/// What was done; for outcomes that are more than a plain transfer.
fn acted(outcome: &Outcome) -> &Acted {
    match outcome {
        Outcome::Acted(acted) => acted,
        other => panic!("expected something done, found {other:?}"),
    }
}

/// The state of the payment that the clock has ended.
fn ended(acted: &Acted) -> PaymentState {
    acted.payment.as_ref().expect("a payment").state()
}
