//! The schema of tasks against the decoder.

use serde_json::{Value, json};
use uuid::Uuid;

use super::*;
use crate::contract::task::FIELDS;
use crate::contract::{Leg, MAX_AMOUNT, MAX_BALANCE, Properties, Rejection, Task as Asked, TaskType, decode};
use crate::ledger::{Rules, alone};

const ID: &str = "01920000-0000-7000-8000-000000000001";
const OTHER: &str = "01920000-0000-7000-8000-000000000002";

/// Every field, and one that no task has.
fn fields() -> impl Iterator<Item = &'static str> {
    ["id", "colour"].into_iter().chain(FIELDS)
}

fn leg() -> Value {
    json!({"debit_account": "a", "credit_account": "b", "amount": 1, "currency": "USD"})
}

/// The least that each type asks for; a movement also as a list.
fn least() -> Vec<Value> {
    let of_type = |task_type: TaskType| match task_type {
        TaskType::OpenAccount => vec![json!({"account": "a", "currency": "USD"})],
        TaskType::Transfer | TaskType::Authorize => vec![leg(), json!({"legs": [leg(), leg()]})],
        TaskType::Capture | TaskType::Void | TaskType::Refund | TaskType::Cancel => vec![json!({"payment_id": OTHER})],
        TaskType::Chargeback | TaskType::ChargebackReversal => vec![json!({"payment_id": OTHER, "amount": 1})],
        TaskType::CloseAccount | TaskType::FreezeAccount | TaskType::UnfreezeAccount => vec![json!({"account": "a"})],
        TaskType::SetLimits => vec![json!({"account": "a", "min_balance": 0})],
    };
    let typed = |task_type: TaskType| {
        of_type(task_type).into_iter().map(move |mut task| {
            task["id"] = json!(ID);
            task["type"] = json!(task_type.name());
            task
        })
    };
    TaskType::ALL.into_iter().flat_map(typed).collect()
}

/// The same tasks, and each of them with all that it can have beside.
pub(in crate::contract) fn documents() -> Vec<Value> {
    [least(), whole()].concat()
}

/// A task of each type with all that it can have, one movement or a list of them.
pub(in crate::contract) fn whole() -> Vec<Value> {
    let beside = [
        ("reference", json!("order-1")),
        ("metadata", json!({"k": "v"})),
        ("execute_at", json!("2030-01-31T09:00:00Z")),
        ("after", json!(OTHER)),
        ("amount", json!(1)),
        ("leg", json!(0)),
        ("final", json!(false)),
        ("expires_in", json!(60)),
        ("min_balance", json!("none")),
        ("max_balance", json!("none")),
    ];
    let whole = |mut task: Value| {
        for (field, value) in &beside {
            let mut more = task.clone();
            more[field] = value.clone();
            if decode(more.to_string().as_bytes(), &Properties::default()).is_ok() {
                task = more;
            }
        }
        task
    };
    least().into_iter().map(whole).collect()
}

/// A field's values, each at or next to an edge of what is allowed.
fn candidates(field: &str) -> Vec<Value> {
    let of_any_type = [json!(null), json!(true), json!(1.5), json!(1), json!("x"), json!(""), json!([]), json!({})];
    let texts = |texts: &[&str]| texts.iter().map(|text| json!(text)).collect::<Vec<_>>();
    let special = match field {
        "id" | "payment_id" | "after" => ids(),
        "type" => TaskType::ALL.map(|task_type| json!(task_type.name())).into_iter().chain([json!("Void")]).collect(),
        "account" | "debit_account" | "credit_account" => {
            let long = [json!("x".repeat(64)), json!("x".repeat(65))];
            let names = texts(&["customer:alice", "9", ":a", "-a", "a b", "ä", "a/b", "a\u{0}", "a._-:", "A.b_c-d"]);
            names.into_iter().chain(long).collect()
        }
        "currency" => texts(&["QQQ", "JPY", "usd", "US", "USDX", "U$D", "ÄÖ", "ÄÖÜ", "US\u{0}"]),
        "amount" | "min_balance" | "max_balance" => {
            let edges = [0, MAX_AMOUNT, MAX_BALANCE].into_iter().flat_map(|edge| [edge - 1, edge, edge + 1]);
            edges
                .flat_map(|edge| [json!(edge), json!(-edge)])
                .chain([json!(u64::MAX), json!(i64::MIN), json!("none"), json!("None"), json!("7")])
                .collect()
        }
        "leg" => [-1, 0, 63, 64, 256].map(|place| json!(place)).into(),
        "expires_in" => [-1, 0, 1, u32::MAX.into(), 1 + i64::from(u32::MAX)].map(|seconds| json!(seconds)).into(),
        "execute_at" => texts(&[
            "2030-01-31T09:00:00Z",
            "2028-02-29T23:59:59.123456-23:59",
            "1970-01-01T00:00:00Z",
            "2001-12-31T23:59:59Z",
            "2002-01-01T00:00:00Z",
            "9998-12-31T23:59:59.999999Z",
            "9999-01-01T00:00:00Z",
            "9999-12-31T23:59:59Z",
            "2030-02-29T09:00:00Z",
            "2030-04-31T09:00:00Z",
            "2030-01-31T09:00:00",
            "2030-01-31T09:00:00.1234567Z",
            "2030-01-31T09:00:60Z",
            "2030-01-31T24:00:00Z",
            "2030-01-31t09:00:00z",
            "2030-01-31 09:00:00Z",
            "2030-01-31T09:00:00+01:00[Europe/Vienna]",
            "2030-01-31T09:00:00+24:00",
            "2030-00-31T09:00:00Z",
        ]),
        "legs" => lists_of_legs(),
        "reference" => vec![json!("ü".repeat(140)), json!("ü".repeat(141)), json!("a\u{0}b"), json!("a\nb")],
        "metadata" => objects(),
        _ => vec![],
    };
    of_any_type.into_iter().chain(special).collect()
}

