//! Publishes messages as a careful upstream system does: persistent, with confirms, and never
//! more than a window of them unconfirmed.

use std::collections::VecDeque;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Result, bail};
use lapin::options::{BasicPublishOptions, ConfirmSelectOptions};
use lapin::{BasicProperties, Channel, Confirmation, Connection, PublisherConfirm};
use uuid::Uuid;

use crate::broker::{self, TASKS_EXCHANGE};
use crate::plan::{Body, Broken, Message, Plan};

/// Messages that wait for their confirm at the same time.
const WINDOW: usize = 2000;
const PERSISTENT: u8 = 2;
const APP_ID: &str = "settled-loadtest";

/// A connection and a channel: what is published on one channel stays in order.
pub(crate) struct Publisher {
    connection: Connection,
    channel: Channel,
    unconfirmed: VecDeque<PublisherConfirm>,
}

/// The ids of a plan, and when each was first published.
#[derive(Debug)]
pub(crate) struct Sent {
    ids: Vec<Option<Stamp>>,
}

#[derive(Clone, Copy, Debug)]
struct Stamp {
    id: Uuid,
    at: i64,
}

impl Sent {
    /// Nothing of `plan` yet.
    pub(crate) fn new(plan: &Plan) -> Self {
        Self { ids: vec![None; plan.ids] }
    }

    /// The id of a message; `None` until one with it was published.
    pub(crate) fn id(&self, message: &Message) -> Option<Uuid> {
        self.ids[message.id].map(|stamp| stamp.id)
    }

    /// When the first message with the id was published, in microseconds since 1970.
    pub(crate) fn at(&self, message: &Message) -> Option<i64> {
        self.ids[message.id].map(|stamp| stamp.at)
    }

    /// The id for a message that is about to be published. It tells the time of the first.
    fn stamp(&mut self, message: &Message) -> Uuid {
        self.ids[message.id].get_or_insert_with(|| Stamp { id: Uuid::now_v7(), at: now_micros() }).id
    }
}

impl Publisher {
    /// Connects.
    pub(crate) async fn connect(uri: &str) -> Result<Self> {
        let connection = broker::connect(uri, "settled-loadtest publisher").await?;
        let channel = connection.create_channel().await?;
        channel.confirm_select(ConfirmSelectOptions::default()).await?;
        Ok(Self { connection, channel, unconfirmed: VecDeque::with_capacity(WINDOW) })
    }

    /// Publishes `messages` of `plan` and waits until the broker has confirmed all of them,
    /// telling `confirmed` how many more it has each time.
    pub(crate) async fn publish(
        &mut self,
        plan: &Plan,
        messages: &[Message],
        sent: &mut Sent,
        confirmed: impl Fn(u64),
    ) -> Result<()> {
        for message in messages {
            if self.unconfirmed.len() == WINDOW {
                self.confirm(WINDOW / 4, &confirmed).await?;
            }
            let confirm = self.send(plan, message, sent).await?;
            self.unconfirmed.push_back(confirm);
        }
        self.confirm(self.unconfirmed.len(), &confirmed).await
    }

    /// How many messages wait in a queue.
    pub(crate) async fn waiting(&self, queue: &str) -> Result<u32> {
        broker::waiting(&self.connection, queue).await
    }

    async fn send(&self, plan: &Plan, message: &Message, sent: &mut Sent) -> Result<PublisherConfirm> {
        let id = sent.stamp(message);
        let body = Body::new(plan, message, id);
        let key = format!("task.{}", body.task_type());
        let options = BasicPublishOptions { mandatory: true, ..BasicPublishOptions::default() };
        let payload = body.bytes(message)?;
        let properties = properties(message, id);
        Ok(self.channel.basic_publish(TASKS_EXCHANGE.into(), key.into(), options, &payload, properties).await?)
    }

    /// Waits for the oldest `count` confirms.
    async fn confirm(&mut self, count: usize, confirmed: impl Fn(u64)) -> Result<()> {
        for confirm in self.unconfirmed.drain(..count) {
            match confirm.await? {
                Confirmation::Ack(None) => {}
                Confirmation::Ack(Some(_)) => bail!("the broker returned a task: no queue is bound"),
                Confirmation::Nack(_) => bail!("the broker did not take a task"),
                Confirmation::NotRequested => bail!("the broker was not asked for confirms"),
            }
        }
        confirmed(count as u64);
        Ok(())
    }
}

fn properties(message: &Message, id: Uuid) -> BasicProperties {
    let message_id = if message.broken == Some(Broken::OtherMessageId) { Uuid::nil() } else { id };
    let content_type = if message.broken == Some(Broken::OtherContentType) { "text/plain" } else { "application/json" };
    BasicProperties::default()
        .with_content_type(content_type.into())
        .with_delivery_mode(PERSISTENT)
        .with_message_id(message_id.to_string().into())
        .with_app_id(APP_ID.into())
}

/// Microseconds since 1970, which is what PostgreSQL's timestamps are made of.
pub(crate) fn now_micros() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_micros()).unwrap_or(i64::MAX)
}
