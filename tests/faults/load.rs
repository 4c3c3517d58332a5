//! A load as a payment system has it: most tasks settle, some are rejected, repeated, repeated
//! with another amount, or garbage. Every task has one right outcome, whatever order they come in.

use std::cell::Cell;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use lapin::options::{BasicPublishOptions, ConfirmSelectOptions};
use lapin::{BasicProperties, Confirmation, Connection, ConnectionProperties};
use settled_testkit::harness::{Publisher, Task, World, open, transfer, within};
use tokio::task::JoinHandle;
use uuid::Uuid;

/// Accounts with more money than any load moves.
const RICH: usize = 40;

/// How many tasks [`Load::prepare`] publishes.
pub(crate) const PREPARED: usize = 2 + 2 * RICH;

/// How many tasks are published before their confirms are waited for.
const CHUNK: usize = 250;

struct Message {
    routing_key: String,
    body: String,
    id: Option<Uuid>,
}

/// Tasks, and what must become of them.
#[derive(Default)]
pub(crate) struct Load {
    messages: Vec<Message>,
    /// The ids that must have one outcome.
    pub(crate) ids: BTreeSet<Uuid>,
    /// Those of them that must be rejected.
    pub(crate) rejected: usize,
    /// Dead letters for an id that was repeated with another amount.
    pub(crate) conflicts: usize,
    /// Dead letters for what is no task.
    pub(crate) malformed: usize,
}

impl Load {
    /// This many tasks, repetitions and garbage not counted.
    pub(crate) fn of(tasks: usize) -> Self {
        let mut load = Self::default();
        for number in 0..tasks {
            let rich = |offset: usize| format!("rich:{}", (number + offset) % RICH);
            let task = match number % 100 {
                7 => {
                    load.rejected += 1;
                    transfer("poor", &rich(0), 5)
                }
                _ => transfer(&rich(0), &rich(1 + number % 7), 1 + (number % 90) as i64),
            };
            load.ids.insert(task.id);
            load.push(&task);
            match number % 500 {
                11 | 111 | 211 | 311 | 411 => load.push(&task),
                33 => {
                    load.conflicts += 1;
                    load.push(&task.with("amount", 1000));
                }
                44 => {
                    load.malformed += 1;
                    let body = format!("{{\"id\":\"{}\",\"nonsense\":{number}}}", task.id);
                    load.messages.push(Message { routing_key: "task.transfer".into(), body, id: None });
                }
                _ => {}
            }
        }
        load
    }

    /// Counts a task that somebody else has published, and that must settle.
    pub(crate) fn add(&mut self, task: &Task) {
        self.ids.insert(task.id);
    }

    /// Both together, published already.
    pub(crate) fn and(mut self, other: Self) -> Self {
        self.ids.extend(other.ids);
        self.rejected += other.rejected;
        self.conflicts += other.conflicts;
        self.malformed += other.malformed;
        self
    }

    /// Each message is another task's, or no task's.
    pub(crate) fn without_repetitions(mut self) -> Self {
        let mut seen = BTreeSet::new();
        self.messages.retain(|message| message.id.is_none_or(|id| seen.insert(id)));
        self.conflicts = 0;
        self
    }

    pub(crate) fn ids(&self) -> Vec<Uuid> {
        self.ids.iter().copied().collect()
    }

    pub(crate) fn len(&self) -> usize {
        self.messages.len()
    }

    fn push(&mut self, task: &Task) {
        self.messages.push(Message { routing_key: task.routing_key(), body: task.body(), id: Some(task.id) });
    }

    /// Opens and funds the accounts, which must be done before any of it is published. All of them are open before
    /// the first is funded: of several daemons, one may have what funds an account before another has opened it.
    pub(crate) async fn prepare(world: &World) {
        let accounts: Vec<String> = (0..RICH).map(|number| format!("rich:{number}")).collect();
        let mut opened = vec![open("world", "USD", None), open("poor", "USD", Some(0))];
        opened.extend(accounts.iter().map(|account| open(account, "USD", Some(0))));
        world.settle(&opened).await;
        let funded: Vec<Task> = accounts.iter().map(|account| transfer("world", account, 1_000_000_000)).collect();
        world.settle(&funded).await;
    }

