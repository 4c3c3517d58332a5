//! The faults one by one: how each is done, how long it lasts, and how it is undone.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use lapin::options::QueueDeleteOptions;
use rustix::process::Signal;
use settled_testkit::proxy::CutPoint;
use settled_testkit::servers::StopMode;
use tokio::time::{Instant, sleep, timeout};
use tokio_postgres::Client;

use super::{Over, STANDSTILL, Storm};
use crate::broker::{self, TASKS_QUEUE};
use crate::chaos::fault::Fault;
use crate::chaos::pulse;
use crate::chaos::record::{Exit, Struck};
use crate::chaos::schedule::Strike;
use crate::judge::books;

/// How often it is looked whether the broker blocks.
const GLANCE: Duration = Duration::from_millis(1);
/// Below what any broker uses, and what is usual, as shares of the machine's memory.
const WATERMARKS: [&str; 2] = ["0.0000001", "0.6"];
/// How often a full disk is filled again.
const REFILL: Duration = Duration::from_millis(200);
/// The daemons' sessions, by the name that they give themselves.
const TERMINATE: &str = "
    SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
     WHERE datname = current_database() AND pid <> pg_backend_pid() AND application_name = 'settled'";
/// Written by hand: whoever sets it on has to be able to set it off.
const READ_ONLY: [&str; 2] = [
    "ALTER DATABASE settled SET default_transaction_read_only = on",
    "ALTER DATABASE settled RESET default_transaction_read_only",
];
/// Nobody can read or write accounts until the end of the transaction.
const LOCK: [&str; 2] = ["BEGIN; LOCK TABLE account IN ACCESS EXCLUSIVE MODE", "ROLLBACK"];
/// Each statement that inserts payments takes 200 ms longer.
const SLOW: [&str; 2] = [
    "CREATE FUNCTION chaos_slow() RETURNS trigger LANGUAGE plpgsql AS
         'BEGIN PERFORM pg_sleep(0.2); RETURN NULL; END';
     CREATE TRIGGER chaos_slow AFTER INSERT ON payment FOR EACH STATEMENT EXECUTE FUNCTION chaos_slow()",
    "DROP FUNCTION chaos_slow CASCADE",
];

