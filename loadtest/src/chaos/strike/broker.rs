//! Faults of the broker, of its queues and of its exchanges.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use lapin::options::QueueDeleteOptions;
use rustix::process::Signal;
use tokio::time::{Instant, sleep, timeout};

use super::{Blow, STANDSTILL, Storm};
use crate::broker::{self, TASKS_QUEUE};
use crate::chaos::fault::Fault;
use crate::chaos::record::Struck;
use crate::chaos::schedule::Strike;
use crate::judge::books;

/// How often it is looked whether the broker blocks.
const GLANCE: Duration = Duration::from_millis(1);
/// Below what any broker uses, and what is usual, as shares of the machine's memory.
const WATERMARKS: [&str; 2] = ["0.0000001", "0.6"];

impl Storm<'_> {
    pub(super) async fn strike_broker(&mut self, strike: &Strike, struck: &mut Struck) -> Result<Blow> {
        match strike.fault {
            Fault::BrokerKill | Fault::BrokerRestart => {
                if strike.fault == Fault::BrokerKill {
                    self.own_servers()?.kill_rabbitmq().await?;
                } else {
                    self.own_servers()?.stop_rabbitmq().await?;
                }
                self.hold(strike.hold, struck).await;
                self.own_servers()?.start_rabbitmq().await?;
                Ok(Blow::now(""))
            }
            Fault::BrokerClose => {
                self.own_servers()?.rabbitmqctl(&["close_all_connections", "chaos"]).await?;
                Ok(Blow::now(""))
            }
            Fault::BrokerAlarm => self.alarm(strike, struck).await,
            Fault::EventsUnbind | Fault::EventsDelete => {
                if strike.fault == Fault::EventsUnbind {
                    self.sink.unbind().await?;
                } else {
                    self.sink.delete_exchange().await?;
                }
                self.hold(strike.hold, struck).await;
                self.sink.rebind().await?;
                Ok(Blow::now(""))
            }
            _ => self.delete_queue().await,
        }
    }

    /// After which time the broker answers whoever asks for the queue of tasks.
    pub(super) async fn queue_answers(&self, since: Instant) -> Result<Duration> {
        let asked = async {
            let connection = broker::connect(self.rig.amqp_uri(), "settled-loadtest").await?;
            broker::waiting(&connection.create_channel().await?, TASKS_QUEUE).await
        };
        timeout(STANDSTILL, asked).await.context("the broker does not answer for its queue")??;
        Ok(since.elapsed())
    }

    async fn delete_queue(&self) -> Result<Blow> {
        let connection = broker::connect(self.rig.amqp_uri(), "settled-loadtest").await?;
        let channel = connection.create_channel().await?;
        // Of what was taken and not acknowledged the broker does not count anything.
        let ready = channel.queue_delete(TASKS_QUEUE.into(), QueueDeleteOptions::default()).await?;
        Ok(Blow::now(format!("{ready} tasks that waited are gone")))
    }

    /// Blocks whoever publishes, while the daemons have something to tell: they stand still until it
    /// is so. The alarm is over when this program's own publisher hears it.
    async fn alarm(&mut self, strike: &Strike, struck: &mut Struck) -> Result<Blow> {
        let daemons = 0..self.fleet.admins().len();
        for daemon in daemons.clone() {
            self.fleet.signal(daemon, Signal::STOP)?;
        }
        let raised = self.raise_alarm().await;
        for daemon in daemons {
            self.fleet.signal(daemon, Signal::CONT)?;
        }
        struck.in_flight = struck.in_flight.max(raised?);
        self.hold(strike.hold, struck).await;
        let waiting = books::outbox_events(&self.rig.database().await?).await?;
        let events = self.sink.unique();
        let unblocked = async {
            let since = Instant::now();
            while self.upstream.is_blocked() {
                ensure!(since.elapsed() < STANDSTILL, "the broker still blocks publishing");
                sleep(GLANCE).await;
            }
            Ok(Instant::now())
        };
        let (cleared, over, came) = tokio::join!(self.quiet_alarm(), unblocked, self.events_beyond(events));
        cleared?;
        Ok(Blow { over: over?, events: Some(came?), ..Blow::now(format!("{waiting} events waited")) })
    }

    pub(super) async fn quiet_alarm(&self) -> Result<()> {
        self.own_servers()?.rabbitmqctl(&["set_vm_memory_high_watermark", WATERMARKS[1]]).await?;
        Ok(())
    }

    /// How many messages came for the daemons meanwhile.
    async fn raise_alarm(&self) -> Result<u64> {
        let before = self.upstream.counts().1;
        while self.upstream.counts().1 < before + self.in_flight {
            sleep(GLANCE).await;
        }
        self.own_servers()?.rabbitmqctl(&["set_vm_memory_high_watermark", WATERMARKS[0]]).await?;
        let since = Instant::now();
        while !self.upstream.is_blocked() {
            ensure!(since.elapsed() < STANDSTILL, "the broker does not block publishing");
            sleep(GLANCE).await;
        }
        Ok(self.upstream.counts().1 - before)
    }
}
