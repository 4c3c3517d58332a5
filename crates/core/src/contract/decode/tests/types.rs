//! The fields of each type: what is read, and what is said of what isn't.

use super::*;
use crate::contract::{AccountChange, Action, Leg, SetLimits, TaskType, Terms, When, schema};

const OTHER: &str = "01920000-0000-7000-8000-000000000002";
const LEG: &str = r#"{"debit_account":"a","credit_account":"b","amount":1,"currency":"USD"}"#;

/// A document of a type, its other fields as they are written.
fn document(task_type: &str, fields: &str) -> String {
    format!(r#"{{"id":"{ID}","type":"{task_type}",{fields}}}"#)
}

fn follow_up(task_type: &str, more: &str) -> String {
    document(task_type, &format!(r#""payment_id":"{OTHER}"{more}"#))
}

fn legs(task_type: &str, legs: &[&str]) -> String {
    document(task_type, &format!(r#""legs":[{}]"#, legs.join(",")))
}

#[track_caller]
fn reads(document: &str) -> Task {
    decode_plain(document).unwrap_or_else(|letter| panic!("{document}: {}", letter.detail))
}

#[track_caller]
fn refuses_field(document: &str, field: &str, part: &str) {
    refuses(document.as_bytes(), Some(field), part);
}

#[track_caller]
fn action(document: &str) -> Action {
    match reads(document).body {
        TaskBody::FollowUp(follow_up) => {
            assert_eq!(follow_up.payment_id.to_string(), OTHER);
            follow_up.action
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn what_acts_on_a_payment_is_read_with_its_defaults() {
    let capture = |amount, leg, is_final| Action::Capture { amount, leg, is_final };
    assert_eq!(action(&follow_up("capture", "")), capture(None, None, true));
    let all = r#","amount":5,"leg":63,"final":false"#;
    assert_eq!(action(&follow_up("capture", all)), capture(Some(5), Some(63), false));
    assert_eq!(action(&follow_up("void", "")), Action::Void);
    assert_eq!(action(&follow_up("refund", "")), Action::Refund { amount: None, leg: None });
    assert_eq!(action(&follow_up("refund", r#","leg":0"#)), Action::Refund { amount: None, leg: Some(0) });
    assert_eq!(action(&follow_up("chargeback", r#","amount":5"#)), Action::Chargeback { amount: 5, leg: None });
    let reversal = action(&follow_up("chargeback_reversal", r#","amount":5,"leg":1"#));
    assert_eq!(reversal, Action::ChargebackReversal { amount: 5, leg: Some(1) });
    assert_eq!(action(&follow_up("cancel", "")), Action::Cancel);
    let noted = reads(&follow_up("void", r#","reference":"r","metadata":{"k":"v"}"#));
    assert_eq!((noted.body.reference(), noted.body.metadata()), (Some("r"), Some(r#"{"k":"v"}"#)));
}

#[test]
fn what_acts_on_a_payment_names_another_task() {
    for task_type in TaskType::ALL.into_iter().filter(|task_type| task_type.is_follow_up()) {
        let name = task_type.name();
        let amount = r#""amount":5"#;
        refuses_field(&document(name, amount), "payment_id", "missing, expected a UUID");
        refuses_field(&document(name, r#""payment_id":"7""#), "payment_id", "\"7\", expected a UUID");
        refuses_field(&document(name, r#""payment_id":null"#), "payment_id", "expected a string");
        refuses_field(&document(name, &format!(r#""payment_id":"{ID}""#)), "payment_id", "the task's own `id`");
    }
    for task_type in ["chargeback", "chargeback_reversal"] {
        refuses_field(&follow_up(task_type, ""), "amount", "missing, expected an integer in minor units");
    }
}

#[test]
fn a_field_of_another_type_is_refused() {
    let unknown = |document: &str, field: &str| refuses_field(document, field, "unknown field for the type");
    for field in [r#""amount":1"#, r#""leg":0"#, r#""final":true"#] {
        let name = field.split('"').nth(1).expect("a name");
        unknown(&follow_up("void", &format!(",{field}")), name);
        unknown(&follow_up("cancel", &format!(",{field}")), name);
        unknown(&document("freeze_account", &format!(r#""account":"a",{field}"#)), name);
    }
    for task_type in ["capture", "refund", "chargeback", "chargeback_reversal"] {
        unknown(&follow_up(task_type, r#","amount":1,"currency":"USD""#), "currency");
    }
    unknown(&follow_up("refund", r#","final":true"#), "final");
    unknown(&follow_up("capture", &format!(r#","legs":[{LEG}]"#)), "legs");
    unknown(&transfer_with(r#","expires_in":5"#), "expires_in");
    unknown(&transfer_with(&format!(r#","payment_id":"{OTHER}""#)), "payment_id");
    unknown(&transfer_with(r#","max_balance":"none""#), "max_balance");
    unknown(&document("open_account", r#""account":"a","currency":"USD","max_balance":5"#), "max_balance");
    for task_type in ["close_account", "freeze_account", "unfreeze_account"] {
        unknown(&document(task_type, r#""account":"a","min_balance":5"#), "min_balance");
        unknown(&document(task_type, r#""account":"a","currency":"USD""#), "currency");
        unknown(&document(task_type, r#""account":"a","reference":"r""#), "reference");
        unknown(&document(task_type, r#""account":"a","metadata":{}"#), "metadata");
    }
}

#[test]
fn a_hold_is_read_like_a_transfer_with_an_end() {
    let single = reads(&transfer_with(r#","expires_in":4294967295"#).replace("transfer", "authorize"));
    let TaskBody::Authorize(single) = single.body else { panic!("{single:?}") };
    assert!(matches!(&single.terms, Terms::One(leg) if leg.amount == 1250), "{single:?}");
    assert_eq!(single.expires_in, Some(u32::MAX));
    let TaskBody::Authorize(listed) = reads(&legs("authorize", &[LEG])).body else { panic!("not a hold") };
    assert!(matches!(&listed.terms, Terms::Legs(legs) if legs.len() == 1), "{listed:?}");
    assert_eq!(listed.expires_in, None);
    for value in ["0", "4294967296", "-1", "1.5", "99999999999999999999", "null", "\"60\""] {
        let body = transfer_with(&format!(r#","expires_in":{value}"#)).replace("transfer", "authorize");
        refuses_field(&body, "expires_in", "expected an integer from 1 to 4294967295");
    }
}

#[test]
fn a_leg_is_named_by_its_place() {
    for value in ["64", "-1", "0.0", "256", "null", "\"0\"", "true"] {
        let body = follow_up("refund", &format!(r#","leg":{value}"#));
        refuses_field(&body, "leg", "expected an integer from 0 to 63");
    }
    refuses_field(&follow_up("capture", r#","final":"yes""#), "final", "expected a boolean");
    refuses_field(&follow_up("capture", r#","final":1"#), "final", "expected a boolean");
    refuses_field(&follow_up("capture", r#","final":true,"final":true"#), "final", "repeated field");
}

#[test]
fn there_are_1_to_64_legs() {
    for task_type in ["transfer", "authorize"] {
        let count = |count: usize| legs(task_type, &vec![LEG; count]);
        assert_eq!(reads(&count(1)).body.account_pairs().count(), 1);
        assert_eq!(reads(&count(Leg::MOST)).body.account_pairs().count(), 64);
        for wrong in [0, Leg::MOST + 1, Leg::MOST * 2] {
            refuses_field(&count(wrong), "legs", "expected a list of 1 to 64 legs");
        }
        for value in [LEG, "null", "\"a\"", "1"] {
            refuses_field(&document(task_type, &format!(r#""legs":{value}"#)), "legs", "a list of 1 to 64 legs");
        }
        refuses_field(&document(task_type, &format!(r#""legs":[{LEG}],"legs":[{LEG}]"#)), "legs", "repeated field");
    }
}

#[test]
fn a_task_has_a_movement_of_its_own_or_legs() {
    for task_type in ["transfer", "authorize"] {
        for field in [r#""debit_account":"a""#, r#""credit_account":"a""#, r#""amount":1"#, r#""currency":"USD""#] {
            let name = field.split('"').nth(1).expect("a name");
            let both = document(task_type, &format!(r#""legs":[{LEG}],{field}"#));
            refuses_field(&both, name, "given beside `legs`, expected either `debit_account`, ");
        }
        let neither = document(task_type, r#""reference":"r""#);
        refuses_field(&neither, "debit_account", "missing, expected either");
    }
}

#[test]
fn a_leg_is_as_strict_as_a_task_and_says_which_it_is() {
    let third = |leg: &str| legs("transfer", &[LEG, LEG, LEG, leg]);
    let without = |field: &str| third(&LEG.replace(field, ""));
    refuses_field(&without(r#","currency":"USD""#), "legs[3].currency", "missing, expected three capital letters");
    refuses_field(&without(r#","amount":1"#), "legs[3].amount", "missing, expected an integer in minor units");
    refuses_field(&without(r#""debit_account":"a","#), "legs[3].debit_account", "missing, expected 1 to 64");
    let with = |from: &str, to: &str| third(&LEG.replace(from, to));
    refuses_field(&with(":1", ":1.5"), "legs[3].amount", "expected an integer of at most 64 bits");
    refuses_field(&with(":1", ":null"), "legs[3].amount", "expected an integer of at most 64 bits");
    refuses_field(&with(":1", r#":1,"amount":1"#), "legs[3].amount", "repeated field");
    refuses_field(&with(":1", r#":1,"colour":"red""#), "legs[3].colour", "unknown field of a leg");
    refuses_field(&with(":1", r#":1,"reference":"r""#), "legs[3].reference", "unknown field of a leg");
    refuses_field(&with("USD", "usd"), "legs[3].currency", "\"usd\", expected three capital letters");
    refuses_field(&with(r#""b""#, r#""b c""#), "legs[3].credit_account", "\"b c\", expected 1 to 64 characters");
    refuses_field(&with(r#""b""#, r#""b\u0000""#), "legs[3].credit_account", "u0000");
    refuses_field(&third(r#"["a","b",1,"USD"]"#), "legs[3]", "expected a JSON object");
    refuses_field(&third("null"), "legs[3]", "expected a JSON object");
    refuses_field(&third("{"), "legs[3]", "key must be a string");
}

#[test]
fn an_accounts_limits_are_left_taken_away_or_set() {
    let limits = |fields: &str| match reads(&document("set_limits", &format!(r#""account":"a",{fields}"#))).body {
        TaskBody::ChangeAccount(change) => change.change,
        other => panic!("{other:?}"),
    };
    let set = |min_balance, max_balance| AccountChange::SetLimits(SetLimits { min_balance, max_balance });
    assert_eq!(limits(r#""min_balance":-5"#), set(Some(Some(-5)), None));
    assert_eq!(limits(r#""max_balance":"none""#), set(None, Some(None)));
    assert_eq!(limits(r#""min_balance":"none","max_balance":7"#), set(Some(None), Some(Some(7))));
    let neither = document("set_limits", r#""account":"a""#);
    refuses_field(&neither, "min_balance", "missing, expected `min_balance`, `max_balance` or both");
    let text = document("set_limits", r#""account":"a","max_balance":"7""#);
    refuses_field(&text, "max_balance", "expected an integer of at most 64 bits");
}

#[test]
fn an_account_is_changed_by_its_name() {
    let change = |name: &str| match reads(&document(name, r#""account":"a""#)).body {
        TaskBody::ChangeAccount(change) => change.change,
        other => panic!("{other:?}"),
    };
    assert_eq!(change("close_account"), AccountChange::Close);
    assert_eq!(change("freeze_account"), AccountChange::Freeze);
    assert_eq!(change("unfreeze_account"), AccountChange::Unfreeze);
    for task_type in ["close_account", "freeze_account", "unfreeze_account"] {
        refuses_field(&document(task_type, &format!(r#""after":"{OTHER}""#)), "account", "missing, expected 1 to 64");
    }
    refuses_field(&document("set_limits", r#""min_balance":5"#), "account", "missing, expected 1 to 64");
}

#[test]
fn a_task_of_any_type_can_wait_for_its_time_and_for_another_task() {
    for mut document in schema::task_documents() {
        document["execute_at"] = "2030-01-31T10:00:00.5+01:00".into();
        document["after"] = OTHER.into();
        let at = "2030-01-31T09:00:00.5Z".parse().expect("a moment");
        let when = When { execute_at: Some(at), after: Some(OTHER.parse().expect("a UUID")) };
        assert_eq!(reads(&document.to_string()).when, when);
    }
    refuses_field(&transfer_with(&format!(r#","after":"{ID}""#)), "after", "the task's own `id`");
    refuses_field(&transfer_with(r#","after":"x""#), "after", "expected a UUID");
    refuses_field(&transfer_with(r#","after":null"#), "after", "expected a string");
}

#[test]
fn a_time_has_one_spelling() {
    let at = |text: &str| transfer_with(&format!(r#","execute_at":"{text}""#));
    for (text, same) in [
        ("2030-01-31T09:00:00Z", "2030-01-31T09:00:00Z"),
        ("2030-01-31T09:00:00-00:00", "2030-01-31T09:00:00Z"),
        ("2030-01-31T00:00:00+23:59", "2030-01-30T00:01:00Z"),
        ("2028-02-29T23:59:59.123456-11:00", "2028-03-01T10:59:59.123456Z"),
        ("2002-01-01T00:00:00.0Z", "2002-01-01T00:00:00Z"),
        ("9998-12-31T23:59:59.999999Z", "9998-12-31T23:59:59.999999Z"),
    ] {
        assert_eq!(reads(&at(text)).when.execute_at.map(|at| at.to_string()).as_deref(), Some(same));
    }
    for text in [
        "",
        "tomorrow",
        "2030-01-31",
        "2030-01-31T09:00:00",
        "2030-01-31T09:00Z",
        "2030-01-31 09:00:00Z",
        "2030-01-31t09:00:00Z",
        "2030-01-31T09:00:00z",
        "2030-01-31T09:00:00+01",
        "2030-01-31T09:00:00+0100",
        "2030-01-31T09:00:00+01:00:00",
        "2030-01-31T09:00:00+24:00",
        "2030-01-31T09:00:00+01:60",
        "2030-01-31T09:00:00Z[Europe/Vienna]",
        "2030-01-31T10:00:00+01:00[Europe/Vienna]",
        "2030-01-31T09:00:00,5Z",
        "2030-01-31T09:00:00.Z",
        "2030-01-31T09:00:00.1234567Z",
        "2030-01-31T09:00:60Z",
        "+002030-01-31T09:00:00Z",
        "20300131T090000Z",
        " 2030-01-31T09:00:00Z",
        "2030-01-31T09:00:00Z ",
        "２030-01-31T09:00:00Z",
    ] {
        refuses_field(&at(text), "execute_at", "expected a date and time with its offset");
    }
    for text in ["2030-01-31T24:00:00Z", "2030-02-29T09:00:00Z", "2030-13-01T09:00:00Z"] {
        refuses_field(&at(text), "execute_at", "not in the calendar");
    }
    let out_of_range = [
        "0001-01-01T00:00:00Z",
        "1970-01-01T00:00:00.000Z",
        "1970-01-01T01:00:00+01:00",
        "2001-01-01T00:00:00Z",
        "2001-12-31T23:00:00-02:00",
        "2002-01-01T00:00:00+00:01",
        "9998-12-31T23:00:00-02:00",
        "9999-01-01T00:00:00+02:00",
        "9999-12-31T23:59:59Z",
    ];
    for text in out_of_range {
        refuses_field(&at(text), "execute_at", "expected a year from 2002 to 9998");
    }
    refuses_field(&transfer_with(r#","execute_at":1893456000"#), "execute_at", "expected a string");
    refuses_field(&transfer_with(r#","execute_at":null"#), "execute_at", "expected a string");
}