impl Storm<'_> {
    /// Carries out a fault and undoes it; what is to be said of it is noted. `victim` is the daemon that is struck, if it
    /// is one.
    pub(super) async fn blow(&mut self, strike: &Strike, victim: usize, struck: &mut Struck) -> Result<Over> {
        let hold = strike.hold;
        match strike.fault {
            Fault::Kill | Fault::Term => return self.end_daemon(strike.fault, victim, struck).await,
            Fault::Freeze => {
                self.fleet.signal(victim, Signal::STOP)?;
                sleep(hold).await;
                self.fleet.signal(victim, Signal::CONT)?;
            }
            Fault::BrokerKill => {
                self.own_servers()?.kill_rabbitmq().await?;
                self.hold(hold, struck).await;
                self.own_servers()?.start_rabbitmq().await?;
            }
            Fault::BrokerRestart => {
                self.own_servers()?.stop_rabbitmq().await?;
                self.hold(hold, struck).await;
                self.own_servers()?.start_rabbitmq().await?;
            }
            Fault::BrokerClose => {
                self.own_servers()?.rabbitmqctl(&["close_all_connections", "chaos"]).await?;
            }
            Fault::BrokerAlarm => return self.alarm(hold, struck).await,
            Fault::QueueDelete => struck.what = self.delete_queue().await?,
            Fault::EventsUnbind => {
                self.sink.unbind().await?;
                self.hold(hold, struck).await;
                self.sink.rebind().await?;
            }
            Fault::EventsDelete => {
                self.sink.delete_exchange().await?;
                self.hold(hold, struck).await;
                self.sink.rebind().await?;
            }
            Fault::DbStop => {
                self.own_servers()?.stop_postgres(StopMode::Immediate).await?;
                self.hold(hold, struck).await;
                self.own_servers()?.start_postgres().await?;
            }
            Fault::DbPromote => self.own_servers()?.promote().await?,
            Fault::DbFull => self.fill_disk(hold, struck).await?,
            Fault::DbTerminate => struck.what = terminate(&self.case.rig.database().await?).await?,
            Fault::DbReadOnly => {
                let session = self.case.rig.database().await?;
                session.batch_execute(READ_ONLY[0]).await?;
                struck.what = terminate(&session).await?;
                self.hold(hold, struck).await;
                session.batch_execute(READ_ONLY[1]).await?;
            }
            Fault::DbLock => self.in_session(LOCK, hold, struck).await?,
            Fault::DbSlow => self.in_session(SLOW, hold, struck).await?,
            Fault::DbCut => struck.what = self.lines.cut_database()?,
            Fault::CutBeforeCommit => struck.what = self.lines.cut(CutPoint::BeforeCommit).await?,
            Fault::CutAfterCommit => struck.what = self.lines.cut(CutPoint::AfterCommit).await?,
            Fault::CutBeforeAck => struck.what = self.lines.cut(CutPoint::BeforeAck).await?,
            Fault::CutAfterAck => struck.what = self.lines.cut(CutPoint::AfterAck).await?,
            Fault::CutBeforeConfirm => struck.what = self.lines.cut(CutPoint::BeforeConfirm).await?,
            Fault::CutBeforeStreamConfirm => struck.what = self.lines.cut(CutPoint::BeforeStreamConfirm).await?,
            Fault::CutAfterStreamConfirm => struck.what = self.lines.cut(CutPoint::AfterStreamConfirm).await?,
            Fault::StreamDelete => struck.what = self.delete_stream().await?,
            Fault::Delay => struck.what = self.lines.delay(strike).await?,
            Fault::HalfOpen => self.half_open(strike, struck).await?,
        }
        Ok(Over::at(Instant::now()))
    }

    /// Ends a daemon and starts another one. A kill counts from its signal, an end that was asked for from itself.
    async fn end_daemon(&mut self, fault: Fault, victim: usize, struck: &mut Struck) -> Result<Over> {
        let killed = fault == Fault::Kill;
        let told = Instant::now();
        let (status, after) = self.fleet.end_one(victim, if killed { Signal::KILL } else { Signal::TERM }).await?;
        self.fleet.launch(victim).await?;
        if killed {
            return Ok(Over::at(told));
        }
        struck.exit = Some(Exit { after_s: after.as_secs_f64(), code: status.code() });
        Ok(Over::at(told + after))
    }

    async fn delete_queue(&self) -> Result<String> {
        let (_connection, channel) = broker::channel(&self.case.rig.amqp_uri, "settled-loadtest").await?;
        // Of what was taken and not acknowledged the broker does not count anything.
        let ready = channel.queue_delete(TASKS_QUEUE.into(), QueueDeleteOptions::default()).await?;
        Ok(format!("{ready} tasks that waited are gone"))
    }

    /// Deletes the stream when its reader has come to its end: what it had not read would be gone.
    /// Confirms that come meanwhile reach nobody, so that the next stream has what the reader may not have seen.
    async fn delete_stream(&self) -> Result<String> {
        self.lines.hold_stream(true);
        let deleted = timeout(STANDSTILL, self.sink.delete_stream()).await;
        let cut = self.lines.cut_stream();
        self.lines.hold_stream(false);
        let events = deleted.context("the reader did not come to the end of the stream")??;
        Ok(format!("{events} events were in it, {cut} connections cut"))
    }

    /// Blocks whoever publishes, while the daemons have something to tell: they stand still until it
    /// is so. The alarm is over when this program's own publisher hears it.
    async fn alarm(&mut self, hold: Duration, struck: &mut Struck) -> Result<Over> {
        let daemons = 0..self.fleet.admins().len();
        for daemon in daemons.clone() {
            self.fleet.signal(daemon, Signal::STOP)?;
        }
        let raised = self.raise_alarm().await;
        for daemon in daemons {
            self.fleet.signal(daemon, Signal::CONT)?;
        }
        struck.in_flight = struck.in_flight.max(raised?);
        self.hold(hold, struck).await;
        let waiting = books::outbox_events(&self.case.rig.database().await?).await?;
        struck.what = format!("{waiting} events waited");
        let events = self.events_beyond(self.sink.unique());
        let (cleared, unblocked, came) = tokio::join!(self.quiet_alarm(), self.until_blocked_is(false), events);
        cleared?;
        unblocked.and_then(|at| Ok(Over { at, events: Some(came?) }))
    }

    pub(super) async fn quiet_alarm(&self) -> Result<()> {
        self.own_servers()?.rabbitmqctl(&["set_vm_memory_high_watermark", WATERMARKS[1]]).await?;
        Ok(())
    }

    /// Returns how many messages came for the daemons meanwhile.
    async fn raise_alarm(&self) -> Result<u64> {
        let before = self.upstream.counts().1;
        while self.upstream.counts().1 < before + self.in_flight {
            sleep(GLANCE).await;
        }
        self.own_servers()?.rabbitmqctl(&["set_vm_memory_high_watermark", WATERMARKS[0]]).await?;
        self.until_blocked_is(true).await?;
        Ok(self.upstream.counts().1 - before)
    }

    async fn until_blocked_is(&self, blocked: bool) -> Result<Instant> {
        let since = Instant::now();
        while self.upstream.is_blocked() != blocked {
            let what = if blocked { "does not block" } else { "still blocks" };
            ensure!(since.elapsed() < STANDSTILL, "the broker {what} publishing");
            sleep(GLANCE).await;
        }
        Ok(Instant::now())
    }

    /// Leaves no room until some daemon has noticed: PostgreSQL makes some for itself at times.
    async fn fill_disk(&self, hold: Duration, struck: &mut Struck) -> Result<()> {
        let since = Instant::now();
        let admins = self.fleet.admins();
        while struck.found_s.is_none() || since.elapsed() < hold {
            ensure!(since.elapsed() < STANDSTILL, "no daemon noticed that there is no room");
            self.own_servers()?.fill_postgres_disk().await?;
            self.hold(REFILL, struck).await;
            let beats = pulse::all(&admins).await;
            if struck.found_s.is_none() && beats.iter().any(|beat| beat.is_paused || !beat.database_is_up) {
                struck.found_s = Some(since.elapsed().as_secs_f64());
            }
        }
        self.own_servers()?.free_postgres_disk().await?;
        // It ends when it cannot write its log.
        Ok(self.own_servers()?.start_postgres().await?)
    }

    /// Begins and ends a fault by statements of one session.
    async fn in_session(&self, [begin, end]: [&str; 2], hold: Duration, struck: &mut Struck) -> Result<()> {
        let session = self.case.rig.database().await?;
        session.batch_execute(begin).await?;
        self.hold(hold, struck).await;
        Ok(session.batch_execute(end).await?)
    }
}

/// Ends the daemons' sessions.
async fn terminate(session: &Client) -> Result<String> {
    let ended: i64 = session.query_one(TERMINATE, &[]).await?.get(0);
    Ok(format!("{ended} sessions ended"))
}
