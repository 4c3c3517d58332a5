use proptest::prelude::*;

use super::*;
use crate::contract::TaskBody;

const ID: &str = "01920000-0000-7000-8000-000000000001";

fn decode_plain(body: &str) -> Result<Task, DeadLetter> {
    decode(body.as_bytes(), &Properties::default())
}

fn transfer_with(change: &str) -> String {
    let base = format!(
        r#"{{"id":"{ID}","type":"transfer","debit_account":"a","credit_account":"b","amount":1250,"currency":"USD"{change}}}"#
    );
    base
}

/// Each refusal: the body, the field it must name, and a part of the message.
#[track_caller]
fn refuses(body: &[u8], field: Option<&str>, part: &str) {
    let letter = decode(body, &Properties::default()).expect_err("refused");
    assert_eq!(letter.reason, DeadReason::Malformed);
    assert_eq!(letter.field.as_deref(), field, "{}", letter.detail);
    assert!(letter.detail.contains(part), "{} lacks {part:?}", letter.detail);
}

#[test]
fn a_transfer_is_read_whole() {
    let task = decode_plain(&transfer_with(r#","reference":"order-1","metadata":{"z":"1","a":"é"}"#)).expect("a task");
    assert_eq!(task.id.to_string(), ID);
    let TaskBody::Transfer(transfer) = &task.body else { panic!("{task:?}") };
    assert_eq!(transfer.amount, 1250);
    assert_eq!(transfer.reference.as_deref(), Some("order-1"));
    assert_eq!(transfer.metadata.as_deref(), Some(r#"{"a":"é","z":"1"}"#));
}

#[test]
fn a_min_balance_left_out_is_zero_and_no_limit_is_a_word() {
    let open = |rest: &str| {
        let body = format!(r#"{{"id":"{ID}","type":"open_account","account":"a","currency":"USD"{rest}}}"#);
        match decode_plain(&body).expect("a task").body {
            TaskBody::OpenAccount(open) => open.min_balance,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(open(""), Some(0));
    assert_eq!(open(r#","min_balance":-5"#), Some(-5));
    assert_eq!(open(r#","min_balance":"none""#), None);
}

#[test]
fn what_is_not_the_contract_is_refused_with_the_fields_name() {
    refuses(transfer_with(r#","colour":"red""#).as_bytes(), Some("colour"), "unknown field");
    refuses(transfer_with(r#","amount":1250"#).as_bytes(), Some("amount"), "repeated field");
    refuses(
        transfer_with(r#","min_balance":0"#).as_bytes(),
        Some("min_balance"),
        "unknown field for the type `transfer`",
    );
    refuses(transfer_with(r#","reference":null"#).as_bytes(), Some("reference"), "expected a string");
    refuses(transfer_with(r#","metadata":["a"]"#).as_bytes(), Some("metadata"), "object");
    refuses(transfer_with(r#","metadata":{"a":1}"#).as_bytes(), Some("metadata"), "expected a string");
    refuses(transfer_with(r#","metadata":{"a":"1","a":"2"}"#).as_bytes(), Some("metadata"), "repeated key");
    for (amount, part) in [
        ("12.5", "floating point"),
        ("1.0", "floating point"),
        ("1e2", "floating point"),
        ("\"5\"", "string"),
        ("null", "null"),
        ("true", "boolean"),
        ("9223372036854775808", "64 bits"),
        ("99999999999999999999999", "64 bits"),
        ("NaN", "expected"),
    ] {
        let body = transfer_with("").replace("1250", amount);
        refuses(body.as_bytes(), Some("amount"), part);
    }
    for field in ["id", "type", "debit_account", "credit_account", "amount", "currency"] {
        let renamed = transfer_with("").replacen(&format!("\"{field}\""), "\"reference\"", 1).replace(ID, "x");
        let letter = decode_plain(&renamed).expect_err("refused");
        assert!(letter.field.is_some(), "{renamed}: {}", letter.detail);
    }
    refuses(br#"["01920000-0000-7000-8000-000000000001","transfer"]"#, None, "a JSON object");
    refuses(b"", None, "the body is empty");
    refuses(b"\xff\xfe", None, "UTF-16");
    refuses(b"\x1f\x8b\x08\x00", None, "the body is gzip-compressed, expected JSON text: publish it uncompressed");
    refuses(format!("{} x", transfer_with("")).as_bytes(), None, "trailing");
    let mut bad_utf8 = transfer_with(r#","reference":"R""#).into_bytes();
    let place = bad_utf8.iter().rposition(|b| *b == b'R').expect("there");
    bad_utf8[place] = 0xff;
    refuses(&bad_utf8, Some("reference"), "unicode");
}

#[test]
fn a_missing_field_is_named_with_what_was_expected() {
    refuses(br#"{}"#, Some("id"), "missing, expected a UUID");
    refuses(format!(r#"{{"id":"{ID}"}}"#).as_bytes(), Some("type"), "missing");
    let letter = decode_plain(&format!(r#"{{"id":"{ID}","type":"transfer"}}"#)).expect_err("refused");
    assert_eq!(letter.field.as_deref(), Some("debit_account"));
    assert_eq!(letter.task_id.map(|id| id.to_string()).as_deref(), Some(ID));
}

#[test]
fn properties_that_contradict_the_body_are_refused() {
    let with =
        |properties: Properties| decode(transfer_with("").as_bytes(), &properties).map_err(|letter| letter.field);
    assert!(with(Properties { message_id: Some(ID.into()), ..Default::default() }).is_ok());
    assert!(
        with(Properties { content_type: Some("application/json; charset=utf-8".into()), ..Default::default() }).is_ok()
    );
    assert_eq!(with(Properties { message_id: Some("x".into()), ..Default::default() }), Err(Some("message_id".into())));
    assert_eq!(
        with(Properties { content_type: Some("text/plain".into()), ..Default::default() }),
        Err(Some("content_type".into()))
    );
}

#[test]
fn a_body_that_cannot_be_read_is_of_the_task_that_its_message_id_names() {
    let id = ID.parse().expect("a UUID");
    let of = |body: &[u8], message_id: &str| {
        let properties = Properties { message_id: Some(message_id.into()), ..Default::default() };
        decode(body, &properties).expect_err("refused").task_id
    };
    assert_eq!(of(b"\x1f\x8b", ID), Some(id));
    assert_eq!(of(&[b' '; MAX_BODY_BYTES + 1], ID), Some(id));
    assert_eq!(of(b"{}", "order 7"), None);
    assert_eq!(of(transfer_with("").as_bytes(), "01920000-0000-7000-8000-000000000002"), Some(id), "the body's own");
}

#[test]
fn a_body_over_64_kib_is_oversize() {
    let letter = decode(&vec![b' '; MAX_BODY_BYTES + 1], &Properties::default()).expect_err("refused");
    assert_eq!(letter.reason, DeadReason::Oversize);
}

#[test]
fn spelling_doesnt_change_the_fingerprint_and_content_does() {
    let plain = decode_plain(&transfer_with(r#","metadata":{"a":"1","b":"2"}"#)).expect("a task");
    let reordered = format!(
        r#" {{"metadata":{{"b":"2","\u0061":"1"}},"currency":"USD","amount":1250,"credit_account":"b","debit_account":"a","type":"transfer","id":"{ID}"}}"#
    );
    assert_eq!(decode_plain(&reordered).expect("a task").fingerprint, plain.fingerprint);
    let altered =
        decode_plain(&transfer_with(r#","metadata":{"a":"1","b":"2"}"#).replace("1250", "1251")).expect("a task");
    assert_ne!(altered.fingerprint, plain.fingerprint);
    assert_eq!(plain.differs_from(&altered), Some("amount"));
    assert_eq!(plain.differs_from(&plain), None);
}

proptest! {
    #[test]
    fn no_bytes_panic(body in proptest::collection::vec(any::<u8>(), 0..300)) {
        let _ = decode(&body, &Properties::default());
    }

    #[test]
    fn a_changed_byte_never_panics_and_never_changes_the_task_unseen(place in 0usize..130, byte in any::<u8>()) {
        let original = transfer_with("");
        let mut body = original.clone().into_bytes();
        let place = place % body.len();
        body[place] = byte;
        let before = decode_plain(&original).expect("a task");
        if let Ok(after) = decode(&body, &Properties::default()) {
            let same = after.id == before.id && after.body == before.body;
            prop_assert_eq!(same, after.id == before.id && after.fingerprint == before.fingerprint);
        }
    }
}

mod refusals;
mod stored;
mod types;
