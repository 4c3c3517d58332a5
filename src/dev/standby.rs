//! PostgreSQL as a standby: made from a copy, followed by every commit, promoted.

use std::fs;
use std::io;
use std::time::Duration;

use tokio::time::{Instant, sleep};
use tokio_postgres::Client;

use super::StopMode;
use super::error::{Context, DevError};
use super::postgres::{NAME, Postgres, connect};
use super::programs::missing;

/// How the standby calls itself.
const STANDBY: &str = "standby";

/// How long it may take to come so far that commits can wait for it.
const LIMIT: Duration = Duration::from_secs(60);

/// The pause between two looks.
const PAUSE: Duration = Duration::from_millis(20);

impl Postgres {
    /// Replaces its data by a copy of `primary`'s, and follows it from there.
    pub(super) async fn follow(&mut self, primary: &Self) -> Result<(), DevError> {
        self.stop(StopMode::Immediate).await?;
        self.free_shared_memory().await;
        if let Ok(disk) = self.disk() {
            disk.free()?;
        }
        let data = self.data();
        let what = || format!("replace {}", data.display());
        match fs::remove_dir_all(&data) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error).context(what),
            _ => self.copy(primary).await?,
        }
        // In place of the primary's own, by which this one would wait for a standby once it is promoted.
        let settings = format!("primary_conninfo = '{}'\n", primary.conninfo());
        fs::write(data.join("postgresql.auto.conf"), settings)
            .and_then(|()| fs::write(data.join("standby.signal"), ""))
            .context(what)?;
        self.own_room().await?;
        self.start().await
    }

    /// How a standby connects to it.
    fn conninfo(&self) -> String {
        let Self { port, password, .. } = self;
        format!("host=127.0.0.1 port={port} user={NAME} password={password} application_name={STANDBY}")
    }

    /// Stops following `primary`, whose commits wait from now on; what it has it keeps.
    pub(super) async fn cut_off(&self, primary: &Self) -> Result<(), DevError> {
        self.use_primary("").await?;
        let client = primary.session().await?;
        until("the standby is cut off", async || {
            Ok(client.query("select from pg_stat_replication", &[]).await?.is_empty())
        })
        .await
    }

    /// Follows `primary` again, and fetches what it has missed.
    pub(super) async fn rejoin(&self, primary: &Self) -> Result<(), DevError> {
        self.use_primary(&primary.conninfo()).await?;
        primary.wait_for_standby().await
    }

    async fn use_primary(&self, conninfo: &str) -> Result<(), DevError> {
        let client = self.session().await?;
        client.batch_execute(&format!("alter system set primary_conninfo = '{conninfo}'")).await?;
        Ok(client.batch_execute("select pg_reload_conf()").await?)
    }

    async fn copy(&mut self, primary: &Self) -> Result<(), DevError> {
        let program = self.programs.basebackup.clone().ok_or(missing("pg_basebackup", "postgresql-client"))?;
        let mut copy = self.command(&program);
        copy.env("PGPASSWORD", &primary.password)
            .args(["--host=127.0.0.1", "--wal-method=stream", "--checkpoint=fast", "--no-sync"])
            .arg(format!("--username={NAME}"))
            .arg(format!("--port={}", primary.port))
            .arg("--pgdata")
            .arg(self.data());
        self.server.launch(copy)?;
        self.server.finished().await
    }

    /// Has commits wait from now on until they are durable on the standby, which has to be there.
    pub(super) async fn wait_for_standby(&self) -> Result<(), DevError> {
        let client = self.session().await?;
        let is = async |state: &str| {
            let query = format!("select from pg_stat_replication where application_name = '{STANDBY}' and {state}");
            Ok::<_, DevError>(!client.query(&query, &[]).await?.is_empty())
        };
        until("the standby follows", async || is("state = 'streaming'").await).await?;
        client.batch_execute(&format!("alter system set synchronous_standby_names = '{STANDBY}'")).await?;
        client.batch_execute("select pg_reload_conf()").await?;
        until("commits wait for the standby", async || is("sync_state = 'sync'").await).await
    }

    /// Ends its time as a standby; waits until it takes writes.
    pub(super) async fn promote(&self) -> Result<(), DevError> {
        let client = self.session().await?;
        client.batch_execute("select pg_promote(false)").await?;
        until("the standby takes writes", async || {
            let is_standby: bool = client.query_one("select pg_is_in_recovery()", &[]).await?.get(0);
            Ok(!is_standby)
        })
        .await
    }

    async fn session(&self) -> Result<Client, DevError> {
        let session = connect(self.port, &self.password).await;
        session.ok_or_else(|| DevError::Guardian("PostgreSQL takes no connections".into()))
    }
}

/// Waits until `holds`; otherwise says what did not happen.
async fn until(what: &str, holds: impl AsyncFn() -> Result<bool, DevError>) -> Result<(), DevError> {
    let deadline = Instant::now() + LIMIT;
    while !holds().await? {
        if Instant::now() >= deadline {
            return Err(DevError::Guardian(format!("not within {LIMIT:?}: {what}")));
        }
        sleep(PAUSE).await;
    }
    Ok(())
}
