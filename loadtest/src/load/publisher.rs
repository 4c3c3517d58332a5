//! Publishes messages as a careful upstream system does: persistent, mandatory, with confirms.
//!
//! A publisher is a thread with a connection of its own, and a task that awaits the confirms.

use std::sync::Arc;
use std::thread;

use anyhow::{Context, Result, anyhow, bail};
use futures_util::future::try_join_all;
use lapin::options::{BasicPublishOptions, ConfirmSelectOptions};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{BasicProperties, Channel, Confirmation, Connection, PublisherConfirm};
use tokio::runtime::Handle;
use tokio::sync::{Semaphore, mpsc, oneshot};
use uuid::Uuid;

use super::clock::now_micros;
use super::gauges::Gauges;
use super::script::Due;
use super::supply::Supply;
use crate::broker::{self, TASKS_EXCHANGE};
use crate::plan::{Accounts, Broken, Message, body};

/// The most messages of a publisher that wait for their confirm. A schedule does not wait for
/// confirms, but memory has an end: a broker that is this far behind makes the publisher late,
/// which is then measured, and said.
const UNCONFIRMED: usize = 200_000;
const PERSISTENT: u8 = 2;

#[derive(Clone, Copy, Debug)]
pub(crate) struct Sent {
    pub(crate) index: usize,
    /// When it was to be published, in microseconds since 1970.
    pub(crate) scheduled: i64,
    pub(crate) at: i64,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Confirmed {
    pub(crate) index: usize,
    /// When, in microseconds since 1970.
    pub(crate) at: i64,
}

pub(super) struct Publisher {
    // A connection whose last handle is dropped is closed.
    _connection: Connection,
    channel: Channel,
    app_id: String,
    sampled: f64,
}

/// What all publishers of a load report to.
#[derive(Clone)]
pub(super) struct Desk {
    pub(super) accounts: Arc<Accounts>,
    pub(super) gauges: Arc<Gauges>,
    /// Gets a permit for each confirm.
    pub(super) window: Arc<Semaphore>,
}

struct Unconfirmed {
    index: usize,
    scheduled: i64,
    confirm: PublisherConfirm,
}

impl Publisher {
    /// Connects. Messages say that `app_id` has published them, and the share `sampled` of them has a sampled trace.
    pub(super) async fn connect(uri: &str, app_id: &str, sampled: f64) -> Result<Arc<Self>> {
        let (_connection, channel) = broker::channel(uri, "settled-loadtest publisher").await?;
        channel.confirm_select(ConfirmSelectOptions::default()).await?;
        Ok(Arc::new(Self { _connection, channel, app_id: app_id.to_owned(), sampled }))
    }

    /// Publishes all of a supply and waits for the last confirm.
    pub(super) async fn publish(self: Arc<Self>, supply: Supply, desk: Desk) -> Result<(Vec<Sent>, Vec<Confirmed>)> {
        let (hand_over, unconfirmed) = mpsc::channel(UNCONFIRMED);
        let (done, sent) = oneshot::channel();
        let (runtime, reports) = (Handle::current(), desk.clone());
        // The connection has to outlive the thread: confirms come after it.
        let publisher = Arc::clone(&self);
        let thread = move || drop(done.send(publisher.publish_supply(supply, &desk, &hand_over, &runtime)));
        thread::Builder::new().name("publisher".to_owned()).spawn(thread)?;
        let confirmed = await_confirms(unconfirmed, &reports).await;
        // The cause, if it is the confirms that failed: the thread then only lost its listener.
        let confirmed = confirmed?;
        let sent = sent.await.map_err(|_| anyhow!("a publisher has died"))??;
        Ok((sent, confirmed))
    }

