//! Every refusal of a field's value: the whole of what is said, and that the schema refuses the same.

use serde_json::{Value, json};

use super::*;
use crate::contract::{TaskType, schema};

const UUID: &str = "expected a UUID with hyphens, such as 01920000-0000-7000-8000-000000000001";
const UNSET: &str = "which is what an id is before anybody has set it: ";
const NAME: &str = "expected 1 to 64 characters of A-Z a-z 0-9 : . _ -, the first a letter or digit";
const INTEGER: &str = "expected an integer of at most 64 bits, in minor units";
const LIMIT: &str = r#"expected an integer of at most 64 bits, in minor units, or "none" for no limit"#;
const NO_NULL: &str =
    r#"null, which is no limit and takes none away: write "none" for no limit, or leave the field out"#;
const YEARS: &str = "expected a year from 2002 to 9998, in UTC as well";

/// A field, a value that it doesn't take, and what is said of it. `…` stands for the value.
fn refused() -> Vec<(&'static str, Value, String)> {
    let own = || {
        vec![
            ("currency", json!("usd"), "…, expected three capital letters, an ISO 4217 code".to_owned()),
            ("currency", json!("EURO"), "…, expected three capital letters, an ISO 4217 code".to_owned()),
            ("type", json!("gift"), format!("…, expected one of {}", types())),
            ("expires_in", json!(0), "invalid value: integer `0`, expected an integer from 1 to 4294967295".to_owned()),
            ("leg", json!(64), "invalid value: integer `64`, expected an integer from 0 to 63".to_owned()),
            ("final", json!(null), "invalid type: null, expected a boolean".to_owned()),
            ("legs", json!([]), "invalid length 0, expected a list of 1 to 64 legs".to_owned()),
            ("reference", json!(""), "0 characters, expected 1 to 140".to_owned()),
            ("reference", json!("ü".repeat(141)), "141 characters, expected 1 to 140".to_owned()),
            ("reference", json!("a\0"), "`\\u0000` in a string, which PostgreSQL can't store".to_owned()),
            ("metadata", json!({"": "v"}), "a key that has not 1 to 64 characters".to_owned()),
            ("metadata", json!({"k": "v".repeat(501)}), "a value of more than 500 characters".to_owned()),
            ("metadata", many_keys(), "more than 50 keys".to_owned()),
            ("amount", json!(null), format!("invalid type: null, {INTEGER}")),
            ("amount", json!(1.5), format!("invalid type: floating point `1.5`, {INTEGER}")),
            ("amount", json!(u64::MAX), format!("invalid value: integer `18446744073709551615`, {INTEGER}")),
        ]
    };
    let ids = ["id", "payment_id", "after"].into_iter().flat_map(|field| {
        [
            (field, json!("7"), format!("…, {UUID}")),
            (field, json!("01920000000070008000000000000001"), format!("…, {UUID}")),
            (field, json!("00000000-0000-0000-0000-000000000000"), format!("…, {UNSET}{UUID}")),
            (field, json!("ffffffff-ffff-ffff-ffff-ffffffffffff"), format!("…, {UNSET}{UUID}")),
            (field, json!("00000000-0000-4000-8000-000000000000"), format!("…, {UNSET}{UUID}")),
            (field, json!("FFFFFFFF-FFFF-7FFF-BFFF-FFFFFFFFFFFF"), format!("…, {UNSET}{UUID}")),
        ]
    });
    let accounts = ["account", "debit_account", "credit_account"].into_iter();
    let accounts = accounts.flat_map(|field| ["a b", ""].map(|name| (field, json!(name), format!("…, {NAME}"))));
    let limits = ["min_balance", "max_balance"].into_iter().flat_map(|field| {
        [
            (field, json!(null), NO_NULL.to_owned()),
            (field, json!("None"), format!("invalid value: string \"None\", {LIMIT}")),
            (field, json!(""), format!("invalid value: string \"\", {LIMIT}")),
            (field, json!(false), format!("invalid type: boolean `false`, {LIMIT}")),
        ]
    });
    let moments = [
        ("9999-12-31T23:59:59Z", YEARS),
        ("9999-12-31T23:59:59.999999+23:59", YEARS),
        ("1970-01-01T00:00:00Z", YEARS),
        ("0001-01-01T00:00:00Z", YEARS),
        ("2030-13-01T09:00:00Z", "a date or time that is not in the calendar"),
        ("2030-01-31T09:00:00.1234567Z", RFC_3339),
        ("2030-01-31T09:00:00", RFC_3339),
        ("", RFC_3339),
    ];
    let moments = moments.map(|(text, said)| ("execute_at", json!(text), format!("…, {said}")));
    own().into_iter().chain(ids).chain(accounts).chain(limits).chain(moments).collect()
}

const RFC_3339: &str = "expected a date and time with its offset, as RFC 3339 writes it, with capital T and Z and at most six \
    digits of a second, such as 2030-01-31T09:00:00Z or 2030-01-31T10:00:00.000001+01:00";

fn types() -> String {
    TaskType::ALL.map(|task_type| format!("`{}`", task_type.name())).join(", ")
}

fn many_keys() -> Value {
    (0..51).map(|key| (key.to_string(), json!("v"))).collect()
}

#[test]
fn a_refusal_says_which_limit_was_broken_and_the_schema_has_that_limit() {
    let (schema, documents) = (schema::task_validator(), schema::task_documents());
    for (field, value, said) in refused() {
        let mut document = documents.iter().find(|task| task.get(field).is_some()).expect("a task with it").clone();
        assert!(schema.is_valid(&document) && decode_plain(&document.to_string()).is_ok(), "{document}");
        document[field] = value.clone();
        let letter = decode_plain(&document.to_string()).expect_err("refused");
        assert_eq!(letter.field.as_deref(), Some(field), "{}", letter.detail);
        // serde_json says where; the line and column are nobody's contract.
        let (detail, _) = letter.detail.split_once(" at line ").unwrap_or((&letter.detail, ""));
        let said = said.replace('…', &value.to_string());
        assert_eq!(detail, format!("`{field}`: {said}"));
        assert!(!schema.is_valid(&document), "the schema takes {document}");
    }
}
