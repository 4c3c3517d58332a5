//! Messages that somebody could publish and hardly anybody would have tried.

use lapin::BasicProperties;
use lapin::types::{AMQPValue, FieldTable, ShortString};
use serde_json::{Value, json};
use settled_testkit::harness::{Publisher, Task, authorize, change, follow_up, open, split, transfer};
use uuid::Uuid;

/// What a message has to come to.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Ends {
    /// The state of its task.
    Is(&'static str),
    /// The rejection of its task.
    Rejected(&'static str),
    /// A dead letter that names the field.
    Dead(Option<&'static str>),
}

/// A field's name, as far as a dead letter keeps it.
const LONG_NAME: &str = "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx";

const SETTLED: Ends = Ends::Is("settled");

/// A message, and what has to come of it.
pub(crate) struct Odd {
    pub(crate) what: String,
    pub(crate) routing_key: String,
    pub(crate) body: Vec<u8>,
    pub(crate) properties: BasicProperties,
    pub(crate) id: Uuid,
    pub(crate) ends: Ends,
}

impl Odd {
    fn new(what: impl Into<String>, task: &Task, ends: Ends) -> Self {
        let (routing_key, body) = (task.routing_key(), task.body().into_bytes());
        Self { what: what.into(), routing_key, body, properties: Publisher::properties(task), id: task.id, ends }
    }

    fn ending(self, ends: Ends) -> Self {
        Self { ends, ..self }
    }

    /// A settled transfer with other properties.
    fn with(what: &str, change: impl FnOnce(BasicProperties) -> BasicProperties) -> Self {
        let odd = Self::new(what, &pay(), SETTLED);
        Self { properties: change(odd.properties), ..odd }
    }

    /// A transfer with another body.
    fn written(what: &str, ends: Ends, write: impl FnOnce(String) -> Vec<u8>) -> Self {
        let odd = Self::new(what, &pay().with("reference", "REF"), ends);
        let body = write(String::from_utf8(odd.body).expect("JSON"));
        Self { body, ..odd }
    }
}

fn pay() -> Task {
    transfer("world", "alice", 1)
}

fn header(value: AMQPValue) -> impl FnOnce(BasicProperties) -> BasicProperties {
    move |properties| {
        let mut headers = FieldTable::default();
        headers.insert("tracestate".into(), value);
        properties.with_headers(headers)
    }
}

/// All of them; each is published in a batch with others.
pub(crate) fn all() -> Vec<Odd> {
    [texts(), metadata(), spellings(), malformed(), properties(), numbers(), times(), sizes(), follow_ups()]
        .into_iter()
        .flatten()
        .collect()
}

/// Characters that some program, some day, has had trouble with.
fn texts() -> Vec<Odd> {
    let characters =
        [0x1, 0x7f, 0x80, 0xfeff, 0xfffd, 0xfffe, 0xffff, 0xfdd0, 0x1fffe, 0x10ffff, 0xe000, 0x202e, 0x200b, 0x2028];
    let characters = characters.map(|code| char::from_u32(code).expect("a character").to_string());
    let texts = ["\\u0000", "\\", "\"", "'; --", "\r\n", "{}", "NULL", "\\N", "$1", "%s", "e\u{301}", "\u{130}ß"];
    let longer = ["\u{d7ff}\u{e000}", "\u{1f468}\u{200d}\u{1f469}\u{200d}\u{1f467}"];
    let odd = |text: &str| Odd::new(format!("the reference {text:?}"), &pay().with("reference", text), SETTLED);
    let mut all: Vec<Odd> = characters.iter().map(|text| odd(text)).collect();
    all.extend(texts.into_iter().chain(longer).map(odd));
    all.push(odd(&"😀".repeat(140)));
    all.push(Odd::new("a reference of 141", &pay().with("reference", "😀".repeat(141)), Ends::Dead(Some("reference"))));
    all
}

/// What PostgreSQL keeps as `jsonb`.
fn metadata() -> Vec<Odd> {
    let with = |what: &str, metadata: Value| Odd::new(what, &pay().with("metadata", metadata), SETTLED);
    let pairs = |pairs: &[(String, String)]| -> Value { pairs.iter().map(|(k, v)| (k.clone(), json!(v))).collect() };
    let many: Vec<_> = (0..50).map(|n| (format!("{n:02}{}", "k".repeat(62)), "v".repeat(500))).collect();
    let wide: Vec<_> = (0..30).map(|n| (format!("{n:02}{}", "\u{10ffff}".repeat(62)), "😀".repeat(450))).collect();
    let escaped: Vec<_> = (0..20).map(|n| (n.to_string(), "\u{1}".repeat(500))).collect();
    vec![
        with("no metadata", json!({})),
        with("a value without characters", json!({"k": ""})),
        with("names that differ in their composition", json!({"é": "1", "e\u{301}": "2"})),
        with("names that other languages know", json!({"__proto__": "1", "constructor": "2", "$ref": "3", "": ""}))
            .ending(Ends::Dead(Some("metadata"))),
        with("backslashes before u0000", json!({"\\u0000": "\\u0000", "\\\\u0000": "\\"})),
        with("control characters", json!({"\u{1}\u{1f}": "\u{8}\u{c}\n\r\t\u{7f}\u{80}"})),
        with("noncharacters", json!({"\u{ffff}": "\u{fdd0}\u{10ffff}"})),
        with("50 keys, all as long as may be", pairs(&many)),
        with("four bytes a character", pairs(&wide)),
        with("six bytes a character", pairs(&escaped)),
        with("51 keys", pairs(&[many, vec![("more".into(), String::new())]].concat()))
            .ending(Ends::Dead(Some("metadata"))),
    ]
}

/// JSON that says the same in another way, or nothing that there is.
fn spellings() -> Vec<Odd> {
    let reference = |what: &str, json: &'static str, ends| {
        Odd::written(what, ends, move |body| body.replace("\"REF\"", json).into_bytes())
    };
    let dead = Ends::Dead(Some("reference"));
    vec![
        reference("a pair of surrogates", r#""\ud83d\ude00""#, SETTLED),
        reference("a surrogate alone", r#""\ud83d""#, dead),
        reference("surrogates the wrong way round", r#""\ude00\ud83d""#, dead),
        reference("a NUL", r#""a\u0000""#, dead),
        reference("a NUL as a name", r#""r","metadata":{"\u0000":""}"#, Ends::Dead(Some("metadata"))),
        reference("a NUL as a value", r#""r","metadata":{"k":"\u0000"}"#, Ends::Dead(Some("metadata"))),
        reference("a NUL where a flag should be", r#""r","final":"\u0000""#, Ends::Dead(Some("final"))),
        reference("a NUL in the name of no field", r#""r","\u0000":1"#, Ends::Dead(None)),
        Odd::written("an overlong encoding", dead, |body| bytes(&body, b"\xc0\x80")),
        Odd::written("a surrogate as UTF-8", dead, |body| bytes(&body, b"\xed\xa0\x80")),
        Odd::written("beyond the last character", dead, |body| bytes(&body, b"\xf4\x90\x80\x80")),
        Odd::written("a raw NUL", dead, |body| bytes(&body, b"\0")),
        Odd::written("a byte order mark", Ends::Dead(None), |body| format!("\u{feff}{body}").into_bytes()),
        Odd::written("white space up to the limit", SETTLED, |mut body| {
            body.extend(std::iter::repeat_n('\n', 65_536 - body.len()));
            body.into_bytes()
        }),
        Odd::written("every character escaped", SETTLED, |body| {
            let escaped: String = "REF".chars().map(|c| format!("\\u{:04x}", c as u32)).collect();
            body.replace("REF", &escaped).into_bytes()
        }),
    ]
}

/// What is not the contract.
fn malformed() -> Vec<Odd> {
    let plain = || BasicProperties::default().with_content_type("application/json".into());
    let dead = |what: &str, field, body: String| {
        let odd = Odd::new(format!("{what}, malformed"), &pay(), Ends::Dead(field));
        Odd { body: body.into_bytes(), properties: plain(), ..odd }
    };
    let task = |field: &'static str, task: Task| dead(field, Some(field), task.body());
    let amount = |amount: &str| pay().body().replace("\"amount\":1,", &format!("\"amount\":{amount},"));
    let reference = |json: &str| pay().with("reference", "REF").body().replace("\"REF\"", json);
    let mut all = vec![
        task("colour", pay().with("colour", "red")),
        task("min_balance", pay().with("min_balance", 0)),
        task("amount", open("x", "USD", None).with("amount", 5)),
        task("metadata", pay().with("metadata", json!({"k": 1}))),
        task("metadata", pay().with("metadata", json!(["k"]))),
        task("type", pay().with("type", "gift")),
        task("id", pay().with("id", "7")),
        task("id", pay().with("id", pay().id.simple().to_string())),
        task("min_balance", open("x", "USD", None).with("min_balance", Value::Null)),
        task("max_balance", change("set_limits", "world").with("max_balance", Value::Null)),
        task("currency", pay().with("currency", "usd")),
        task("debit_account", pay().with("debit_account", "a b")),
        dead("the same field twice", Some("amount"), pay().body().replacen('{', "{\"amount\":1,", 1)),
        dead("an empty reference", Some("reference"), reference("\"\"")),
        dead("no reference", Some("reference"), reference("null")),
        dead("a key twice", Some("metadata"), reference(r#""r","metadata":{"k":"1","k":"2"}"#)),
        dead("a list", None, json!([pay().id, "transfer", "world", "alice", 5, "USD"]).to_string()),
        dead("nothing", None, String::new()),
        dead("no JSON", None, "nonsense".to_owned()),
        dead("null", None, "null".to_owned()),
        dead("two tasks", None, pay().body() + &pay().body()),
        dead("a list of lists", None, "[".repeat(10_000)),
        Odd { body: vec![0xff, 0xfe, 0x00], ..dead("no text", None, String::new()) },
    ];
    for wrong in ["12.5", "1.0", "1e2", "\"1250\"", "null", "true", "[1]", "9223372036854775808", "-0.0", "01", "NaN"] {
        all.push(dead(&format!("an amount of {wrong}"), Some("amount"), amount(wrong)));
    }
    for field in ["id", "type", "debit_account", "credit_account", "amount", "currency"] {
        all.push(task(field, pay().without(field)));
    }
    let property = |what: &str, field, properties| Odd { properties, ..dead(what, Some(field), pay().body()) };
    all.push(property("XML", "content_type", plain().with_content_type("text/xml".into())));
    for id in ["0192", "NUL \0 in it", &pay().id.to_string()] {
        all.push(property("another id", "message_id", plain().with_message_id(id.into())));
    }
    all
}

/// The body with these bytes as its reference.
fn bytes(body: &str, reference: &[u8]) -> Vec<u8> {
    let (before, after) = body.split_once("REF").expect("a reference");
    [before.as_bytes(), reference, after.as_bytes()].concat()
}

/// What comes beside the body.
fn properties() -> Vec<Odd> {
    let longest = ShortString::from("é".repeat(127).as_str());
    let table: FieldTable = {
        let mut inner = FieldTable::default();
        inner.insert("float".into(), AMQPValue::Double(-0.0));
        inner.insert("void".into(), AMQPValue::Void);
        inner.insert("time".into(), AMQPValue::Timestamp(u64::MAX));
        inner
    };
    let mut all = vec![
        Odd::with("a publisher with 127 accents", |properties| properties.with_app_id(longest.clone())),
        Odd::with("a publisher of nothing but NUL", |properties| {
            properties.with_app_id("\0".repeat(255).as_str().into())
        }),
        Odd::with("a publisher without characters", |properties| properties.with_app_id("".into())),
        Odd::with("a timestamp of 0", |properties| properties.with_timestamp(0)),
        Odd::with("a timestamp after the last", |properties| properties.with_timestamp(u64::MAX)),
        Odd::with("a timestamp of the largest i64", |properties| properties.with_timestamp(i64::MAX.cast_unsigned())),
        Odd::with("a reply to a queue that nobody has", |properties| {
            properties.with_reply_to(longest.clone()).with_correlation_id(longest.clone())
        }),
        Odd::with("a reply to the tasks' exchange", |properties| properties.with_reply_to("payments".into())),
        Odd::with("a reply to nowhere, directly", |properties| {
            properties.with_reply_to("amq.rabbitmq.reply-to.nobody".into())
        }),
        Odd::with("a direct reply that looks like one", |properties| {
            properties.with_reply_to("amq.rabbitmq.reply-to.g1h2AA5yYWJiaXRAbG9jYWxob3N0AAAB9AAAAABl.bm9ib2R5".into())
        }),
        Odd::with("a direct reply of other characters", |properties| {
            properties.with_reply_to("amq.rabbitmq.reply-to.\u{1}é.*".into())
        }),
        Odd::with("a priority", |properties| properties.with_priority(255).with_delivery_mode(1)),
        Odd::with("an encoding", |properties| {
            properties.with_content_encoding("gzip".into()).with_type("\u{1}".into())
        }),
        Odd::with("a table as trace state", header(AMQPValue::FieldTable(table))),
        Odd::with("a trace state that isn't UTF-8", header(AMQPValue::LongString(vec![0xff; 512].into()))),
        Odd::with("a trace state of 100 KiB", header(AMQPValue::LongString("x".repeat(100 << 10).into()))),
        Odd::with("a trace state that fills a frame", header(AMQPValue::LongString("x".repeat(130_800).into()))),
        Odd::with("a trace state of 100 KiB of NUL", header(AMQPValue::LongString(vec![0; 100 << 10].into()))),
        Odd::with(
            "a trace state of 100 KiB that isn't UTF-8",
            header(AMQPValue::LongString(vec![0xff; 100 << 10].into())),
        ),
    ];
    // Each NUL is three bytes longer once it is replaced: too long to be published as it was.
    let nul = "\0".repeat(250);
    let mut contradicts = |what: &str, field: &'static str, change: &dyn Fn(BasicProperties) -> BasicProperties| {
        all.push(Odd { ends: Ends::Dead(Some(field)), ..Odd::with(what, change) });
    };
    contradicts("an id of NUL", "message_id", &|properties| properties.with_message_id(nul.as_str().into()));
    contradicts("a content type of NUL", "content_type", &|properties| {
        properties.with_content_type(nul.as_str().into()).with_app_id(nul.as_str().into())
    });
    contradicts("an id of accents", "message_id", &|properties| {
        properties.with_message_id(longest.clone()).with_correlation_id(nul.as_str().into())
    });
    all.push(Odd {
        routing_key: format!("task.{nul}"),
        ..Odd::written("a routing key of NUL", Ends::Dead(Some("reference")), |body| bytes(&body, b"\xff"))
    });
    for key in ["task.", "task.\u{1}", "task.é.*.#", &format!("task.{}", "x".repeat(250))] {
        all.push(Odd { routing_key: key.to_owned(), ..Odd::new(format!("the routing key {key}"), &pay(), SETTLED) });
    }
    all
}

fn numbers() -> Vec<Odd> {
    let range = Ends::Rejected("amount_out_of_range");
    let mut all = Vec::new();
    for amount in [i64::MIN, -1, 0, 1_000_000_000_000_001, i64::MAX] {
        let legs = [("world", "alice", 1), ("world", "alice", amount)];
        all.push(Odd::new(format!("a transfer of {amount}"), &transfer("world", "alice", amount), range));
        all.push(Odd::new(format!("a hold of {amount}"), &authorize("world", "alice", amount), range));
        all.push(Odd::new(format!("a leg of {amount}"), &split(&legs), range));
        all.push(Odd::new(format!("a refund of {amount}"), &follow_up("refund", &pay(), Some(amount)), range));
    }
    all.push(Odd::new("the largest transfer", &transfer("world", "alice", 1_000_000_000_000_000), SETTLED));
    for limit in [i64::MIN, i64::MAX, 1_000_000_000_000_000_001] {
        let limits = change("set_limits", "alice").with("min_balance", limit);
        all.push(Odd::new(format!("a limit of {limit}"), &limits, range));
        let limits = change("set_limits", "alice").with("max_balance", limit);
        all.push(Odd::new(format!("an upper limit of {limit}"), &limits, range));
    }
    all.push(Odd::new("an account's lowest limit", &open("low", "USD", Some(i64::MIN)), range));
    let widest = change("set_limits", "alice").with("min_balance", -1_000_000_000_000_000_000_i64);
    all.push(Odd::new("the widest limits", &widest.with("max_balance", 1_000_000_000_000_000_000_i64), SETTLED));
    all.push(Odd::new(
        "the longest hold",
        &authorize("world", "alice", 1).with("expires_in", u32::MAX),
        Ends::Rejected("expiry_out_of_range"),
    ));
    for currency in ["XXX", "XTS", "QQQ"] {
        let (pays, opens) = (pay().with("currency", currency), open(&format!("in:{currency}"), currency, Some(0)));
        all.push(Odd::new(format!("the currency {currency}"), &pays, Ends::Rejected("currency_mismatch")));
        all.push(Odd::new(format!("an account in {currency}"), &opens, Ends::Rejected("unknown_currency")));
    }
    all
}

/// Moments and ids at the edges.
fn times() -> Vec<Odd> {
    let (scheduled, dead) = (Ends::Is("scheduled"), Ends::Dead(Some("execute_at")));
    let moments = [
        ("2002-01-01T00:00:00Z", SETTLED),
        ("2002-01-01T00:00:00.000001+00:00", SETTLED),
        ("2016-12-31T23:59:60Z", dead),
        ("1970-01-01T00:00:00Z", dead),
        ("2002-01-01T00:00:00+00:01", dead),
        ("9998-12-31T23:59:59.999999Z", scheduled),
        ("9998-12-31T22:00:00.000000-00:00", scheduled),
        ("9999-12-31T23:59:59Z", dead),
        ("9998-12-31T21:59:00-23:59", dead),
        ("2030-02-30T00:00:00Z", dead),
        ("0000-01-01T00:00:00Z", dead),
    ];
    let at = |(moment, ends)| Odd::new(format!("the moment {moment}"), &pay().with("execute_at", moment), ends);
    let mut all: Vec<Odd> = moments.into_iter().map(at).collect();
    let ids = [
        ("00000000-0000-0000-0000-000000000000", false),
        ("ffffffff-ffff-ffff-ffff-ffffffffffff", false),
        ("ffffffff-ffff-7fff-bfff-ffffffffffff", false),
        ("00000000-0000-1000-8000-000000000000", false),
        ("FFFFFFFF-FFFF-4FFF-BFFF-FFFFFFFFFFFF", false),
        ("00000000-0000-0000-0000-000000000001", true),
        ("ffffffff-ffff-1fff-bfff-fffffffffffe", true),
        ("ffffffff-ffff-6fff-bfff-fffffffffffe", true),
        ("FFFFFFFF-FFFF-4FFF-BFFF-FFFFFFFFFFFE", true),
        ("ffffffff-ffff-ffff-ffff-fffffffffffe", true),
        ("c232ab00-9414-11ec-b3c8-9f6bdeced846", true),
    ];
    for (id, is_set) in ids {
        let ends = |field| if is_set { SETTLED } else { Ends::Dead(Some(field)) };
        let task = pay().identified(Uuid::try_parse(id).expect("a UUID")).with("id", id);
        let after = pay().with("after", id);
        let void = follow_up("void", &pay(), None).with("payment_id", id);
        all.push(Odd::new(format!("the id {id}"), &task, ends("id")));
        all.push(Odd::new(format!("after the id {id}"), &after, ends("after")));
        if !is_set {
            all.push(Odd::new(format!("a void of the id {id}"), &void, ends("payment_id")));
        }
    }
    all.push(Odd::new(
        "after one that nobody knows",
        &pay().with("after", Uuid::now_v7().to_string()),
        Ends::Is("parked"),
    ));
    all
}

fn sizes() -> Vec<Odd> {
    let names: Vec<String> = (0..128).map(|n| format!("{n:03}{}", "x".repeat(61))).collect();
    let legs: Vec<_> = names.chunks(2).map(|pair| (pair[0].as_str(), pair[1].as_str(), 1)).collect();
    let leg = ("world", "alice", 1_000_000_000_000_000);
    let deep = |open: &'static str| {
        Odd::written("deeply nested", Ends::Dead(Some("reference")), move |body| {
            body.replace("\"REF\"", &open.repeat(60_000 / open.len())).into_bytes()
        })
    };
    vec![
        Odd::new("128 accounts with the longest names", &split(&legs), Ends::Rejected("account_not_found")),
        Odd::new("holds on 64 accounts", &split(&legs).with("type", "authorize"), Ends::Rejected("account_not_found")),
        Odd::new("the most that 64 legs move", &split(&[leg; 64]), SETTLED),
        Odd::new("the most that 64 legs hold", &split(&[leg; 64]).with("type", "authorize"), Ends::Is("authorized")),
        Odd::new("65 legs", &split(&[leg; 65]), Ends::Dead(Some("legs"))),
        Odd::new("a name of 65", &transfer("world", &"x".repeat(65), 1), Ends::Dead(Some("credit_account"))),
        deep("["),
        deep("{\"a\":"),
        Odd::written("a number of 30,000 digits", Ends::Dead(Some("amount")), |body| {
            body.replace("\"amount\":1,", &format!("\"amount\":{},", "9".repeat(30_000))).into_bytes()
        }),
        Odd::written("a name of 30,000 characters", Ends::Dead(Some(LONG_NAME)), |body| {
            body.replace("\"reference\"", &format!("\"{}\"", "x".repeat(30_000))).into_bytes()
        }),
        Odd::written("a type of 60,000 bytes", Ends::Dead(Some("type")), |body| {
            body.replace("\"transfer\"", &format!("\"{}\"", "\u{e000}".repeat(20_000))).into_bytes()
        }),
    ]
}

/// Of payments that there are not, or that have other legs.
fn follow_ups() -> Vec<Odd> {
    let last = Task { id: Uuid::from_u128(u128::MAX - 1), json: Value::Null };
    let unknown = Task { id: Uuid::now_v7(), json: Value::Null };
    let leg = follow_up("refund", &last, None).with("leg", 63);
    let (refund, again) = (follow_up("refund", &last, Some(1)), follow_up("refund", &last, None));
    let (capture, void) = (follow_up("capture", &last, None), follow_up("void", &last, None));
    let waits = follow_up("cancel", &unknown, None)
        .with("reference", "\u{ffff}")
        .with("metadata", json!({"\u{1}": "\u{10ffff}"}));
    vec![
        Odd::new("a leg that isn't there", &leg, Ends::Rejected("leg_not_found")),
        Odd::new("a refund of the last id, which is a transfer", &refund, SETTLED),
        Odd::new("a refund of nothing", &again, Ends::Rejected("amount_exceeds_remaining")),
        Odd::new("a capture of a transfer", &capture, Ends::Rejected("already_captured")),
        Odd::new("a void of a transfer", &void, Ends::Rejected("already_captured")),
        Odd::new("what waits, with all kinds of characters", &waits, Ends::Is("parked")),
    ]
}
