//! Publishers of tasks and consumers of events, as in the systems around the daemon.

use std::sync::Arc;

use futures_util::StreamExt;
use lapin::options::{
    BasicConsumeOptions, BasicPublishOptions, ConfirmSelectOptions, ExchangeDeclareOptions, QueueBindOptions,
    QueueDeclareOptions,
};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{BasicProperties, Channel, Confirmation, Connection, ConnectionProperties, ExchangeKind};
use parking_lot::Mutex;
use serde_json::Value;
use uuid::Uuid;

use super::{Task, World, eventually};

/// Connects to the broker at `uri`.
pub async fn connect(uri: &str) -> Connection {
    Connection::connect(uri, ConnectionProperties::default()).await.expect("a connection to the broker")
}

/// Declares a durable topic exchange.
pub async fn declare_exchange(channel: &Channel, name: &str) {
    let durable = ExchangeDeclareOptions { durable: true, ..Default::default() };
    let declared = channel.exchange_declare(name.into(), ExchangeKind::Topic, durable, FieldTable::default());
    declared.await.expect("an exchange");
}

/// Binds a queue to an exchange.
pub async fn bind(channel: &Channel, queue: &str, exchange: &str, key: &str) {
    let (options, none) = (QueueBindOptions::default(), FieldTable::default());
    channel.queue_bind(queue.into(), exchange.into(), key.into(), options, none).await.expect("a binding");
}

/// Returns a table of texts and numbers, for headers or for the arguments of a queue or a binding.
pub fn table(entries: &[(&str, Value)]) -> FieldTable {
    let mut table = FieldTable::default();
    for (name, value) in entries {
        let value = match value {
            Value::Number(number) => AMQPValue::LongLongInt(number.as_i64().expect("an integer")),
            Value::String(text) => AMQPValue::LongString(text.as_str().into()),
            other => panic!("{other}"),
        };
        table.insert((*name).into(), value);
    }
    table
}

/// Publishes tasks and waits for confirms.
pub struct Publisher {
    _connection: Connection,
    pub channel: Channel,
    exchange: String,
}

impl Publisher {
    /// Connects and declares what the daemon declares, so that tasks can be published before it starts.
    pub async fn connect(world: &World) -> Self {
        let publisher = Self::only(world).await;
        let channel = &publisher.channel;
        declare_exchange(channel, &world.exchange).await;
        let arguments = table(&[
            ("x-queue-type", "quorum".into()),
            ("x-delivery-limit", 20.into()),
            ("x-dead-letter-exchange", world.dead_letter_exchange.as_str().into()),
        ]);
        let durable = QueueDeclareOptions::durable();
        channel.queue_declare(world.queue.as_str().into(), durable, arguments).await.expect("the task queue");
        bind(channel, &world.queue, &world.exchange, "task.#").await;
        publisher
    }

    /// Connects without declaring anything.
    pub async fn only(world: &World) -> Self {
        let connection = connect(&world.amqp_uri).await;
        let channel = connection.create_channel().await.expect("a channel");
        channel.confirm_select(ConfirmSelectOptions::default()).await.expect("confirms");
        Self { _connection: connection, channel, exchange: world.exchange.clone() }
    }

    /// Returns the properties that a well-behaved publisher sets for a task.
    pub fn properties(task: &Task) -> BasicProperties {
        BasicProperties::default()
            .with_content_type("application/json".into())
            .with_delivery_mode(2)
            .with_message_id(task.id.to_string().into())
            .with_app_id("behaviour".into())
    }

    /// Publishes a task and waits for the confirm.
    pub async fn publish(&self, task: &Task) {
        self.publish_with(task, Self::properties(task)).await;
    }

    /// Publishes a task with the given properties and waits for the confirm.
    pub async fn publish_with(&self, task: &Task, properties: BasicProperties) {
        self.raw(&task.routing_key(), task.body().as_bytes(), properties).await;
    }

    /// Publishes any bytes and waits for the confirm.
    pub async fn raw(&self, routing_key: &str, body: &[u8], properties: BasicProperties) {
        let confirm = self.send(routing_key, body, properties).await;
        assert_eq!(confirm.await.expect("a confirm"), Confirmation::Ack(None), "no queue takes {routing_key}");
    }

    /// Publishes tasks in order without waiting in between, then waits for all confirms.
    pub async fn publish_all<'t>(&self, tasks: impl IntoIterator<Item = &'t Task>) {
        self.publish_all_with(tasks, Self::properties).await;
    }

    /// Publishes tasks with these properties in order, then waits for all confirms.
    pub async fn publish_all_with<'t>(
        &self,
        tasks: impl IntoIterator<Item = &'t Task>,
        properties: impl Fn(&Task) -> BasicProperties,
    ) {
        let mut confirms = Vec::new();
        for task in tasks {
            confirms.push(self.send(&task.routing_key(), task.body().as_bytes(), properties(task)).await);
        }
        for confirm in confirms {
            assert_eq!(confirm.await.expect("a confirm"), Confirmation::Ack(None));
        }
    }

    async fn send(&self, routing_key: &str, body: &[u8], properties: BasicProperties) -> lapin::PublisherConfirm {
        let options = BasicPublishOptions { mandatory: true, ..Default::default() };
        let exchange = self.exchange.as_str().into();
        self.channel.basic_publish(exchange, routing_key.into(), options, body, properties).await.expect("published")
    }
}

