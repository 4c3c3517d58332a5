//! What crosses the wire, in and out: the filter before the client library; decoding a task and its
//! fingerprint; encoding an event, and the messages that the lines of an outbox row become.

mod support;

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, Throughput};
use settled_amqp::inbound::rehearse;
use settled_core::contract::{Fingerprint, MAX_BODY_BYTES, Rejection, decode};
use settled_pipeline::outbox::{Encoding, EventFormat, EventSettings, publications};

use support::{payment, properties};

const OPEN_ACCOUNT: &str = r#"{"id":"01920000-0000-7000-8000-000000000001","type":"open_account",
    "account":"customer:alice","currency":"USD","min_balance":0}"#;

/// The longest value of `metadata`, in characters.
const MAX_VALUE: usize = 500;
/// The most keys of `metadata`.
const MAX_KEYS: usize = 50;

/// A transfer without and with `metadata`; with it, the body has `bytes` bytes or a few less.
fn transfer(bytes: Option<usize>) -> String {
    let body = |metadata: &str| {
        format!(
            r#"{{"id":"01920000-0000-7000-8000-000000000001","type":"transfer","debit_account":"customer:alice",
            "credit_account":"merchant:42","amount":1250,"currency":"USD","reference":"order-123"{metadata}}}"#
        )
    };
    let Some(bytes) = bytes else { return body("") };
    let keys = bytes.div_ceil(MAX_VALUE).min(MAX_KEYS);
    let room = (bytes - body(r#","metadata":{}"#).len()) / keys - r#""key00":"","#.len();
    // Beyond so many ASCII characters a value may only be longer in bytes.
    let value = if room <= MAX_VALUE { "x".repeat(room) } else { "€".repeat(room / "€".len()) };
    let pairs: Vec<String> = (0..keys).map(|key| format!(r#""key{key:02}":"{value}""#)).collect();
    body(&format!(r#","metadata":{{{}}}"#, pairs.join(",")))
}

/// The bodies, by what is special about them.
fn bodies() -> [(&'static str, String); 5] {
    [
        ("open_account", OPEN_ACCOUNT.to_owned()),
        ("transfer", transfer(None)),
        ("transfer 1 KiB", transfer(Some(1024))),
        ("transfer 16 KiB", transfer(Some(16 * 1024))),
        ("transfer 64 KiB", transfer(Some(MAX_BODY_BYTES))),
    ]
}

/// Deliveries as the broker sends them, through the filter; the copy to where lapin reads included.
fn filtering(criterion: &mut Criterion) {
    const DELIVERIES: u64 = 1000;
    let frame = |kind: u8, payload: &[u8]| {
        let size = u32::try_from(payload.len()).expect("a small frame").to_be_bytes();
        [&[kind, 0, 1][..], &size, payload, &[0xce]].concat()
    };
    let short = |text: &str| [&[u8::try_from(text.len()).expect("short")], text.as_bytes()].concat();
    let mut group = criterion.benchmark_group("filter");
    group.throughput(Throughput::Elements(DELIVERIES));
    for (name, body) in [("transfer", transfer(None)), ("transfer 64 KiB", transfer(Some(MAX_BODY_BYTES)))] {
        let mut sent = Vec::new();
        for tag in 1..=DELIVERIES {
            let fields =
                [short("settled"), tag.to_be_bytes().to_vec(), vec![0], short("payments"), short("task.transfer")];
            sent.extend(frame(1, &[&[0, 60, 0, 60][..], &fields.concat()].concat()));
            // Content type, delivery mode, message id, app id.
            let id = short("01920000-0000-7000-8000-000000000001");
            let properties = [&[0x90, 0x88][..], &short("application/json"), &[2], &id, &short("shop")].concat();
            sent.extend(frame(2, &[&[0, 60, 0, 0][..], &(body.len() as u64).to_be_bytes(), &properties].concat()));
            sent.extend(frame(3, body.as_bytes()));
        }
        let through = rehearse(usize::MAX, 1 << 16, [&sent[..]]);
        assert_eq!((through.forwarded.len(), through.violation), (sent.len(), None));
        let id = BenchmarkId::new(name, DELIVERIES);
        group.bench_function(id, |bencher| bencher.iter(|| rehearse(usize::MAX, 1 << 16, [black_box(&sent[..])])));
    }
    group.finish();
}

fn decoding(criterion: &mut Criterion) {
    let properties = properties();
    let mut group = criterion.benchmark_group("decode");
    group.throughput(Throughput::Elements(1));
    for (name, body) in bodies() {
        decode(body.as_bytes(), &properties).expect("a task");
        group.bench_function(name, |bencher| {
            bencher.iter(|| decode(black_box(body.as_bytes()), black_box(&properties)));
        });
    }
    group.finish();
}

fn fingerprints(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("fingerprint");
    group.throughput(Throughput::Elements(1));
    for (name, body) in bodies() {
        let task = decode(body.as_bytes(), &properties()).expect("a task");
        group.bench_function(name, |bencher| bencher.iter(|| Fingerprint::of(black_box(&task.body), task.when)));
    }
    group.finish();
}

fn events(criterion: &mut Criterion) {
    let task = payment(1, 2);
    let mut group = criterion.benchmark_group("event");
    group.throughput(Throughput::Elements(1));
    for (name, rejection) in [("settled", None), ("rejected", Some(Rejection::InsufficientFunds))] {
        let mut out = Vec::new();
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                out.clear();
                support::event(black_box(&task), rejection, &mut out);
            });
        });
    }
    group.finish();
}

/// The row of a full batch, as the relay gets it.
fn messages(criterion: &mut Criterion) {
    const EVENTS: u64 = 1000;
    let mut row = Vec::new();
    (0..EVENTS).for_each(|_| support::event(&payment(1, 2), None, &mut row));
    let mut group = criterion.benchmark_group("publications");
    group.throughput(Throughput::Elements(EVENTS));
    for (name, format) in [("single", EventFormat::Single), ("batch", EventFormat::Batch)] {
        let encoding = Encoding { format, ..EventSettings::default().encoding() };
        let id = BenchmarkId::new(name, EVENTS);
        group.bench_function(id, |bencher| bencher.iter(|| publications(1, black_box(&row), encoding)));
    }
    group.finish();
}

fn main() {
    support::run(|criterion| {
        filtering(criterion);
        decoding(criterion);
        fingerprints(criterion);
        events(criterion);
        messages(criterion);
    });
}
