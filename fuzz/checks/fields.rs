//! Bodies that are nearly tasks: sound ones of every type, with a few fields changed.

use std::fmt::Write;

use jiff::Timestamp;
use settled_core::contract::{Message, Properties};

use super::draw::Draw;
use super::task::holds_of;

const ID: &str = r#""01920000-0000-7000-8000-000000000001""#;

/// A field, and its value as JSON.
type Field = (String, String);

/// Sound tasks, one a line: the fields of each, with their values as JSON.
const TASKS: &str = r#"
type="open_account" account="customer:alice" currency="USD"
type="open_account" account="a" currency="EUR" min_balance="none"
type="transfer" debit_account="a" credit_account="b" amount=1250 currency="USD"
type="transfer" debit_account="a" credit_account="b" amount=1 currency="JPY" reference="order-1" metadata={"z":"1","a":"é"}
type="transfer" legs=LEGS execute_at="2030-02-01T09:00:00Z"
type="authorize" debit_account="a" credit_account="b" amount=5 currency="USD" expires_in=259200
type="authorize" legs=LEGS metadata={}
type="capture" payment_id=OTHER amount=12000 leg=1 final=false
type="void" payment_id=OTHER
type="refund" payment_id=OTHER amount=1000 leg=0
type="chargeback" payment_id=OTHER amount=1 reference="case-7"
type="chargeback_reversal" payment_id=OTHER amount=1 after=OTHER
type="cancel" payment_id=OTHER
type="set_limits" account="a" min_balance=-5000 max_balance="none"
type="freeze_account" account="a"
type="close_account" account="a" execute_at="2030-01-31T10:00:00.000001+01:00"
"#;

const OTHER: &str = r#""01920000-0000-7000-8000-000000000002""#;
const LEGS: &str = r#"[{"debit_account":"a","credit_account":"b","amount":1,"currency":"USD"},{"debit_account":"b","credit_account":"c","amount":2,"currency":"EUR"}]"#;

const NAMES: &str = "id type account debit_account credit_account amount currency min_balance max_balance reference \
                     metadata payment_id legs leg final expires_in execute_at after colour";

/// Values at the edges of what fields take.
const EDGES: &str = r#"
null true false 0 -0 1 -1 1.0 1e2 63 64 255 256 4294967295 4294967296 1000000000000000 1000000000000001
9223372036854775807 9223372036854775808 -9223372036854775808 -9223372036854775809 18446744073709551616
"" "\u0000" "\ud83d\ude00" "\ud800" "XXX" "QQQ" {} [] LEGS OTHER ID "none"
"00000000-0000-0000-0000-000000000000" "FFFFFFFF-FFFF-7FFF-BFFF-FFFFFFFFFFFF"
"1970-01-01T00:00:00Z" "1969-12-31T23:59:59.999999Z" "2001-12-31T23:59:59.999999Z" "2002-01-01T00:00:00+23:59"
"9998-12-31T23:59:59.999999-23:59" "9999-12-30T22:00:00.999999Z" "9999-12-31T23:59:59.999999Z"
"2016-12-31T23:59:60Z" "2030-01-31T10:00:00+23:59" {"\u0061":"1"}
"#;

/// A value of the texts above, in which some have names.
fn named(value: &str) -> &str {
    match value {
        "ID" => ID,
        "OTHER" => OTHER,
        "LEGS" => LEGS,
        value => value,
    }
}

fn word<'a>(text: &'a str, draw: &mut Draw<'_>) -> &'a str {
    draw.pick(&text.split_whitespace().collect::<Vec<_>>())
}

/// The changes are drawn from the bytes.
pub fn check(data: &[u8]) {
    let mut draw = Draw::new(data);
    let sound = draw.pick(&TASKS.trim().lines().collect::<Vec<_>>());
    let mut fields: Vec<Field> = vec![("id".into(), ID.into())];
    let pairs = sound.split(' ').filter_map(|field| field.split_once('='));
    fields.extend(pairs.map(|(name, value)| (name.into(), named(value).into())));
    while !draw.is_empty() && fields.len() < 32 {
        change(&mut fields, &mut draw);
    }
    let body = write(&fields, "");
    let message = Message::read(body.clone().into_bytes(), Properties::default(), Timestamp::UNIX_EPOCH);
    holds_of(&message);
    fields.reverse();
    let reversed = write(&fields, "\n\t ");
    let other = Message::read(reversed.into_bytes(), Properties::default(), Timestamp::UNIX_EPOCH);
    assert_eq!(message.content.is_ok(), other.content.is_ok(), "{body}: order decides");
    if let (Ok(one), Ok(other)) = (&message.content, &other.content) {
        assert_eq!(one, other, "{body}: order decides");
    }
}

fn change(fields: &mut Vec<Field>, draw: &mut Draw<'_>) {
    let place = usize::from(draw.byte()) % fields.len();
    match draw.byte() % 6 {
        0 => fields[place].1 = value(draw),
        1 => fields.push((word(NAMES, draw).into(), value(draw))),
        2 if fields.len() > 1 => drop(fields.remove(place)),
        3 => fields[place].0 = word(NAMES, draw).into(),
        4 => fields.push((draw.text(), value(draw))),
        _ => {
            let to = usize::from(draw.byte()) % fields.len();
            fields.swap(place, to);
        }
    }
}

fn value(draw: &mut Draw<'_>) -> String {
    match draw.byte() % 4 {
        0 => named(word(EDGES, draw)).into(),
        1 => quoted(&draw.text()),
        2 => i64::from_be_bytes([(); 8].map(|()| draw.byte())).to_string(),
        // A list of pairs, as metadata has them.
        _ => {
            let pairs = usize::from(draw.byte()) % 53;
            let pairs: Vec<String> =
                (0..pairs).map(|_| format!("{}:{}", quoted(&draw.text()), quoted(&draw.text()))).collect();
            format!("{{{}}}", pairs.join(","))
        }
    }
}

fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

fn write(fields: &[Field], space: &str) -> String {
    let mut body = String::from("{");
    for (place, (name, value)) in fields.iter().enumerate() {
        let comma = if place == 0 { "" } else { "," };
        // Writing to a string can't fail.
        let _ = write!(body, "{comma}{space}{}{space}:{space}{value}{space}", quoted(name));
    }
    body.push('}');
    body
}
