use std::collections::BTreeSet;

use proptest::prelude::*;
use schemars::schema_for;
use serde_json::{Map, Value, json};

use super::FIELDS;
use crate::contract::encode::Asked;
use crate::contract::{Properties, Task, TaskType, arbitrary, decode};

/// All fields of all types but the id; each with two values.
fn other_values() -> [(&'static str, Value, Value); 18] {
    let leg = |amount| json!([{"debit_account": "c", "credit_account": "d", "amount": amount, "currency": "XTS"}]);
    let id = |last: u8| json!(format!("01920000-0000-7000-8000-0000000000{last:02}"));
    [
        ("account", json!("c"), json!("d")),
        ("debit_account", json!("c"), json!("d")),
        ("credit_account", json!("c"), json!("d")),
        ("amount", json!(1), json!(2)),
        ("currency", json!("XTS"), json!("XXX")),
        ("legs", leg(1), leg(2)),
        ("min_balance", json!("none"), json!(0)),
        ("max_balance", json!("none"), json!(0)),
        ("payment_id", id(1), id(2)),
        ("leg", json!(0), json!(1)),
        ("final", json!(true), json!(false)),
        ("expires_in", json!(1), json!(2)),
        ("execute_at", json!("2030-01-31T09:00:00Z"), json!("2030-01-31T09:00:00.000001Z")),
        ("after", id(1), id(2)),
        ("reference", json!("c"), json!("d")),
        ("metadata", json!({}), json!({"c": "d"})),
        ("type", json!("refund"), json!("capture")),
        ("type", json!("authorize"), json!("close_account")),
    ]
}

fn read(fields: &Map<String, Value>) -> Option<Task> {
    decode(&serde_json::to_vec(fields).expect("JSON"), &Properties::default()).ok()
}

/// The same task with one field left out, added or changed, as far as that is a task; and the field.
fn changes(task: &Task) -> Vec<(&'static str, Task)> {
    let fields: Map<String, Value> = serde_json::from_str(&task.to_json()).expect("an object");
    let mut changes = Vec::new();
    for (name, one, other) in other_values() {
        for value in [None, Some(one), Some(other)] {
            let mut changed = fields.clone();
            match value {
                None => changed.remove(name),
                Some(value) => changed.insert(name.to_owned(), value),
            };
            changes.extend(read(&changed).map(|task| (name, task)));
        }
    }
    changes
}

#[test]
fn every_field_that_is_written_is_compared_and_tried() {
    let schema = schema_for!(Asked<'_>);
    let written = schema.get("properties").and_then(Value::as_object).expect("fields").keys().map(String::as_str);
    let written: BTreeSet<&str> = written.chain(["type"]).collect();
    let tried = other_values();
    assert_eq!(BTreeSet::from(FIELDS), written);
    assert_eq!(tried.iter().map(|(name, ..)| *name).collect::<BTreeSet<_>>(), written);
}

proptest! {
    #[test]
    fn the_field_that_was_changed_is_the_one_that_is_named(task in arbitrary::task()) {
        let mut different = 0;
        for (field, changed) in changes(&task) {
            let is_same = (&changed.body, changed.when) == (&task.body, task.when);
            prop_assert_eq!(task.differs_from(&changed), (!is_same).then_some(field), "{:?}", &changed);
            prop_assert_eq!(changed.fingerprint == task.fingerprint, is_same, "{:?}", &changed);
            different += u32::from(!is_same);
        }
        // Of a task that closes an account: its type, and twice account, `execute_at` and `after`.
        prop_assert!(different >= 5, "{} changes", different);
    }
}

#[test]
fn one_leg_in_the_tasks_own_fields_is_not_a_list_of_one() {
    for task_type in [TaskType::Transfer, TaskType::Authorize] {
        let leg = json!({"debit_account": "a", "credit_account": "b", "amount": 1, "currency": "USD"});
        let head = json!({"id": "01920000-0000-7000-8000-000000000001", "type": task_type.name()});
        let mut listed = head.as_object().expect("an object").clone();
        let mut own = listed.clone();
        own.extend(leg.as_object().expect("an object").clone());
        listed.insert("legs".into(), json!([leg]));
        let (own, listed) = (read(&own).expect("a task"), read(&listed).expect("a task"));
        assert_eq!(own.differs_from(&listed), Some("legs"));
        assert_eq!(listed.differs_from(&own), Some("legs"));
        assert_ne!(own.fingerprint, listed.fingerprint);
    }
}
