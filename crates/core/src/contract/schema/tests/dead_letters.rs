//! The schema of dead letters against what is told of them.

use std::collections::BTreeSet;

use jiff::Timestamp;
use serde_json::Value;
use uuid::Uuid;

use super::*;
use crate::contract::{DeadLetterEvent, DeadReason, Properties, TaskType};

#[test]
fn the_schema_of_dead_letters_knows_what_is_told_of_them_and_nothing_else() {
    let validator = validator::<DeadLetterData<'_>>();
    let of = |reason, whole: bool, properties: &Properties| {
        let mut line = Vec::new();
        let event = DeadLetterEvent {
            digest: &[7; 32],
            task_id: whole.then(|| Uuid::from_u128(7)),
            task_type: whole.then_some(TaskType::Transfer),
            reason,
            field: whole.then_some("amount"),
            detail: "`amount`: missing",
            properties,
            at: Timestamp::UNIX_EPOCH,
            source: "settled",
        };
        event.write(&mut line);
        let event: Value = serde_json::from_slice(&line).expect("JSON");
        let data = event["data"].clone();
        assert!(validator.is_valid(&data), "{data}: {:?}", validator.validate(&data));
        data
    };
    let named = Properties {
        message_id: Some("order 7".into()),
        correlation_id: Some("7".into()),
        publisher: Some("shop".into()),
        ..Properties::default()
    };
    let schema = schema_of::<DeadLetterData<'_>>();
    let keys = |object: &Value| -> BTreeSet<String> { object.as_object().expect("fields").keys().cloned().collect() };
    for reason in DeadReason::ALL {
        of(reason, false, &Properties::default());
        assert_eq!(keys(&of(reason, true, &named)), keys(&schema.as_value()["properties"]));
    }
}
