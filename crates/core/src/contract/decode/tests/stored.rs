//! What earlier versions accepted: refused when it is published, read when the ledger keeps it.

use super::*;
use crate::contract::{AccountChange, SetLimits, When};

const OTHER: &str = "01920000-0000-7000-8000-000000000002";

fn is_refused_and_yet_readable(body: &str, field: &str) -> Task {
    refuses(body.as_bytes(), Some(field), "");
    decode_stored(body.as_bytes()).unwrap_or_else(|letter| panic!("{body}: {}", letter.detail))
}

#[test]
fn null_was_no_limit_and_is_the_same_task_as_the_word() {
    let open = |limit: &str| {
        format!(r#"{{"id":"{ID}","type":"open_account","account":"a","currency":"USD","min_balance":{limit}}}"#)
    };
    let stored = is_refused_and_yet_readable(&open("null"), "min_balance");
    let published = decode_plain(&open(r#""none""#)).expect("a task");
    assert_eq!(stored, published, "a repetition in the new words is a repetition");
    let limits = format!(
        r#"{{"id":"{ID}","type":"set_limits","account":"a","min_balance":null,"max_balance":null,"after":"{OTHER}"}}"#
    );
    let stored = is_refused_and_yet_readable(&limits, "min_balance");
    let TaskBody::ChangeAccount(change) = &stored.body else { panic!("{stored:?}") };
    assert_eq!(change.change, AccountChange::SetLimits(SetLimits { min_balance: Some(None), max_balance: Some(None) }));
    assert_eq!(decode_plain(&limits.replace("null", r#""none""#)), Ok(stored));
}

#[test]
fn what_is_kept_of_a_task_without_a_limit_is_what_the_version_before_reads() {
    let body = format!(
        r#"{{"id":"{ID}","type":"set_limits","account":"a","min_balance":"none","max_balance":7,"after":"{OTHER}"}}"#
    );
    let task = decode_plain(&body).expect("a task");
    assert!(task.body.asks_for_no_limit());
    let kept = task.to_stored_json();
    assert!(kept.contains(r#""min_balance":null"#) && !kept.contains("none"), "{kept}");
    assert_eq!(decode_stored(kept.as_bytes()).as_ref(), Ok(&task));
    assert_eq!(decode_plain(&task.to_json()), Ok(task), "published again it says the word");
}

#[test]
fn an_unset_id_stays_readable_where_it_is_stored() {
    let nil = transfer_with("").replace(ID, "00000000-0000-0000-0000-000000000000");
    assert!(is_refused_and_yet_readable(&nil, "id").id.is_nil());
    let after = transfer_with(r#","after":"00000000-0000-0000-0000-000000000000""#);
    assert!(is_refused_and_yet_readable(&after, "after").when.after.is_some_and(|id| id.is_nil()));
}

#[test]
fn a_time_of_any_year_stays_readable_where_it_is_stored() {
    for text in ["1970-01-01T00:00:00Z", "9999-12-30T22:00:00Z"] {
        let body = transfer_with(&format!(r#","execute_at":"{text}""#));
        let stored = is_refused_and_yet_readable(&body, "execute_at");
        assert_eq!(stored.when, When { execute_at: text.parse().ok(), after: None });
    }
}
