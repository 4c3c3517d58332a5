//! What the ledger decides, by behaviour.

mod accounts;
mod against_model;
mod authority;
mod captures;
mod legs;
mod precedence;
mod properties;
mod refunds;
mod setting_aside;
mod table;
mod tasks;
mod timing;
mod transfers;
mod world;

use self::tasks::*;
use self::world::{EARLIER, Earlier, World};
use super::*;
use crate::contract::{PaymentState, Rejection, Task};

fn rejected(reason: Rejection) -> Outcome {
    Outcome::Rejected(reason)
}

fn is_settled(outcome: &Outcome) -> bool {
    outcome.state() == Some(PaymentState::Settled)
}

/// What was done; for outcomes that are more than a plain transfer.
fn acted(outcome: &Outcome) -> &Acted {
    match outcome {
        Outcome::Acted(acted) => acted,
        other => panic!("expected something done, found {other:?}"),
    }
}