#[derive(Clone, Debug)]
pub struct Received {
    pub exchange: String,
    pub routing_key: String,
    pub properties: BasicProperties,
    pub body: Value,
}

impl Received {
    /// Returns a header if its value is a text.
    pub fn header(&self, name: &str) -> Option<String> {
        match self.properties.headers().as_ref()?.inner().get(name)? {
            AMQPValue::LongString(text) => Some(text.to_string()),
            _ => None,
        }
    }

    pub fn message_id(&self) -> &str {
        self.properties.message_id().as_ref().map_or("", |id| id.as_str())
    }

    pub fn correlation_id(&self) -> &str {
        self.properties.correlation_id().as_ref().map_or("", |id| id.as_str())
    }
}

/// A queue of its own, with the messages received from it.
pub struct Events {
    _connection: Option<Connection>,
    pub queue: String,
    received: Arc<Mutex<Vec<Received>>>,
}

impl Events {
    /// Receives all events of the world from now on.
    pub async fn listen(world: &World) -> Self {
        Self::bound(world, "#").await
    }

    /// Receives the events that match the binding key.
    pub async fn bound(world: &World, key: &str) -> Self {
        Self::on(world, Some(key)).await
    }

    /// Receives replies: the queue has no bindings.
    pub async fn replies(world: &World) -> Self {
        Self::on(world, None).await
    }

    async fn on(world: &World, key: Option<&str>) -> Self {
        let connection = connect(&world.amqp_uri).await;
        let channel = connection.create_channel().await.expect("a channel");
        let queue = format!("{}.listener.{}", world.name, Uuid::now_v7().simple());
        let exclusive = QueueDeclareOptions { exclusive: true, ..Default::default() };
        channel.queue_declare(queue.as_str().into(), exclusive, FieldTable::default()).await.expect("a queue");
        if let Some(key) = key {
            declare_exchange(&channel, &world.events_exchange).await;
            bind(&channel, &queue, &world.events_exchange, key).await;
        }
        Self { received: collect(&channel, &queue).await, _connection: Some(connection), queue }
    }

    /// Receives the replies to messages published on `channel` with the reply_to `amq.rabbitmq.reply-to`.
    pub async fn direct(channel: &Channel) -> Self {
        let queue = "amq.rabbitmq.reply-to".to_owned();
        Self { received: collect(channel, &queue).await, _connection: None, queue }
    }

    /// Returns the messages received so far.
    pub fn all(&self) -> Vec<Received> {
        self.received.lock().clone()
    }

    /// Waits until at least `count` messages are received, and returns them.
    pub async fn count(&self, count: usize) -> Vec<Received> {
        eventually(&format!("{count} events"), async || self.received.lock().len() >= count).await;
        self.all()
    }

    /// Waits for the event of this task.
    pub async fn of(&self, task: &Task) -> Received {
        let id = task.id.to_string();
        self.find(&format!("an event of {}", task.json), |event| event.correlation_id() == id).await
    }

    /// Waits for an event for which `is_it` returns true. `what` describes it if it doesn't come.
    pub async fn find(&self, what: &str, is_it: impl Fn(&Received) -> bool) -> Received {
        let mut found = None;
        eventually(what, async || {
            found = self.received.lock().iter().find(|event| is_it(event)).cloned();
            found.is_some()
        })
        .await;
        found.expect("it came")
    }
}

/// Consumes a queue. Returns the list to which received messages are added.
async fn collect(channel: &Channel, queue: &str) -> Arc<Mutex<Vec<Received>>> {
    let no_ack = BasicConsumeOptions { no_ack: true, ..Default::default() };
    let consumer = channel.basic_consume(queue.into(), "".into(), no_ack, FieldTable::default());
    let mut consumer = consumer.await.expect("a consumer");
    let received = Arc::new(Mutex::new(Vec::new()));
    let inbox = Arc::clone(&received);
    tokio::spawn(async move {
        while let Some(Ok(delivery)) = consumer.next().await {
            inbox.lock().push(Received {
                exchange: delivery.exchange.to_string(),
                routing_key: delivery.routing_key.to_string(),
                properties: delivery.properties,
                body: serde_json::from_slice(&delivery.data).expect("an event is JSON"),
            });
        }
    });
    received
}
