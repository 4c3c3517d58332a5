use serde_json::{Value, json};
use settled_core::contract::{AccountName, EventKind, PaymentState, Rejection, TaskType, decode};
use settled_store::queries::payment::{EventName, PaymentRow};

use super::*;

const ID: u128 = 0x0192_0000_0000_7000_8000_0000_0000_0000;

fn id(number: u128) -> Uuid {
    Uuid::from_u128(ID + number)
}

fn at(second: i64) -> Timestamp {
    Timestamp::new(1_767_225_600 + second, 0).expect("a time")
}

fn name(name: &str) -> AccountName {
    AccountName::parse(name).expect("a name")
}

fn usd() -> Currency {
    Currency::parse("USD").expect("a currency")
}

fn entry(account: &str, seq: i64, amount: i64, balance_after: i64) -> StoredEntry {
    StoredEntry { account: name(account), seq, amount, balance_after }
}

/// A task that was received in that second and decided in the next one.
fn stored(number: u128, second: i64, state: PaymentState, mut fields: Value) -> StoredTask {
    fields["id"] = json!(id(number));
    StoredTask {
        task: decode(fields.to_string().as_bytes(), &Properties::default()).expect("a task"),
        state,
        rejection: None,
        publisher: Some("shop".into()),
        version: 1,
        moved: None,
        received_at: at(second),
        settled_at: at(second + 1),
        entries: Vec::new(),
        payment: None,
    }
}

fn step(version: i32, second: i64, state: PaymentState, cause: Option<u128>, event: (u128, i32, EventKind)) -> Step {
    let (task, of_version, kind) = event;
    let event = EventName { id: format!("{}/{of_version}", id(task)), kind };
    Step { version, state, iso_status: state.iso_status(), at: at(second), cause: cause.map(id), event }
}

/// 100 are held, 40 of them captured, more than that asked back.
fn authorization() -> Life {
    let terms = json!({"type": "authorize", "debit_account": "alice", "credit_account": "shop", "amount": 10_000,
                       "currency": "USD", "reference": "order-1"});
    let mut task = stored(1, 0, PaymentState::PartiallyCaptured, terms);
    task.version = 2;
    task.payment = Some(WholePayment {
        id: id(1),
        task_type: TaskType::Authorize,
        state: PaymentState::PartiallyCaptured,
        version: 2,
        expires_at: Some(at(3600)),
        listed: false,
        is_plain: false,
        legs: vec![WholeLeg {
            debit_account: name("alice"),
            credit_account: name("shop"),
            currency: usd(),
            amount: 10_000,
            captured: 4_000,
            refunded: 0,
            charged_back: 0,
        }],
    });
    let ask = |kind: &str, amount: i64| json!({"type": kind, "payment_id": id(1), "amount": amount});
    let mut capture = stored(2, 9, PaymentState::Settled, ask("capture", 4_000));
    capture.moved = Some(4_000);
    capture.entries = vec![entry("alice", 7, -4_000, 96_000), entry("shop", 12, 4_000, 104_000)];
    let mut refund = stored(3, 19, PaymentState::Rejected, ask("refund", 5_000));
    refund.moved = Some(5_000);
    refund.rejection = Some(Rejection::AmountExceedsRemaining);
    let steps = vec![
        step(1, 1, PaymentState::Authorized, Some(1), (1, 1, EventKind::PaymentAuthorized)),
        step(2, 10, PaymentState::PartiallyCaptured, Some(2), (2, 1, EventKind::PaymentCaptured)),
    ];
    Life { task, steps, follow_ups: vec![capture, refund], parent: None, waits: None, awaited_by: vec![id(9)] }
}

fn drawn(life: &Life) -> Text {
    human(life, &Currencies::default())
}

#[test]
fn an_authorization_is_drawn_with_its_follow_ups() {
    insta::assert_snapshot!(drawn(&authorization()).as_str());
}

#[test]
fn a_follow_up_that_waits_is_drawn_with_what_it_waits_for() {
    let task = stored(5, 0, PaymentState::Parked, json!({"type": "capture", "payment_id": id(1), "final": false}));
    let steps = vec![step(1, 1, PaymentState::Parked, Some(5), (5, 1, EventKind::PaymentParked))];
    let waits = Some(Waits { waits_for: Some(id(1)), due_at: at(2), deadline: at(900) });
    let life = Life { task, steps, follow_ups: Vec::new(), parent: None, waits, awaited_by: Vec::new() };
    insta::assert_snapshot!(drawn(&life).as_str());
}

#[test]
fn what_is_scheduled_is_drawn_with_its_legs_and_what_it_did_to_its_payment_with_the_step() {
    let leg = |credit: &str, amount: i64, currency: &str| json!({"debit_account": "alice", "credit_account": credit, "amount": amount, "currency": currency});
    let legs = json!({"type": "transfer", "legs": [leg("shop", 900, "USD"), leg("tax", 100, "JPY")],
                      "execute_at": "2026-02-01T00:00:00+01:00"});
    let task = stored(6, 0, PaymentState::Scheduled, legs);
    let steps = vec![step(1, 1, PaymentState::Scheduled, Some(6), (6, 1, EventKind::PaymentScheduled))];
    let waits = Some(Waits { waits_for: None, due_at: at(2_674_800), deadline: at(2_674_800) });
    let scheduled = Life { task, steps, follow_ups: Vec::new(), parent: None, waits, awaited_by: Vec::new() };

    let whole = authorization();
    let mut task = whole.follow_ups[0].clone();
    task.payment.clone_from(&whole.task.payment);
    let payment = PaymentRow {
        id: id(1),
        task_type: "authorize".into(),
        state: "partially_captured".into(),
        reason: None,
        payment_id: None,
        account: None,
        debit_account: Some("alice".into()),
        credit_account: Some("shop".into()),
        amount: Some(10_000),
        legs: None,
        currency: Some("USD".into()),
        reference: None,
        publisher: None,
        settled_at: at(1),
    };
    let (from, to) = (PaymentState::Authorized, PaymentState::PartiallyCaptured);
    let parent = Some(Parent { payment, moved: Some(Moved { version: 2, from, to }) });
    let steps = vec![step(1, 10, PaymentState::Settled, Some(2), (2, 1, EventKind::PaymentCaptured))];
    let capture = Life { task, steps, follow_ups: Vec::new(), parent, waits: None, awaited_by: Vec::new() };
    insta::assert_snapshot!([drawn(&scheduled).as_str(), drawn(&capture).as_str()].join("\n"));
}

#[test]
fn the_json_has_everything_once() {
    let life = authorization();
    let json = serde_json::to_value(Whole(&life)).expect("JSON");
    assert_eq!((&json["payment"]["held"], &json["iso_status"]), (&json!(6_000), &json!("ACSP")));
    assert_eq!(json["steps"][1]["event"], json!({"id": format!("{}/1", id(2)), "type": "payment.captured"}));
    assert_eq!(
        (&json["follow_ups"][0]["entries"][1]["account"], json["follow_ups"][0].get("payment")),
        (&json!("shop"), None)
    );
    assert_eq!(json["follow_ups"][1]["reason"], "amount_exceeds_remaining");
    assert_eq!(json["awaited_by"], json!([id(9)]));
}
