//! Single values: names, ids, currencies, metadata, what times and durations are written as.

use settled_core::contract::{
    AccountName, Currencies, Currency, DeadReason, MessageId, PaymentState, Rejection, TaskType, canonical_metadata,
};
use uuid::Uuid;

/// A text, as each of them.
pub fn check(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    if let Some(name) = AccountName::parse(text) {
        assert!(name.as_str() == text && text.is_ascii() && (1..=64).contains(&text.len()));
    }
    if let Some(currency) = Currency::parse(text) {
        assert_eq!(currency.to_string(), text);
        for minor in [i64::MIN, -1, 0, 1, i64::MAX] {
            let shown = Currencies::default().format(currency, minor);
            let digits: String = shown.chars().filter(|c| *c != '.').collect();
            assert_eq!(digits.parse(), Ok(minor), "{shown}");
        }
    }
    let id = MessageId::from(text);
    assert_eq!(id.to_string(), text);
    assert_eq!(id.is(Uuid::nil()), Uuid::try_parse(text) == Ok(Uuid::nil()));
    if let Some(canonical) = canonical_metadata(text) {
        assert_eq!(canonical_metadata(&canonical), Some(canonical));
    }
    assert!(DeadReason::from_name(text).is_none_or(|reason| reason.name() == text));
    assert!(TaskType::from_name(text).is_none_or(|task_type| task_type.name() == text));
    assert!(PaymentState::from_name(text).is_none_or(|state| state.name() == text));
    assert!(Rejection::from_name(text).is_none_or(|rejection| rejection.name() == text));
    // One of them is enough: reading a command line takes longer than all of the above.
    let arguments = ["--since", "--timeout", "--account", "--of", "--limit"];
    let argument = arguments[text.len() % arguments.len()];
    super::arguments::read(["payment".into(), "list".into(), format!("{argument}={text}").into()].into_iter());
}