/// Not the task's own id: a schema can't compare.
fn ids() -> Vec<Value> {
    vec![
        json!("01920000-0000-7000-8000-00000000000A"),
        json!(OTHER.replace('-', "")),
        json!(format!("{{{}}}", &OTHER[1..35])),
        json!(Uuid::nil()),
        json!(Uuid::max()),
        json!("FFFFFFFF-FFFF-7FFF-BFFF-FFFFFFFFFFFF"),
        json!("00000000-0000-4000-8000-000000000000"),
        json!("00000000-0000-4000-8000-000000000001"),
        json!("ffffffff-ffff-4fff-8fff-fffffffffffe"),
        json!("11111111-1111-1111-1111-111111111111"),
        json!("01920000-0000-7000-8000-00000000000g"),
        json!("019200000-000-7000-8000-000000000001"),
    ]
}

fn objects() -> Vec<Value> {
    let text = |length: usize| "ü".repeat(length);
    let many = |count: usize| (0..count).map(|key| (key.to_string(), json!("v"))).collect::<Value>();
    vec![
        many(50),
        many(51),
        json!({text(64): text(500)}),
        json!({text(65): "v"}),
        json!({"k": text(501)}),
        json!({"": "v"}),
        json!({"k": ""}),
        json!({"k": 1}),
        json!({"k": null}),
        json!({"k\u{0}": "v"}),
        json!({"k": "v\u{0}"}),
    ]
}

/// Too few and too many; and lists whose second leg has one field left out, added or changed.
fn lists_of_legs() -> Vec<Value> {
    let mut lists: Vec<Value> = [1, Leg::MOST, Leg::MOST + 1].map(|count| json!(vec![leg(); count])).into();
    lists.extend([json!([leg(), ["a", "b", 1, "USD"]]), json!([leg(), null])]);
    for field in ["debit_account", "credit_account", "amount", "currency", "reference", "colour"] {
        lists.extend(variants(&leg(), field).into_iter().map(|changed| json!([leg(), changed])));
    }
    lists
}

/// A document without a field, and with each of its candidates.
fn variants(document: &Value, field: &str) -> Vec<Value> {
    let mut without = document.clone();
    without.as_object_mut().expect("an object").remove(field);
    let with = candidates(field).into_iter().map(|value| {
        let mut changed = document.clone();
        changed[field] = value;
        changed
    });
    [without].into_iter().chain(with).collect()
}

/// Well-formed documents with one field left out, added or changed.
fn corpus() -> Vec<Value> {
    let other = [json!([]), json!("transfer"), json!(null), json!({})];
    let changed = |document: Value| fields().flat_map(move |field| variants(&document, field));
    other.into_iter().chain(documents().into_iter().flat_map(changed)).collect()
}

#[test]
fn the_schema_takes_what_the_decoder_takes_if_its_amounts_are_in_range() {
    let schema = validator::<Task>();
    let now = "2026-11-29T00:00:00Z".parse().expect("a time");
    let (mut good, mut bad) = (0, 0);
    for document in corpus() {
        let decoded = decode(document.to_string().as_bytes(), &Properties::default());
        // What the ledger looks at first.
        let in_range = |task: &Asked| alone(task, &Rules::default(), now) != Err(Rejection::AmountOutOfRange);
        let expected = decoded.as_ref().is_ok_and(in_range);
        assert_eq!(schema.is_valid(&document), expected, "{document} is {decoded:?}");
        if expected { good += 1 } else { bad += 1 }
    }
    assert!(good > 1000 && bad > 4000, "{good} good and {bad} bad documents");
}

#[test]
fn the_schema_takes_what_a_task_is_written_as() {
    let schema = validator::<Task>();
    for document in documents() {
        let task = decode(document.to_string().as_bytes(), &Properties::default()).expect("a task");
        let written: Value = serde_json::from_str(&task.to_json()).expect("JSON");
        assert!(schema.is_valid(&written), "{written}");
    }
}
