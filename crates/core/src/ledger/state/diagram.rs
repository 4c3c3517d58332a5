//! The table as a diagram, for the documentation.

use std::fmt::Write as _;

use super::{FIRST, INSTEAD_OF_SETTLED, Next, Trigger, next, transitions};
use crate::contract::PaymentState;

/// Returns the state machine as a Mermaid `stateDiagram-v2`: states with their ISO 20022 status, one arrow for
/// each of [`transitions`] with its triggers, the first states and the last.
pub fn diagram() -> String {
    let mut lines = "stateDiagram-v2\n".to_owned();
    let mut line = |line: String| writeln!(lines, "    {line}").expect("a string takes all");
    for state in PaymentState::ALL {
        line(format!("state \"{} · {}\" as {}", state.name(), state.iso_status(), state.name()));
    }
    for state in FIRST {
        line(format!("[*] --> {}", state.name()));
    }
    for (from, to) in transitions() {
        line(format!("{} --> {}: {}", from.name(), to.name(), label(from, to)));
    }
    let leaves = |state| transitions().iter().any(|(from, _)| *from == state);
    for state in PaymentState::ALL.into_iter().filter(|state| !leaves(*state)) {
        line(format!("{} --> [*]", state.name()));
    }
    lines
}

fn label(from: PaymentState, to: PaymentState) -> String {
    let names = |happenings: &[Trigger]| happenings.iter().map(|what| what.name()).collect::<Vec<_>>().join(", ");
    match INSTEAD_OF_SETTLED.iter().find(|(state, _, instead)| (*state, *instead) == (from, to)) {
        Some((_, happenings, _)) => format!("{} after money went back", names(happenings)),
        None => {
            let leads_there = |what: &Trigger| next(from, *what) == Next::To(to);
            names(&Trigger::ALL.into_iter().filter(leads_there).collect::<Vec<_>>())
        }
    }
}