    /// Publishes all of it in the background, for as long as that takes, whatever the broker does.
    pub(crate) fn publish(self, world: &World, pace: Duration) -> Publishing {
        let uris: Vec<String> = world.amqp_uris().into_iter().map(ToOwned::to_owned).collect();
        let exchange = world.exchange.clone();
        let confirmed = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&confirmed);
        let task = tokio::spawn(async move {
            let mut chunks = self.messages.chunks(CHUNK).peekable();
            for uri in uris.iter().cycle() {
                match publish_from(uri, &exchange, &mut chunks, &counter, pace).await {
                    Ok(()) => break,
                    // What was not confirmed is published again: to the daemon, a repetition.
                    Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
                }
            }
            self
        });
        Publishing { task, confirmed }
    }

    pub(crate) async fn publish_now(self, world: &World) -> Self {
        self.publish(world, Duration::ZERO).done().await
    }
}

/// A load that is being published.
pub(crate) struct Publishing {
    task: JoinHandle<Load>,
    confirmed: Arc<AtomicUsize>,
}

impl Publishing {
    /// Waits until the broker has confirmed all of it.
    pub(crate) async fn done(self) -> Load {
        let published = tokio::time::timeout(Duration::from_secs(60), self.task).await;
        published.expect("published in time").expect("published")
    }

    /// Waits until the broker has confirmed more than `count` messages.
    pub(crate) async fn exceeds(&self, count: usize) {
        let confirmed = async || self.confirmed.load(Ordering::Relaxed) > count;
        within(Duration::from_secs(60), &format!("{count} messages are confirmed"), confirmed).await;
    }

    /// Whether the broker has confirmed all of it.
    pub(crate) fn is_done(&self) -> bool {
        self.task.is_finished()
    }
}

/// Publishes loads of this many tasks, ten a second at most, for as long as `faults` last.
pub(crate) async fn during(world: &World, tasks: usize, faults: impl Future<Output = ()>) -> Load {
    let over = Cell::new(false);
    let faults = async {
        faults.await;
        over.set(true);
    };
    let publishing = async {
        let mut load = Load::default();
        while !over.get() {
            load = load.and(Load::of(tasks).publish(world, Duration::from_millis(100)).done().await);
        }
        load
    };
    tokio::join!(faults, publishing).1
}

/// Publishes chunk after chunk on one connection, until the end or an error.
async fn publish_from<'m>(
    uri: &str,
    exchange: &str,
    chunks: &mut std::iter::Peekable<impl Iterator<Item = &'m [Message]>>,
    confirmed: &AtomicUsize,
    pace: Duration,
) -> lapin::Result<()> {
    let connection = Connection::connect(uri, ConnectionProperties::default()).await?;
    let channel = connection.create_channel().await?;
    channel.confirm_select(ConfirmSelectOptions::default()).await?;
    while let Some(chunk) = chunks.peek() {
        let mut confirms = Vec::with_capacity(chunk.len());
        for message in *chunk {
            let options = BasicPublishOptions { mandatory: true, ..BasicPublishOptions::default() };
            let (key, body) = (message.routing_key.as_str().into(), message.body.as_bytes());
            confirms.push(channel.basic_publish(exchange.into(), key, options, body, properties(message)).await?);
        }
        for confirm in confirms {
            if confirm.await? != Confirmation::Ack(None) {
                // Refused, or there is no queue: it is published again.
                return Err(lapin::ErrorKind::InvalidChannel(channel.id()).into());
            }
        }
        confirmed.fetch_add(chunk.len(), Ordering::Relaxed);
        chunks.next();
        tokio::time::sleep(pace).await;
    }
    connection.close(200, "published".into()).await
}

fn properties(message: &Message) -> BasicProperties {
    let properties = BasicProperties::default().with_content_type("application/json".into()).with_delivery_mode(2);
    match message.id {
        Some(id) => properties.with_message_id(id.to_string().into()),
        None => properties,
    }
}

/// Declares the task queue, as a publisher does who comes before the daemon.
pub(crate) async fn declare(world: &World) {
    drop(Publisher::connect(world).await);
}
