//! The state machine's table.

use std::collections::BTreeSet;

use super::*;
use crate::ledger::state::{FIRST, Happening, Next, diagram, next, transitions};

use PaymentState::{
    Authorized, Canceled, ChargedBack, Expired, Parked, PartiallyCaptured, PartiallyRefunded, Refunded, Scheduled,
    Settled, Voided,
};

#[test]
fn part_and_rest_are_legal_in_the_same_states_and_early_or_never_for_the_same_reason() {
    let pairs = [
        (Happening::CapturePart, Happening::CaptureRest),
        (Happening::RefundPart, Happening::RefundRest),
        (Happening::ReversePart, Happening::ReverseRest),
    ];
    for state in PaymentState::ALL {
        for (part, rest) in pairs {
            match (next(state, part), next(state, rest)) {
                (Next::To(_), Next::To(_)) => {}
                (part, rest) => assert_eq!(part, rest, "{state:?}"),
            }
        }
    }
}

#[test]
fn what_failed_or_gave_all_back_stays_so() {
    for state in [Refunded, Voided, Expired, Canceled, PaymentState::Rejected] {
        assert!(transitions().iter().all(|(from, _)| *from != state), "{state:?}");
    }
}

#[test]
fn a_payment_that_waits_can_become_whatever_it_would_have_been_at_once() {
    for from in [Scheduled, Parked] {
        let reached: BTreeSet<_> = transitions().into_iter().filter(|pair| pair.0 == from).map(|pair| pair.1).collect();
        let mut expected: BTreeSet<_> = FIRST.into_iter().filter(|state| *state != Scheduled).collect();
        expected.insert(Canceled);
        if from == Parked {
            expected.remove(&Parked);
        }
        assert_eq!(reached, expected);
    }
}

#[test]
fn no_transition_leads_back_to_waiting_or_from_posted_to_held() {
    for (from, to) in transitions() {
        assert!(to != Scheduled && (to != Parked || from == Scheduled), "{from:?} {to:?}");
        assert!(!to.is_held() || from.is_pending() || from.is_held(), "{from:?} {to:?}");
    }
}

#[test]
fn every_state_is_a_first_one_or_reached() {
    let reached: BTreeSet<_> = transitions().into_iter().map(|(_, to)| to).chain(FIRST).collect();
    assert_eq!(reached, PaymentState::ALL.into_iter().collect());
}

#[test]
fn what_can_stay_in_its_state_while_its_amounts_change_is_known() {
    let stay: Vec<_> = transitions().into_iter().filter(|(from, to)| from == to).map(|(from, _)| from).collect();
    assert_eq!(stay, [PartiallyCaptured, PartiallyRefunded, ChargedBack]);
}

#[test]
fn the_picture_has_every_state_with_its_status_and_every_transition_with_what_happens() {
    let picture = diagram();
    assert!(picture.starts_with("stateDiagram-v2\n"));
    for state in PaymentState::ALL {
        let named = format!("state \"{} · {}\" as {}\n", state.name(), state.iso_status(), state.name());
        assert!(picture.contains(&named), "{named}");
    }
    let arrow = |(from, to): &(PaymentState, PaymentState)| format!("    {} --> {}: ", from.name(), to.name());
    assert!(transitions().iter().all(|pair| picture.matches(&arrow(pair)).count() == 1), "{picture}");
    assert_eq!(picture.matches(": ").count(), transitions().len());
    for line in [
        "[*] --> authorized",
        "authorized --> settled: capture the rest",
        "partially_captured --> settled: capture the rest, void, expire",
        "partially_captured --> refunded: void, expire after money went back",
        "partially_captured --> charged_back: capture the rest, void, expire after money went back",
        "charged_back --> partially_refunded: reverse the rest after money went back",
        "voided --> [*]",
    ] {
        assert!(picture.contains(&format!("    {line}\n")), "{line}");
    }
    assert!(!picture.contains(&arrow(&(Authorized, Refunded))) && !picture.contains(&arrow(&(Settled, Settled))));
}
