//! Runs the relay against a broker that refuses some messages and, as the worst case, confirms none on a channel that
//! it then closes.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};

use super::*;
use crate::health::Outage;
use crate::outbox::publication::Publication;
use crate::outbox::relay_queue::RelayQueue;
use crate::outbox::settings::EventFormat;
use crate::outbox::sink::{Channel, Confirmation, Refusal};
use crate::store::Unrouted;

type Refuses = fn(&Publication<'_>) -> Option<Refusal>;

struct Broker {
    refuses: parking_lot::Mutex<Refuses>,
    /// How often each message was published, by its id on the wire.
    published: parking_lot::Mutex<BTreeMap<String, u32>>,
    /// The lines of the confirmed events.
    taken: parking_lot::Mutex<Vec<u8>>,
    reopened: AtomicUsize,
    sessions: AtomicUsize,
}

impl Broker {
    fn that(refuses: Refuses) -> Arc<Self> {
        Arc::new(Self {
            refuses: parking_lot::Mutex::new(refuses),
            published: parking_lot::Mutex::default(),
            taken: parking_lot::Mutex::default(),
            reopened: AtomicUsize::new(0),
            sessions: AtomicUsize::new(0),
        })
    }

    fn closings(&self) -> usize {
        self.reopened.load(Ordering::Relaxed)
    }
}

struct BrokerSink(Arc<Broker>);

/// A channel. Each refusal replaces the inner `Option`, which its confirms share.
#[derive(Clone)]
struct Line {
    broker: Arc<Broker>,
    refusal: Arc<parking_lot::Mutex<Arc<parking_lot::Mutex<Option<Refusal>>>>>,
}

struct Connected {
    broker: Arc<Broker>,
    channels: Vec<Line>,
}

/// A confirm that succeeds unless the channel is closed before it is polled.
struct Confirm {
    broker: Arc<Broker>,
    closed: Arc<parking_lot::Mutex<Option<Refusal>>>,
    lines: Vec<u8>,
}

impl Sink for BrokerSink {
    type Session = Connected;

    async fn open(&self) -> Result<Connected, Outage> {
        self.0.sessions.fetch_add(1, Ordering::Relaxed);
        let line = || Line { broker: Arc::clone(&self.0), refusal: Arc::default() };
        Ok(Connected { broker: Arc::clone(&self.0), channels: vec![line(), line()] })
    }
}

impl Session for Connected {
    type Channel = Line;

    fn channels(&self) -> &[Line] {
        &self.channels
    }

    /// Accepts everything from then on if the exchange was missing, as if it were declared again.
    async fn reopen(&self, channel: &Line, refusal: &Refusal) -> Result<(), RelayError> {
        self.broker.reopened.fetch_add(1, Ordering::Relaxed);
        if refusal.is_not_found() {
            *self.broker.refuses.lock() = nothing;
        }
        *channel.refusal.lock() = Arc::default();
        Ok(())
    }

    async fn watch(&self, _: impl Fn(Option<String>) + Send + Sync) -> RelayError {
        std::future::pending().await
    }

    async fn close(self) {}
}

impl Channel for Line {
    type Confirm = Confirm;

    async fn send_all(&self, messages: &[&Publication<'_>], confirms: &mut Vec<Confirm>) -> Result<(), RelayError> {
        let closed = Arc::clone(&self.refusal.lock());
        for message in messages {
            if closed.lock().is_none() {
                let id = message.id_on_the_wire().into_owned();
                *self.broker.published.lock().entry(id).or_default() += 1;
                *closed.lock() = (self.broker.refuses.lock())(message);
            }
            let (broker, lines) = (Arc::clone(&self.broker), message.lines.to_vec());
            confirms.push(Confirm { broker, closed: Arc::clone(&closed), lines });
        }
        Ok(())
    }
}

impl Future for Confirm {
    type Output = Result<Confirmation, RelayError>;

    fn poll(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Self::Output> {
        let refusal = self.closed.lock().clone();
        Poll::Ready(match refusal {
            Some(refusal) => Err(RelayError::Refused(refusal)),
            None => {
                self.broker.taken.lock().extend_from_slice(&self.lines);
                Ok(Confirmation { taken: true, returned: None })
            }
        })
    }
}

/// A running relay, with its queue and its reports.
struct Running {
    queue: RelayQueue,
    reports: mpsc::Receiver<Report>,
    next: i64,
}

impl Running {
    fn start(broker: &Arc<Broker>, settings: EventSettings) -> Self {
        let (queue, receiver) = RelayQueue::new(100_000, 1 << 30);
        let (report, reports) = mpsc::channel(1000);
        let metrics = Arc::new(Metrics::register(1));
        let health = Health::new(Arc::clone(&metrics));
        let (sink, stop) = (BrokerSink(Arc::clone(broker)), CancellationToken::new());
        let relay =
            Relay::new(sink, settings, RetrySettings::default().into(), receiver, report, health, metrics, stop);
        tokio::spawn(relay.run());
        Self { queue, reports, next: 0 }
    }

    /// Publishes a row of these lines. Returns the events to hold.
    async fn publish(&mut self, lines: &[String], held: Option<(&str, &str)>) -> Vec<Unrouted> {
        let body: Vec<u8> = lines.iter().flat_map(|line| [line.as_bytes(), b"\n"].concat()).collect();
        let (held_key, held_reason) = held.map(|(key, reason)| (key.to_owned(), reason.to_owned())).unzip();
        self.next += 1;
        let event_batch = EventBatch { id: self.next, body, events: lines.len() as u32, held_key, held_reason };
        self.queue.reserve_exactly(lines.len(), event_batch.body.len()).expect("room").send(event_batch);
        self.reports.recv().await.expect("the relay runs").unrouted
    }
}

fn event(number: usize, kind: &str, length: usize) -> String {
    let data = "x".repeat(length);
    format!(
        r#"{{"id":"{number}/1","source":"s","type":"{kind}","subject":"{number}","time":"t","data":{{"a":"{data}"}}}}"#
    )
}

fn reply(number: usize, queue: &str) -> String {
    format!(r#"{{"reply_to":"{queue}","event":{}}}"#, event(number, "payment.settled", 10))
}

fn refusal(code: u16, text: &str) -> Option<Refusal> {
    Some(Refusal { code, text: text.to_owned() })
}

fn no_replies(message: &Publication<'_>) -> Option<Refusal> {
    message.reply_to.as_ref().and_then(|_| refusal(403, "ACCESS_REFUSED - amq.default"))
}

fn longer_than_2000(message: &Publication<'_>) -> Option<Refusal> {
    let bytes = message.body.len();
    (bytes > 2000).then(|| refusal(406, &format!("PRECONDITION_FAILED - message size {bytes}"))).flatten()
}

fn nothing_is_allowed(_: &Publication<'_>) -> Option<Refusal> {
    refusal(403, "ACCESS_REFUSED - write access to exchange 'payments.events'")
}

fn the_exchange_is_gone(_: &Publication<'_>) -> Option<Refusal> {
    refusal(404, "NOT_FOUND - no exchange 'payments.events' in vhost '/'")
}

fn nothing(_: &Publication<'_>) -> Option<Refusal> {
    None
}

#[tokio::test(start_paused = true)]
async fn refused_replies_are_found_and_their_neighbours_repeated_a_few_times() {
    let broker = Broker::that(no_replies);
    let mut relay = Running::start(&broker, EventSettings::default());
    let lines: Vec<String> = (0..1000)
        .map(|n| if n % 200 == 77 { reply(n, &format!("q{n}")) } else { event(n, "payment.settled", 10) })
        .collect();
    let held = relay.publish(&lines, None).await;
    let [replies] = &held[..] else { panic!("{held:?}") };
    assert_eq!((replies.key.as_str(), replies.events), ("reply", 5));
    assert_eq!(replies.reason.as_deref(), Some("ACCESS_REFUSED - amq.default"));
    let published = broker.published.lock().clone();
    let most = published.values().max().copied().expect("some");
    // log2(1000) + 1.
    assert!(most <= 11, "an event was published {most} times");
    assert!(broker.closings() <= 11, "{} channels were closed", broker.closings());
    let taken = String::from_utf8(broker.taken.lock().clone()).expect("text");
    assert!(lines.iter().all(|line| line.contains("reply_to") != taken.contains(line.as_str())));

    // What is known is not tried again, until its time has come: then one is.
    let before = broker.closings();
    relay.publish(&[reply(2000, "q"), event(2001, "payment.settled", 10)], None).await;
    assert_eq!(broker.closings(), before);
    tokio::time::sleep(EventSettings::default().retry_held).await;
    assert_eq!(relay.publish(&[reply(2002, "q"), reply(2003, "q")], None).await[0].events, 2);
    assert_eq!(broker.closings(), before + 1);
    *broker.refuses.lock() = nothing;
    tokio::time::sleep(EventSettings::default().retry_held).await;
    relay.publish(&[reply(2004, "q")], None).await;
    assert!(relay.publish(&[reply(2005, "q"), reply(2006, "q")], None).await.is_empty(), "allowed again");
    assert_eq!(broker.sessions.load(Ordering::Relaxed), 1, "one connection, all the time");
}

#[tokio::test(start_paused = true)]
async fn of_events_that_are_too_large_each_is_held_for_itself() {
    let broker = Broker::that(longer_than_2000);
    let mut relay = Running::start(&broker, EventSettings::default());
    let lines: Vec<String> =
        (0..500).map(|n| event(n, "payment.settled", if n % 100 == 5 { 2100 + n } else { 10 })).collect();
    let held = relay.publish(&lines, None).await;
    assert_eq!(held.iter().map(|held| held.events).collect::<Vec<_>>(), [1; 5], "by their reasons");
    assert!(broker.published.lock().values().all(|times| *times <= 10));
    // One that was refused is tried again alone.
    broker.published.lock().clear();
    let again = vec![event(9000, "payment.settled", 10)];
    let (first, retried) = (again.clone(), vec![lines[5].clone()]);
    relay.publish(&first, None).await;
    let held = relay.publish(&retried, Some(("payment.settled", "PRECONDITION_FAILED"))).await;
    assert_eq!(held.len(), 1);
    assert!(broker.published.lock().values().all(|times| *times == 1));
}

#[tokio::test(start_paused = true)]
async fn a_batch_that_is_too_large_is_halved_and_the_next_ones_are_smaller() {
    let broker = Broker::that(longer_than_2000);
    let settings = EventSettings { format: EventFormat::Batch, ..EventSettings::default() };
    let mut relay = Running::start(&broker, settings);
    let lines: Vec<String> = (0..300).map(|n| event(n, "payment.settled", if n == 150 { 2100 } else { 10 })).collect();
    let held = relay.publish(&lines, None).await;
    let [too_long] = &held[..] else { panic!("{held:?}") };
    assert_eq!(too_long.lines, format!("{}\n", lines[150]).into_bytes());
    let taken = String::from_utf8(broker.taken.lock().clone()).expect("text");
    assert_eq!(taken.lines().count(), 299, "each once");
    let before = broker.closings();
    assert!(before <= 64, "{before} channels were closed");
    assert!(relay.publish(&lines[..100], None).await.is_empty());
    assert_eq!(broker.closings(), before, "the relay has learned how long a batch may be");
}

#[tokio::test(start_paused = true)]
async fn events_of_an_exchange_that_is_declared_again_are_published_once_more_and_not_held() {
    let broker = Broker::that(the_exchange_is_gone);
    let mut relay = Running::start(&broker, EventSettings::default());
    let lines: Vec<String> = (0..100).map(|n| event(n, "payment.settled", 10)).collect();
    assert!(relay.publish(&lines, None).await.is_empty());
    assert_eq!(broker.closings(), 1);
    assert!(broker.published.lock().values().all(|times| *times <= 2));
}

#[tokio::test(start_paused = true)]
async fn when_everything_is_refused_a_few_channels_are_closed_and_nothing_is_lost() {
    let broker = Broker::that(nothing_is_allowed);
    let mut relay = Running::start(&broker, EventSettings::default());
    let kinds = ["payment.settled", "payment.rejected", "account.opened"];
    let lines: Vec<String> = (0..900).map(|n| event(n, kinds[n % 3], 10)).collect();
    let held = relay.publish(&lines, None).await;
    assert_eq!(held.iter().map(|held| held.events).sum::<i32>(), 900);
    assert_eq!(held.len(), 3, "a row a key");
    assert!(broker.closings() <= 3 * 11, "{} channels were closed", broker.closings());
    let before = broker.closings();
    let held = relay.publish(&lines, None).await;
    assert_eq!(held.iter().map(|held| held.events).sum::<i32>(), 900);
    assert_eq!(broker.closings(), before);
    *broker.refuses.lock() = nothing;
    // As the sweeper does: a held row comes back.
    assert!(relay.publish(&lines[..300], Some(("payment.settled", "ACCESS_REFUSED"))).await.is_empty());
    assert!(relay.publish(&lines, None).await.is_empty());
}