    /// On a thread of its own, which can sleep with precision.
    fn publish_supply(
        &self,
        mut supply: Supply,
        desk: &Desk,
        hand_over: &mpsc::Sender<Unconfirmed>,
        runtime: &Handle,
    ) -> Result<Vec<Sent>> {
        let mut sent = Vec::new();
        loop {
            let due = supply.next(runtime);
            if due.is_empty() {
                return Ok(sent);
            }
            let at = now_micros();
            let confirms = runtime.block_on(self.send_all(&desk.accounts, &due))?;
            desk.gauges.published(due.len());
            for (due, confirm) in due.iter().zip(confirms) {
                sent.push(Sent { index: due.index, scheduled: due.at, at });
                let message = Unconfirmed { index: due.index, scheduled: due.at, confirm };
                if hand_over.capacity() == 0 {
                    desk.gauges.blocked(UNCONFIRMED);
                }
                hand_over.blocking_send(message).ok().context("the confirms are lost")?;
            }
        }
    }

    /// Publishes messages together; their confirms are still to come.
    pub(super) async fn send_all(&self, accounts: &Accounts, due: &[Due]) -> Result<Vec<PublisherConfirm>> {
        let bodies = due.iter().map(|due| body(accounts, &due.message, due.ids));
        let bodies: Vec<Vec<u8>> = bodies.collect::<Result<_, _>>()?;
        let messages =
            due.iter().zip(&bodies).map(|(due, body)| send(&self.channel, due, body, (&self.app_id, self.sampled)));
        Ok(try_join_all(messages).await?)
    }
}

/// Publishes a message, which says that `app_id` did, and of which the share `sampled` has a sampled trace; the broker's
/// confirm is still to come.
pub(crate) async fn send(
    channel: &Channel,
    due: &Due,
    body: &[u8],
    (app_id, sampled): (&str, f64),
) -> lapin::Result<PublisherConfirm> {
    let key = format!("task.{}", due.message.ask.task_type().name());
    let options = BasicPublishOptions { mandatory: true, ..BasicPublishOptions::default() };
    let mut properties = properties(&due.message, due.ids.own, app_id);
    if is_sampled(due.ids.own, sampled) {
        properties = properties.with_headers(traced(due.ids.own));
    }
    channel.basic_publish(TASKS_EXCHANGE.into(), key.into(), options, body, properties).await
}

/// Fails unless the broker has taken a message.
pub(super) fn is_taken(confirmation: &Confirmation) -> Result<()> {
    match confirmation {
        Confirmation::Ack(None) => Ok(()),
        Confirmation::Ack(Some(_)) => bail!("the broker returned a task: no queue is bound"),
        Confirmation::Nack(_) => bail!("the broker did not take a task"),
        Confirmation::NotRequested => bail!("the broker was not asked for confirms"),
    }
}

async fn await_confirms(mut unconfirmed: mpsc::Receiver<Unconfirmed>, desk: &Desk) -> Result<Vec<Confirmed>> {
    let mut confirmed = Vec::new();
    while let Some(Unconfirmed { index, scheduled, confirm }) = unconfirmed.recv().await {
        is_taken(&confirm.await?)?;
        let at = now_micros();
        desk.gauges.confirmed(at - scheduled);
        desk.window.add_permits(1);
        confirmed.push(Confirmed { index, at });
    }
    Ok(confirmed)
}

/// Whether the message is one of the share that is sampled. The last bits of an id are random.
fn is_sampled(id: Uuid, share: f64) -> bool {
    share >= 1.0 || f64::from(id.as_u128() as u32) / f64::from(u32::MAX) < share
}

/// Returns headers with a sampled trace of its own.
fn traced(id: Uuid) -> FieldTable {
    let mut headers = FieldTable::default();
    let traceparent = format!("00-{:032x}-{:016x}-01", id.as_u128(), id.as_u64_pair().1);
    headers.insert("traceparent".into(), AMQPValue::LongString(traceparent.into()));
    headers
}

fn properties(message: &Message, id: Uuid, app_id: &str) -> BasicProperties {
    let message_id = if message.broken == Some(Broken::OtherMessageId) { Uuid::nil() } else { id };
    let content_type = if message.broken == Some(Broken::OtherContentType) { "text/plain" } else { "application/json" };
    BasicProperties::default()
        .with_content_type(content_type.into())
        .with_delivery_mode(PERSISTENT)
        .with_message_id(message_id.to_string().into())
        .with_app_id(app_id.into())
}
