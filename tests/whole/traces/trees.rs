//! Which spans there are, and how they hang together.

use opentelemetry_proto::tonic::trace::v1::Span;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use opentelemetry_proto::tonic::trace::v1::status::StatusCode;
use settled_testkit::harness::{Daemon, Events, Publisher, Received, Task, World, open, transfer};

use super::collector::{Collector, attribute};
use super::{SPAN, TRACE, traced};

/// The span of the processing of a task with this outcome.
async fn processed(collector: &Collector, task: &Task, outcome: &str) -> Span {
    let id = task.id.to_string();
    let is_it = |span: &Span| {
        let has = |key, value: &str| attribute(span, key).as_deref() == Some(value);
        has("messaging.operation.type", "process")
            && has("messaging.message.id", &id)
            && has("settled.outcome", outcome)
    };
    collector.span(&format!("{outcome} {id}"), is_it).await
}

fn hex(id: &[u8]) -> String {
    id.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// What the header `traceparent` of a message is that is sent in this span.
fn names(span: &Span) -> String {
    format!("00-{}-{}-01", hex(&span.trace_id), hex(&span.span_id))
}

fn traceparent(message: &Received) -> String {
    message.header("traceparent").expect("a traceparent")
}

/// Asserts that a span began no earlier, and ended no later, than its parent.
fn is_within(span: &Span, parent: &Span) {
    let times = |span: &Span| (span.start_time_unix_nano, span.end_time_unix_nano);
    let ((began, ended), (first, last)) = (times(span), times(parent));
    assert!(first <= began && began <= ended && ended <= last, "{} is not within {}", span.name, parent.name);
}

async fn at_work(settings: &[&str]) -> (World, Collector, Daemon, Publisher) {
    let collector = Collector::start().await;
    let setting = collector.setting();
    let (world, daemon, publisher) = World::at_work(&[&[setting.as_str()], settings].concat()).await;
    world.settle(&[open("world", "USD", None), open("alice", "USD", Some(0))]).await;
    (world, collector, daemon, publisher)
}

#[tokio::test]
async fn a_sampled_payment_is_followed_from_its_publisher_to_its_event() {
    let (world, collector, mut daemon, publisher) = at_work(&["traces.service_name = \"till\""]).await;
    let events = world.events().await;
    let pay = transfer("world", "alice", 5);
    publisher.publish_with(&pay, traced(&pay, "01")).await;
    let event = events.of(&pay).await;

    let process = processed(&collector, &pay, "settled").await;
    assert_eq!((hex(&process.trace_id).as_str(), hex(&process.parent_span_id).as_str()), (TRACE, SPAN));
    assert_eq!((process.name.as_str(), process.kind()), ("process transfer", SpanKind::Consumer));
    let expected = [
        ("messaging.system", "rabbitmq"),
        ("messaging.destination.name", &world.queue),
        ("settled.task.type", "transfer"),
        ("settled.reason", "none"),
        ("settled.payment.id", &pay.id.to_string()),
    ];
    for (key, value) in expected {
        assert_eq!(attribute(&process, key).as_deref(), Some(value), "{key}");
    }
    let queue = collector.child(&process.parent_span_id, "wait in queue").await;
    assert_eq!((&queue.trace_id, queue.end_time_unix_nano), (&process.trace_id, process.start_time_unix_nano));
    assert_eq!(attribute(&queue, "settled.published.granularity").as_deref(), Some("1ms"));
    let lane = collector.child(&process.span_id, "wait in lane").await;
    let commit = collector.child(&process.span_id, "commit").await;
    assert_eq!(lane.end_time_unix_nano, commit.start_time_unix_nano);
    is_within(&lane, &process);
    is_within(&commit, &process);

    let [to_batch] = &commit.links[..] else { panic!("{:?}", commit.links) };
    let batch = collector.span("the batch", |span| span.span_id == to_batch.span_id).await;
    assert_eq!((batch.name.as_str(), &batch.trace_id), ("commit batch", &to_batch.trace_id));
    assert!(batch.trace_id != process.trace_id && batch.parent_span_id.is_empty(), "{batch:?}");
    assert!(batch.links.iter().any(|link| link.span_id == process.span_id && link.trace_id == process.trace_id));
    let size = attribute(&batch, "settled.batch.size").expect("a size");
    assert_eq!(size, "1");

    let publish = collector.child(&process.span_id, "publish payment.settled").await;
    assert_eq!((&publish.trace_id, publish.kind()), (&process.trace_id, SpanKind::Producer));
    assert_eq!(attribute(&publish, "messaging.message.id").as_deref(), Some(event.message_id()));
    assert_eq!(attribute(&publish, "messaging.destination.name"), Some(world.events_exchange.clone()));
    assert!(publish.start_time_unix_nano >= commit.end_time_unix_nano);
    assert_eq!(traceparent(&event), names(&publish), "a consumer's span comes below that of the publication");
    assert_eq!(event.header("tracestate").as_deref(), Some("vendor=1"));

    let mut ids: Vec<Vec<u8>> = collector.spans().into_iter().map(|span| span.span_id).collect();
    let spans = ids.len();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!((ids.len(), spans), (6, 6), "each span has an id of its own");
    assert_eq!(collector.resource("service.name").as_deref(), Some("till"));
    daemon.counts("settled_spans_total", &[("result", "exported")], 6).await;
    world.end(daemon).await;
}

#[tokio::test]
async fn what_is_not_sampled_has_no_span_and_its_trace_is_carried_on_as_it_was() {
    let (world, collector, _daemon, publisher) = at_work(&[]).await;
    let events = world.events().await;
    let (quiet, wrong, bare) =
        (transfer("world", "alice", 1), transfer("world", "alice", 2), transfer("world", "alice", 3));
    let last = transfer("world", "alice", 4);
    publisher.publish_with(&quiet, traced(&quiet, "00")).await;
    publisher.publish_with(&wrong, traced(&wrong, "01-more")).await;
    publisher.publish(&bare).await;
    publisher.publish_with(&last, traced(&last, "01")).await;
    let process = processed(&collector, &last, "settled").await;
    collector.child(&process.span_id, "publish payment.settled").await;
    assert_eq!(traceparent(&events.of(&quiet).await), format!("00-{TRACE}-{SPAN}-00"));
    assert_eq!(traceparent(&events.of(&wrong).await), format!("00-{TRACE}-{SPAN}-01-more"));
    assert_eq!(events.of(&bare).await.header("traceparent"), None);
    let ids: Vec<String> = collector.spans().iter().filter_map(|span| attribute(span, "settled.payment.id")).collect();
    assert_eq!(ids, [last.id.to_string()]);
}

#[tokio::test]
async fn a_repetition_has_a_span_of_its_own_and_each_reply_one_below_the_publisher() {
    let (world, collector, _daemon, publisher) = at_work(&[]).await;
    let replies = Events::replies(&world).await;
    let pay = transfer("world", "alice", 5);
    let asking = traced(&pay, "01").with_reply_to(replies.queue.as_str().into());
    for count in 1..=2 {
        publisher.publish_with(&pay, asking.clone()).await;
        replies.count(count).await;
    }
    let (first, second) =
        (processed(&collector, &pay, "settled").await, processed(&collector, &pay, "duplicate").await);
    assert_ne!(first.span_id, second.span_id);
    assert_eq!(first.parent_span_id, second.parent_span_id);
    for reply in replies.all() {
        let named = traceparent(&reply);
        let span = collector.span(&named, |span| names(span) == named).await;
        assert_eq!((span.name.as_str(), hex(&span.parent_span_id).as_str()), ("reply payment.settled", SPAN));
    }
    assert_ne!(traceparent(&replies.all()[0]), traceparent(&replies.all()[1]));
}

#[tokio::test]
async fn a_task_that_waited_is_resumed_below_the_span_of_its_arrival() {
    let (world, collector, _daemon, publisher) = at_work(&[]).await;
    let events = world.events().await;
    let first = transfer("world", "alice", 5);
    let second = transfer("alice", "world", 5).with("after", first.id.to_string());
    publisher.publish_with(&second, traced(&second, "01")).await;
    let parked = processed(&collector, &second, "parked").await;
    publisher.publish(&first).await;
    let resumed = processed(&collector, &second, "settled").await;
    assert_eq!((resumed.name.as_str(), &resumed.parent_span_id), ("resume transfer", &parked.span_id));
    is_within(&collector.child(&resumed.span_id, "commit").await, &resumed);
    for (version, name) in [(1, "publish payment.parked"), (2, "publish payment.settled")] {
        let id = format!("{}/{version}", second.id);
        let event = events.find(&id, |event| event.message_id() == id).await;
        assert_eq!(traceparent(&event), names(&collector.child(&parked.span_id, name).await), "{name}");
    }
}

#[tokio::test]
async fn a_dead_letter_is_an_error_and_its_event_comes_below_it() {
    let (world, collector, _daemon, publisher) = at_work(&["events.dead_letters = true"]).await;
    let events = world.events().await;
    let broken = transfer("world", "alice", 5).with("amount", "five");
    publisher.publish_with(&broken, traced(&broken, "01")).await;
    let process = processed(&collector, &broken, "dead_lettered").await;
    assert_eq!(process.name, "process message");
    let status = process.status.clone().expect("a status");
    assert_eq!((status.code(), status.message.as_str()), (StatusCode::Error, "malformed"));
    let publish = collector.child(&process.span_id, "publish task.dead_lettered").await;
    let event = events.find("its event", |event| event.routing_key == "task.dead_lettered").await;
    assert_eq!(traceparent(&event), names(&publish));
}

#[tokio::test]
async fn events_in_batches_keep_the_trace_of_their_task_and_have_no_spans() {
    let (world, collector, _daemon, publisher) = at_work(&["events.format = \"batch\""]).await;
    let events = world.events().await;
    let pay = transfer("world", "alice", 5);
    publisher.publish_with(&pay, traced(&pay, "01")).await;
    processed(&collector, &pay, "settled").await;
    let id = pay.id.to_string();
    let is_its = |event: &serde_json::Value| event["subject"] == id.as_str();
    let batch = events.find("its batch", |batch| batch.body.as_array().is_some_and(|all| all.iter().any(is_its))).await;
    assert_eq!(batch.header("traceparent"), None);
    let event = batch.body.as_array().and_then(|all| all.iter().find(|event| is_its(event))).expect("its event");
    assert_eq!(event["traceparent"], format!("00-{TRACE}-{SPAN}-01"));
    // A later task's spans have come: those of the event before would have, too.
    let later = transfer("world", "alice", 1);
    publisher.publish_with(&later, traced(&later, "01")).await;
    processed(&collector, &later, "settled").await;
    assert!(!collector.spans().iter().any(|span| span.kind() == SpanKind::Producer));
}
