//! What is appended is in the stream, once and in order.

use settled_amqp::RabbitSink;
use settled_pipeline::outbox::{
    Channel, Encoding, EventSettings, HeaderPrefix, LogSession, Session, Sink, publications,
};
use settled_pipeline::settings::Choice;
use settled_testkit::harness::World;

use super::*;

#[tokio::test]
async fn an_event_in_the_stream_has_the_properties_that_the_exchange_would_have_given_it() {
    let world = World::new(&[]).await;
    let exchange = world.events().await;
    let sink = RabbitSink::new(
        broker(&world.amqp_uri),
        &EventSettings { exchange: world.events_exchange.clone(), ..EventSettings::default() },
    );
    let (sink, mut session) = (sink.open().await.expect("a session"), session(&world).await);
    for (next, (_, header_prefix)) in (1..).zip(HeaderPrefix::NAMES) {
        let lines = lines(next..=next, 300);
        let encoding = Encoding { header_prefix: *header_prefix, ..SINGLE };
        let [event] = &publications(1, lines.as_bytes(), encoding).expect("an event")[..] else { panic!("one event") };
        sink.channels()[0].send_all(&[event], &mut Vec::new()).await.expect("published");
        session.append(next, std::slice::from_ref(event)).await.expect("appended");
        assert_eq!(confirms(&mut session, 1).await.expect("confirmed"), [next]);
    }
    let count = HeaderPrefix::NAMES.len();
    let (published, read) = (exchange.count(count).await, read(&world, count).await);
    assert_eq!((published.len(), read.len()), (count, count));
    for (published, read) in published.iter().zip(&read) {
        let of = |properties: &BasicProperties| {
            let text = |value: &Option<lapin::types::ShortString>| value.as_ref().map(ToString::to_string);
            (
                text(properties.message_id()),
                text(properties.correlation_id()),
                text(properties.content_type()),
                text(properties.kind()),
                headers(properties),
            )
        };
        assert_eq!(of(&read.properties), of(&published.properties));
        let body: serde_json::Value = serde_json::from_slice(&read.body).expect("JSON");
        assert_eq!(body, published.body);
        assert_eq!(headers(&read.properties).len(), 8, "six attributes, and two of the trace");
    }
}

#[tokio::test]
async fn ids_that_are_not_higher_are_confirmed_and_dropped_and_the_highest_is_known_to_the_next_session() {
    let world = World::new(&[]).await;
    let mut first = session(&world).await;
    assert_eq!(first.last_id().await.expect("an answer"), 0);
    append(&mut first, 1..=3).await;
    assert_eq!(first.last_id().await.expect("an answer"), 3);
    first.close().await;
    let mut second = session(&world).await;
    assert_eq!(second.last_id().await.expect("an answer"), 3);
    append(&mut second, 2..=5).await;
    // Another name counts for itself.
    let mut other = log(&world).open("another").await.expect("a session");
    assert_eq!(other.last_id().await.expect("an answer"), 0);
    append(&mut other, 1..=1).await;
    assert_eq!(numbers(&world, 6).await, [1, 2, 3, 4, 5, 1]);
}

#[tokio::test]
async fn what_takes_several_frames_stays_in_order_and_what_no_frame_takes_is_left_out() {
    const MANY: u64 = 3_000;
    let world = World::new(&[]).await;
    let mut session = session(&world).await;
    // Three megabytes, and frames of one.
    let many = lines(1..=MANY, 1_000);
    assert_eq!(session.append(1, &events(&many)).await.expect("appended"), [0; 0]);
    let [small, large] = [(MANY + 1, 10), (MANY + 2, 2 << 20)].map(|(n, length)| lines(n..=n, length));
    let rest = small + &large + &lines(MANY + 3..=MANY + 3, 10);
    assert_eq!(session.append(MANY + 1, &events(&rest)).await.expect("appended"), [1]);
    let ids: Vec<u64> = (1..=MANY + 1).chain([MANY + 3]).collect();
    assert_eq!(confirms(&mut session, ids.len()).await.expect("confirmed"), ids);
    assert_eq!(numbers(&world, ids.len()).await, ids);
    assert_eq!(session.append(MANY + 4, &events(&large)).await.expect("nothing to send"), [0]);
    append(&mut session, MANY + 5..=MANY + 5).await;
}

#[tokio::test]
async fn a_wait_for_confirms_that_is_given_up_loses_none() {
    let world = World::new(&[]).await;
    let mut session = session(&world).await;
    let lines = lines(1..=500, 10);
    let events = events(&lines);
    let mut ids = Vec::new();
    for (first, part) in (1..).step_by(5).zip(events.chunks(5)) {
        session.append(first, part).await.expect("appended");
        let _ = timeout(Duration::from_micros(200), session.confirmed(&mut ids)).await;
    }
    ids.extend(confirms(&mut session, 500 - ids.len()).await.expect("confirmed"));
    ids.sort_unstable();
    assert_eq!(ids, (1..=500).collect::<Vec<_>>());
}
