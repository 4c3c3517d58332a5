use std::collections::BTreeSet;
use std::path::Path;

use jiff::Timestamp;
use jsonschema::Validator;
use serde_json::{Value, json};
use uuid::Uuid;

use super::*;
use crate::contract::{BalanceAfter, Event, Properties, TaskBody, decode};

const ID: &str = "01920000-0000-7000-8000-000000000001";

fn validator<T: JsonSchema>() -> Validator {
    jsonschema::draft202012::new(schema_of::<T>().as_value()).expect("a schema")
}

#[test]
fn the_files_are_what_the_types_say() {
    let files = [("task", schema_of::<Task>()), ("event", schema_of::<EventData>())];
    for (name, schema) in files {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("schemas/{name}.schema.json"));
        let text = serde_json::to_string_pretty(&schema).expect("a schema is JSON") + "\n";
        if std::env::var_os("SETTLED_UPDATE_SCHEMAS").is_some() {
            std::fs::write(&path, &text).expect("written");
        }
        let file = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(file == text, "{} is not current: run this test with SETTLED_UPDATE_SCHEMAS=1", path.display());
    }
}

fn transfer() -> Value {
    json!({"id": ID, "type": "transfer", "debit_account": "a", "credit_account": "b", "amount": 1, "currency": "USD"})
}

fn open_account() -> Value {
    json!({"id": ID, "type": "open_account", "account": "a", "currency": "USD"})
}

/// A field's values, each at or next to an edge of what is allowed.
fn candidates(field: &str) -> Vec<Value> {
    let text = |length: usize| "ü".repeat(length);
    let of_any_type = [json!(null), json!(true), json!(1.5), json!(1), json!("x"), json!(""), json!([]), json!({})];
    let special = match field {
        "id" => vec![
            json!(ID.to_uppercase()),
            json!(ID.replace('-', "")),
            json!(format!("{{{}}}", &ID[1..35])),
            json!("00000000-0000-0000-0000-000000000000"),
            json!("01920000-0000-7000-8000-00000000000g"),
            json!("019200000-000-7000-8000-000000000001"),
        ],
        "type" => vec![json!("open_account"), json!("transfer"), json!("Transfer"), json!("refund")],
        "account" | "debit_account" | "credit_account" => {
            let names = ["customer:alice", "9", ":a", "-a", "a b", "ä", "a/b", "a\u{0}", "a._-:"];
            let long = [json!("x".repeat(64)), json!("x".repeat(65))];
            names.iter().map(|name| json!(name)).chain(long).collect()
        }
        "currency" => ["QQQ", "JPY", "usd", "US", "USDX", "ÄÖÜ", "US\u{0}"].iter().map(|code| json!(code)).collect(),
        "amount" | "min_balance" => {
            let edges = [0, MAX_AMOUNT, MAX_BALANCE].into_iter().flat_map(|edge| [edge - 1, edge, edge + 1]);
            edges.flat_map(|edge| [json!(edge), json!(-edge)]).chain([json!(u64::MAX), json!(i64::MIN)]).collect()
        }
        "reference" => vec![json!(text(140)), json!(text(141)), json!("a\u{0}b"), json!("a\nb")],
        "metadata" => {
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
        _ => vec![],
    };
    of_any_type.into_iter().chain(special).collect()
}

const FIELDS: [&str; 11] = [
    "id",
    "type",
    "account",
    "debit_account",
    "credit_account",
    "amount",
    "currency",
    "min_balance",
    "reference",
    "metadata",
    "colour",
];

/// Well-formed documents with one field left out, added or changed.
fn corpus() -> Vec<Value> {
    let mut corpus = vec![json!([]), json!("transfer"), json!(null), json!({})];
    for base in [transfer(), open_account()] {
        for field in FIELDS {
            let mut without = base.clone();
            without.as_object_mut().expect("an object").remove(field);
            corpus.push(without);
            corpus.extend(candidates(field).into_iter().map(|value| {
                let mut changed = base.clone();
                changed[field] = value;
                changed
            }));
        }
    }
    corpus
}

/// What the ledger looks at first: see its ladder of guards.
fn amounts_are_in_range(body: &TaskBody) -> bool {
    match body {
        TaskBody::OpenAccount(open) => open.min_balance.is_none_or(|limit| (-MAX_BALANCE..=0).contains(&limit)),
        TaskBody::Transfer(transfer) => (1..=MAX_AMOUNT).contains(&transfer.amount),
    }
}

#[test]
fn the_schema_takes_what_the_decoder_takes_if_its_amounts_are_in_range() {
    let schema = validator::<Task>();
    let (mut good, mut bad) = (0, 0);
    for document in corpus() {
        let decoded = decode(document.to_string().as_bytes(), &Properties::default());
        let expected = decoded.as_ref().is_ok_and(|task| amounts_are_in_range(&task.body));
        assert_eq!(schema.is_valid(&document), expected, "{document} is {decoded:?}");
        if expected { good += 1 } else { bad += 1 }
    }
    assert!(good > 40 && bad > 150, "{good} good and {bad} bad documents");
}

/// Every field that an event can have, over all of these.
#[test]
fn the_schema_of_events_knows_what_events_say_and_nothing_else() {
    let schema = validator::<EventData>();
    let mut told = BTreeSet::new();
    let mut full = transfer();
    full["reference"] = json!("order-1");
    full["metadata"] = json!({"k": "v"});
    let mut unlimited = open_account();
    unlimited["min_balance"] = json!(null);
    let balances = [BalanceAfter { account: "a", posted: -5, held: 0, version: 1 }];
    for document in [transfer(), open_account(), full, unlimited] {
        let task = decode(document.to_string().as_bytes(), &Properties::default()).expect("a task");
        for rejection in Rejection::ALL.map(Some).into_iter().chain([None]) {
            let properties = Properties { publisher: rejection.map(|_| "shop".into()), ..Properties::default() };
            let balances = if rejection.is_some() { &[] } else { balances.as_slice() };
            let settled_at = Timestamp::UNIX_EPOCH;
            let event =
                Event { task: &task, properties: &properties, rejection, settled_at, balances, source: "settled" };
            let mut line = Vec::new();
            event.write(&mut line);
            let data = serde_json::from_slice::<Value>(&line).expect("JSON")["data"].take();
            assert!(schema.is_valid(&data), "{data}: {:?}", schema.validate(&data));
            told.extend(data.as_object().expect("an object").keys().cloned());
        }
    }
    let schema = schema_of::<EventData>();
    let described = schema.get("properties").and_then(Value::as_object).expect("properties").keys().cloned();
    assert_eq!(told, described.collect());
    assert_eq!(Uuid::try_parse(ID).map(|id| id.get_version_num()), Ok(7));
}
