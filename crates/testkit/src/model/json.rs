//! Converts tasks to JSON, as publishers write them.

use serde_json::{Map, Value, json};

use super::super::contract::{AccountChange, Action, Leg, Task, TaskBody, Terms};

/// Returns the JSON document of the task, without fields that have their default.
pub fn json(task: &Task) -> Value {
    let mut fields = body(&task.body);
    fields.insert("id".to_owned(), json!(task.id));
    fields.insert("type".to_owned(), json!(task.body.task_type().name()));
    let given = [
        ("execute_at", task.when.execute_at.map(|at| json!(at.to_string()))),
        ("after", task.when.after.map(|after| json!(after))),
        ("reference", task.body.reference().map(|reference| json!(reference))),
        ("metadata", task.body.metadata().and_then(|metadata| serde_json::from_str(metadata).ok())),
    ];
    put(&mut fields, given);
    Value::Object(fields)
}

fn body(body: &TaskBody) -> Map<String, Value> {
    let mut fields = Map::new();
    match body {
        TaskBody::OpenAccount(open) => put(
            &mut fields,
            [
                ("account", Some(json!(open.account))),
                ("currency", Some(json!(open.currency))),
                ("min_balance", Some(limit(open.min_balance)).filter(|limit| *limit != json!(0))),
            ],
        ),
        TaskBody::Transfer(transfer) => put(
            &mut fields,
            [
                ("debit_account", Some(json!(transfer.debit_account))),
                ("credit_account", Some(json!(transfer.credit_account))),
                ("amount", Some(json!(transfer.amount))),
                ("currency", Some(json!(transfer.currency))),
            ],
        ),
        TaskBody::Split(split) => put(&mut fields, [("legs", Some(legs(&split.legs)))]),
        TaskBody::Authorize(authorize) => {
            match &authorize.terms {
                Terms::One(one) => fields = leg(one),
                Terms::Legs(several) => put(&mut fields, [("legs", Some(legs(several)))]),
            }
            put(&mut fields, [("expires_in", authorize.expires_in.map(|seconds| json!(seconds)))]);
        }
        TaskBody::FollowUp(follow_up) => {
            let goes_on = matches!(follow_up.action, Action::Capture { is_final: false, .. });
            put(
                &mut fields,
                [
                    ("payment_id", Some(json!(follow_up.payment_id))),
                    ("amount", follow_up.action.amount().map(|amount| json!(amount))),
                    ("leg", follow_up.action.leg().map(|leg| json!(leg))),
                    ("final", goes_on.then_some(Value::Bool(false))),
                ],
            );
        }
        TaskBody::ChangeAccount(change) => {
            put(&mut fields, [("account", Some(json!(change.account)))]);
            if let AccountChange::SetLimits(limits) = change.change {
                put(
                    &mut fields,
                    [("min_balance", limits.min_balance.map(limit)), ("max_balance", limits.max_balance.map(limit))],
                );
            }
        }
    }
    fields
}

fn limit(limit: Option<i64>) -> Value {
    limit.map_or_else(|| "none".into(), Value::from)
}

fn legs(legs: &[Leg]) -> Value {
    legs.iter().map(leg).map(Value::Object).collect()
}

fn leg(leg: &Leg) -> Map<String, Value> {
    let mut fields = Map::new();
    put(
        &mut fields,
        [
            ("debit_account", Some(json!(leg.debit_account))),
            ("credit_account", Some(json!(leg.credit_account))),
            ("amount", Some(json!(leg.amount))),
            ("currency", Some(json!(leg.currency))),
        ],
    );
    fields
}

fn put<const N: usize>(fields: &mut Map<String, Value>, given: [(&str, Option<Value>); N]) {
    fields.extend(given.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))));
}
