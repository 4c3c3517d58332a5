//! How often a payment asks for memory on its way from the delivery's bytes to the rows of which
//! the SQL parameters are written: an average over full batches, once everything has its size.
//!
//! Not a matter of time: `cargo test` checks what `cargo bench` shows.

mod support;

use std::collections::HashMap;

use jiff::Timestamp;
use lapin::BasicProperties;
use lapin::message::Delivery;
use settled_core::contract::{AccountName, Message};
use settled_core::ledger::{Account, AccountStatus, Arrival};
use settled_pipeline::lanes::{InFlight, Lanes};
use settled_pipeline::store::Submission;
use settled_testkit::prepared::Prepared;
use tokio::runtime;
use uuid::Uuid;

use support::{Random, name, usd};

#[global_allocator]
static ALLOCATOR: dhat::Alloc = dhat::Alloc;

/// The daemon's default `pipeline.max_batch`.
const BATCH: usize = 1000;
const BATCHES: usize = 20;
const ACCOUNTS: usize = 1000;
/// What a payment may ask for on average.
const MOST: f64 = 1.0;

/// Allocations per payment, from one point of the way to the next.
#[derive(Default)]
struct Counts {
    read: f64,
    lanes: f64,
    decided: f64,
}

fn main() {
    let _profiler = dhat::Profiler::builder().testing().build();
    let counts = count();
    let all = counts.read + counts.lanes + counts.decided;
    println!("allocations per payment, average of {BATCHES} batches of {BATCH}:");
    for (stage, count) in [
        ("bytes to message", counts.read),
        ("register and lane", counts.lanes),
        ("plan, ledger, rows and events", counts.decided),
        ("all of it", all),
    ] {
        println!("  {stage:<32} {count:.3}");
    }
    assert!(all <= MOST, "{all:.3} allocations per payment, at most {MOST} were wanted");
}

fn count() -> Counts {
    let runtime = runtime::Builder::new_current_thread().build().expect("a runtime");
    let (lanes, register) = (Lanes::new(1, BATCH), InFlight::new(1, 0));
    let mut accounts: HashMap<AccountName, Account> = (0..ACCOUNTS).map(account).collect();
    let mut random = Random::new();
    let mut batch: Vec<(Arrival, Message)> = Vec::with_capacity(BATCH);
    let mut counts = Counts::default();
    // The first batch gives everything its size.
    for number in 0..=BATCHES {
        let mut deliveries: Vec<Delivery> = (0..BATCH).map(|_| delivery(&mut random)).collect();
        let mut marks = [blocks(); 4];
        let mut messages = Vec::with_capacity(BATCH);
        messages.extend(deliveries.drain(..).map(|delivery| settled_amqp::read(delivery, Timestamp::now())));
        marks[1] = blocks();
        runtime.block_on(async {
            for message in messages {
                let (lane, arrival) = support::enter(&register, message.content.as_ref().expect("a task"));
                lanes.reserve(lane).await.fill((arrival, message));
                lanes.wake(lane);
            }
            let lane = lanes.next().await.expect("a lane with tasks");
            lane.take(BATCH, usize::MAX, |_| 0, &mut batch);
            lane.release(BATCH);
        });
        marks[2] = blocks();
        let submissions: Vec<Submission<'_>> =
            batch.iter().map(|(arrival, message)| Submission::of(*arrival, message)).collect();
        let prepared = Prepared::decide(&submissions, &mut accounts, "settled").expect("payments that settle");
        assert_eq!(prepared.payments(), BATCH);
        marks[3] = blocks();
        register.done(batch.iter().map(|(arrival, message)| (*arrival, message.content.as_ref().ok())));
        drop(prepared);
        batch.clear();
        if number > 0 {
            let per_payment = |from: usize| (marks[from + 1] - marks[from]) as f64 / (BATCH * BATCHES) as f64;
            counts.read += per_payment(0);
            counts.lanes += per_payment(1);
            counts.decided += per_payment(2);
        }
    }
    counts
}

/// How many times memory was asked for since the start.
fn blocks() -> u64 {
    dhat::HeapStats::get().total_blocks
}

/// A payment as the broker delivers it.
fn delivery(random: &mut Random) -> Delivery {
    let (id, (debit, credit)) = (Uuid::now_v7(), random.pair(ACCOUNTS));
    let body = format!(
        r#"{{"id":"{id}","type":"transfer","debit_account":"{}","credit_account":"{}","amount":1250,"currency":"USD","reference":"order-123","metadata":{{"channel":"web"}}}}"#,
        name(debit),
        name(credit)
    );
    let mut delivery = Delivery::mock(1, "payments".into(), "task.transfer".into(), false, body.into_bytes());
    delivery.properties = BasicProperties::default()
        .with_content_type("application/json".into())
        .with_message_id(id.to_string().into())
        .with_app_id("shop".into());
    delivery
}

fn account(number: usize) -> (AccountName, Account) {
    let id = i64::try_from(number).expect("few");
    let open =
        Account { status: AccountStatus::Open, currency: Some(usd()), posted: 1_000_000_000, ..Account::unopened(id) };
    (name(number), open)
}
