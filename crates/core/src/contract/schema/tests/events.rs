//! The schema of events against what events say.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use serde_json::{Value, json};
use uuid::Uuid;

use super::*;
use crate::contract::{
    BalanceAfter, Currency, Event, EventKind, LegView, PaymentState, PaymentView, Properties, Rejection, Task as Asked,
    TaskType, decode,
};

/// Each of these parts of an event has its own schema.
const PARTS: [(&str, &str); 5] = [
    ("", ""),
    ("/balances", "Balance"),
    ("/legs", "AskedLeg"),
    ("/payment", "Payment"),
    ("/payment/legs", "PaymentLeg"),
];

/// Every field that an event can have, over all types and states, and over what payments can be.
#[test]
fn the_schema_of_events_knows_what_events_say_and_nothing_else() {
    let schema = validator::<EventData<'_>>();
    let mut told: BTreeMap<&str, BTreeSet<String>> = BTreeMap::new();
    for data in events() {
        assert!(schema.is_valid(&data), "{data}: {:?}", schema.validate(&data));
        for (path, part) in PARTS {
            let objects = match data.pointer(path) {
                Some(Value::Array(list)) => list.iter().filter_map(Value::as_object).collect(),
                Some(Value::Object(object)) => vec![object],
                _ => vec![],
            };
            told.entry(part).or_default().extend(objects.into_iter().flat_map(|object| object.keys().cloned()));
        }
    }
    let schema = schema_of::<EventData<'_>>();
    for (_, part) in PARTS {
        let own = if part.is_empty() { schema.as_value() } else { &schema.as_value()["$defs"][part] };
        let described = own["properties"].as_object().expect("properties").keys().cloned().collect();
        assert_eq!(told[part], described, "{part}");
    }
}

/// The data of an event of each task in each state.
fn events() -> Vec<Value> {
    let payments: Vec<Option<Payment>> =
        [None].into_iter().chain(PaymentState::ALL.into_iter().flat_map(payments).map(Some)).collect();
    let mut events = Vec::new();
    for document in tasks::documents() {
        let task = decode(document.to_string().as_bytes(), &Properties::default()).expect("a task");
        let settled = payments.iter().map(|payment| (PaymentState::Settled, None, *payment));
        let others = PaymentState::ALL.into_iter().filter(|state| *state != PaymentState::Rejected);
        let others = others.zip(payments.iter().cycle()).map(|(state, payment)| (state, None, *payment));
        let rejected = Rejection::ALL.into_iter().zip(payments.iter().cycle());
        let rejected = rejected.map(|(reason, payment)| (PaymentState::Rejected, Some(reason), *payment));
        let all = settled.chain(others).chain(rejected);
        events.extend(all.map(|(state, rejection, payment)| data(&task, state, rejection, payment)));
    }
    events
}

fn data(task: &Asked, state: PaymentState, rejection: Option<Rejection>, payment: Option<Payment>) -> Value {
    let balance = BalanceAfter { account: "a", posted: -5, held: Some(0), version: 1, shortfall: 0 };
    let balances = [balance, BalanceAfter { held: None, ..balance }, BalanceAfter { shortfall: 5, ..balance }];
    let properties = Properties { publisher: payment.map(|_| "shop".into()), ..Properties::default() };
    let view = payment.map(view);
    let event = Event {
        kind: EventKind::of(task.body.task_type(), state),
        task,
        properties: &properties,
        state,
        version: 1,
        rejection,
        moved: view.as_ref().filter(|_| rejection.is_none()).map(|_| 5),
        settled_at: Timestamp::UNIX_EPOCH,
        payment: view.as_ref(),
        balances: if rejection.is_none() { &balances } else { &[] },
        source: "settled",
    };
    let mut line = Vec::new();
    event.write(&mut line);
    assert_eq!(line.iter().filter(|byte| **byte == b'\n').count(), 1, "an event is one line");
    let mut document: Value = serde_json::from_slice(&line).expect("JSON");
    assert_eq!((&document["type"], &document["id"]), (&json!(event.kind.name()), &json!(format!("{}/1", task.id))));
    let data = &document["data"];
    let said = (&data["reason"], &data["reason_code"]);
    assert_eq!(said, (&json!(rejection.map(Rejection::name)), &json!(rejection.map(Rejection::iso_code))));
    assert_eq!(data["balances"].as_array().map(Vec::len), Some(event.balances.len()));
    let metadata: Option<Value> = task.body.metadata().map(|json| serde_json::from_str(json).expect("JSON"));
    assert_eq!(data.get("metadata"), metadata.as_ref());
    document["data"].take()
}

/// What a payment's state shows: whether it is listed, and its legs' currencies.
type Payment = (PaymentState, bool, &'static [&'static str]);

/// A payment in a state: with one movement, with legs of one currency, of several, and with none.
fn payments(state: PaymentState) -> [Payment; 4] {
    [(state, false, &["USD"]), (state, true, &["USD", "USD"]), (state, true, &["USD", "JPY"]), (state, false, &[])]
}

fn view<'a>((state, listed, currencies): Payment) -> PaymentView<'a> {
    PaymentView {
        id: Uuid::max(),
        task_type: TaskType::Authorize,
        state,
        version: 2,
        expires_at: state.is_held().then_some(Timestamp::MAX),
        listed,
        legs: currencies.iter().map(|code| movement(code)).collect(),
    }
}

fn movement<'a>(code: &str) -> LegView<'a> {
    let currency = Currency::parse(code).expect("a code");
    let (debit_account, credit_account) = ("a", "b");
    LegView { debit_account, credit_account, currency, amount: 9, held: 1, captured: 8, refunded: 3, charged_back: 2 }
}

#[test]
fn an_amount_that_has_moved_has_its_currency() {
    let refund = json!({"id": Uuid::from_u128(1), "type": "refund", "payment_id": Uuid::from_u128(2)});
    let told = |payment: usize, leg: Option<u8>| {
        let mut document = refund.clone();
        if let Some(leg) = leg {
            document["leg"] = json!(leg);
        }
        let task = decode(document.to_string().as_bytes(), &Properties::default()).expect("a task");
        let payment = payments(PaymentState::Settled)[payment];
        let data = data(&task, PaymentState::Settled, None, Some(payment));
        (data["amount"].as_i64(), data["currency"].as_str().map(str::to_owned))
    };
    assert_eq!(told(0, None), (Some(5), Some("USD".into())));
    assert_eq!(told(1, None), (Some(5), Some("USD".into())));
    assert_eq!(told(2, Some(1)), (Some(5), Some("JPY".into())), "that of the leg");
    assert_eq!(told(2, None), (None, None), "of several currencies there is no amount");
}
