//! The state machine's table.

use std::collections::BTreeSet;

use super::*;
use crate::ledger::state::{FIRST, Next, Stage, Trigger, diagram, next, transitions};

use PaymentState::{
    Authorized, Canceled, ChargedBack, Expired, Parked, PartiallyCaptured, PartiallyRefunded, Refunded, Scheduled,
    Settled, Voided,
};

#[test]
fn part_and_rest_are_legal_in_the_same_states_and_early_or_never_for_the_same_reason() {
    let pairs = [
        (Trigger::CapturePart, Trigger::CaptureRest),
        (Trigger::RefundPart, Trigger::RefundRest),
        (Trigger::ReversePart, Trigger::ReverseRest),
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

#[test]
fn a_payment_begins_in_one_of_the_first_states_with_version_1() {
    let first: BTreeSet<_> = Trigger::ALL.into_iter().filter_map(Stage::first).map(|stage| stage.state()).collect();
    assert_eq!(first, FIRST.into_iter().collect());
    assert!(Trigger::ALL.into_iter().filter_map(Stage::first).all(|stage| stage.version() == 1));
}

#[test]
fn every_step_raises_the_version_but_that_of_a_task_which_goes_on_waiting() {
    let went_back = [None, Some(Trigger::RefundPart), Some(Trigger::RefundRest), Some(Trigger::ChargeBack)];
    for (state, trigger) in PaymentState::ALL.into_iter().flat_map(|it| Trigger::ALL.map(|what| (it, what))) {
        for went_back in went_back {
            let before = Stage::stored(state, 7);
            match (next(state, trigger), before.next(trigger, went_back)) {
                (Next::Early(reason) | Next::Never(reason), after) => assert_eq!(after, Err(reason)),
                (Next::To(to), Ok(after)) => {
                    let keeps_waiting = state.is_pending() && to == state;
                    assert_eq!(after.version(), if keeps_waiting { 7 } else { 8 }, "{state:?} {trigger:?}");
                    assert!(after.state() == to || to == Settled && went_back.is_some(), "{state:?} {trigger:?}");
                }
                (Next::To(_), Err(reason)) => panic!("{state:?} {trigger:?}: {reason:?}"),
            }
        }
    }
}

/// The code of the ledger, file by file, without its tests.
fn sources() -> Vec<(String, String)> {
    fn collect(folder: &std::path::Path, found: &mut Vec<(String, String)>) {
        for entry in std::fs::read_dir(folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                if !path.ends_with("tests") {
                    collect(&path, found);
                }
            } else {
                let text = std::fs::read_to_string(&path).expect("readable");
                let code = text.lines().filter(|line| !line.trim_start().starts_with("//")).collect::<Vec<_>>();
                found.push((path.display().to_string(), code.join("\n")));
            }
        }
    }
    let mut found = Vec::new();
    collect(&std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src/ledger"), &mut found);
    assert!(found.len() > 10, "only {} files", found.len());
    found
}

#[test]
fn no_state_comes_from_anywhere_but_the_table() {
    for (path, code) in sources() {
        // The compiler keeps the fields of `Stage` to its file; this is the one way round it, for the store.
        assert!(!code.contains("Stage::stored"), "{path} makes a stage that the table has not given");
    }
}

#[test]
fn no_arm_takes_whatever_there_is() {
    for (path, code) in sources() {
        let found = ["_ =>", "_ if ", "(_, _)"].into_iter().find(|arm| {
            code.match_indices(arm).any(|(at, _)| !code[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_'))
        });
        assert!(found.is_none(), "{path} has an arm {found:?}: name the cases");
    }
}
