//! Faults of PostgreSQL.

use std::time::Duration;

use anyhow::{Result, ensure};
use settled_testkit::servers::StopMode;
use tokio::time::Instant;

use super::{Blow, STANDSTILL, Storm};
use crate::chaos::fault::Fault;
use crate::chaos::pulse;
use crate::chaos::record::Struck;
use crate::chaos::schedule::Strike;

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
const LOCK: &str = "BEGIN; LOCK TABLE account IN ACCESS EXCLUSIVE MODE";
/// Each statement that inserts payments takes 200 ms longer.
const SLOW: &str = "
    CREATE FUNCTION chaos_slow() RETURNS trigger LANGUAGE plpgsql AS
        'BEGIN PERFORM pg_sleep(0.2); RETURN NULL; END';
    CREATE TRIGGER chaos_slow AFTER INSERT ON payment FOR EACH STATEMENT EXECUTE FUNCTION chaos_slow()";
const NOT_SLOW: &str = "DROP FUNCTION chaos_slow CASCADE";

impl Storm<'_> {
    pub(super) async fn strike_database(&mut self, strike: &Strike, struck: &mut Struck) -> Result<Blow> {
        match strike.fault {
            Fault::DbStop => {
                self.own_servers()?.stop_postgres(StopMode::Immediate).await?;
                self.hold(strike.hold, struck).await;
                self.own_servers()?.start_postgres().await?;
                Ok(Blow::now(""))
            }
            Fault::DbFull => self.fill_disk(strike, struck).await,
            Fault::DbPromote => {
                self.own_servers()?.promote().await?;
                Ok(Blow::now(""))
            }
            _ => self.strike_sessions(strike, struck).await,
        }
    }

    /// Leaves no room until some daemon has noticed: PostgreSQL makes some for itself at times.
    async fn fill_disk(&self, strike: &Strike, struck: &mut Struck) -> Result<Blow> {
        let since = Instant::now();
        let (admins, mut noticed) = (self.fleet.admins(), None);
        while noticed.is_none() || since.elapsed() < strike.hold {
            ensure!(since.elapsed() < STANDSTILL, "no daemon noticed that there is no room");
            self.own_servers()?.fill_postgres_disk().await?;
            self.hold(REFILL, struck).await;
            let beats = pulse::all(&admins).await;
            if beats.iter().any(|beat| beat.is_paused || !beat.database_is_up) {
                noticed = noticed.or(Some(since.elapsed()));
            }
        }
        self.own_servers()?.free_postgres_disk().await?;
        // It ends when it cannot write its log.
        self.own_servers()?.start_postgres().await?;
        Ok(Blow { found: noticed, ..Blow::now("") })
    }

    async fn strike_sessions(&self, strike: &Strike, struck: &mut Struck) -> Result<Blow> {
        let session = self.rig.database().await?;
        match strike.fault {
            Fault::DbReadOnly => {
                session.batch_execute(READ_ONLY[0]).await?;
                let ended: i64 = session.query_one(TERMINATE, &[]).await?.get(0);
                self.hold(strike.hold, struck).await;
                session.batch_execute(READ_ONLY[1]).await?;
                Ok(Blow::now(format!("{ended} sessions ended")))
            }
            Fault::DbLock => {
                session.batch_execute(LOCK).await?;
                self.hold(strike.hold, struck).await;
                session.batch_execute("ROLLBACK").await?;
                Ok(Blow::now(""))
            }
            Fault::DbSlow => {
                session.batch_execute(SLOW).await?;
                self.hold(strike.hold, struck).await;
                session.batch_execute(NOT_SLOW).await?;
                Ok(Blow::now(""))
            }
            _ => {
                let ended: i64 = session.query_one(TERMINATE, &[]).await?.get(0);
                Ok(Blow::now(format!("{ended} sessions ended")))
            }
        }
    }
}
