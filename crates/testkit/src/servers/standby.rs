//! Runs PostgreSQL as a synchronous standby: copying, following, promoting.

use std::fs;
use std::io;
use std::time::Duration;

use settled::dev::guardian::Databases;
use settled::dev::{Context, DevError, NAME, Postgres, StopMode, connect, missing, postgres_program};
use tokio::time::{Instant, sleep};
use tokio_postgres::Client;

use super::cluster::Member;

/// `application_name` of the standby.
const STANDBY: &str = "standby";

/// Time limit for each step, such as catching up with the primary.
const LIMIT: Duration = Duration::from_secs(60);

/// Pause between two checks.
const PAUSE: Duration = Duration::from_millis(20);

/// Replaces the data of `standby` with a copy of `primary`, and starts it as its standby.
pub(super) async fn follow(standby: &mut Member, primary: &Postgres) -> Result<(), DevError> {
    let Member { postgres: standby, disk } = standby;
    standby.stop(StopMode::Immediate).await?;
    standby.free_shared_memory().await;
    if let Some(disk) = disk {
        disk.free()?;
    }
    let data = standby.data.clone();
    let what = || format!("replace {}", data.display());
    match fs::remove_dir_all(&data) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error).context(what),
        _ => copy(standby, primary).await?,
    }
    // Replaces the primary's file, whose settings would make this server wait for a standby once it is promoted.
    let settings = format!("primary_conninfo = '{}'\n", conninfo(primary));
    fs::write(data.join("postgresql.auto.conf"), settings)
        .and_then(|()| fs::write(data.join("standby.signal"), ""))
        .context(what)?;
    standby.own_room().await?;
    standby.start().await
}

/// Returns the parameters with which a standby connects to `primary`.
fn conninfo(primary: &Postgres) -> String {
    let Postgres { port, password, .. } = primary;
    format!("host=127.0.0.1 port={port} user={NAME} password={password} application_name={STANDBY}")
}

/// Stops replication to `standby`, which keeps its data. Commits of `primary` wait from then on.
pub(super) async fn cut_off(standby: &Postgres, primary: &Postgres) -> Result<(), DevError> {
    use_primary(standby, "").await?;
    let client = session(primary).await?;
    until("the standby is cut off", async || Ok(client.query("select from pg_stat_replication", &[]).await?.is_empty()))
        .await
}

/// Resumes replication to `standby`, and waits until it has caught up.
pub(super) async fn rejoin(standby: &Postgres, primary: &Postgres) -> Result<(), DevError> {
    use_primary(standby, &conninfo(primary)).await?;
    wait_for_standby(primary).await
}

async fn use_primary(standby: &Postgres, conninfo: &str) -> Result<(), DevError> {
    let client = session(standby).await?;
    client.batch_execute(&format!("alter system set primary_conninfo = '{conninfo}'")).await?;
    Ok(client.batch_execute("select pg_reload_conf()").await?)
}

async fn copy(standby: &mut Postgres, primary: &Postgres) -> Result<(), DevError> {
    let program = postgres_program("pg_basebackup").ok_or(missing("pg_basebackup", "postgresql-client"))?;
    let mut copy = standby.command(&program);
    copy.env("PGPASSWORD", &primary.password)
        .args(["--host=127.0.0.1", "--wal-method=stream", "--checkpoint=fast", "--no-sync"])
        .arg(format!("--username={NAME}"))
        .arg(format!("--port={}", primary.port))
        .arg("--pgdata")
        .arg(&standby.data);
    standby.server.launch(copy)?;
    standby.server.finished().await
}

/// Makes the commits of `primary` wait until they are durable on the standby, which must be running.
pub(super) async fn wait_for_standby(primary: &Postgres) -> Result<(), DevError> {
    let client = session(primary).await?;
    let is = async |state: &str| {
        let query = format!("select from pg_stat_replication where application_name = '{STANDBY}' and {state}");
        Ok::<_, DevError>(!client.query(&query, &[]).await?.is_empty())
    };
    until("the standby follows", async || is("state = 'streaming'").await).await?;
    client.batch_execute(&format!("alter system set synchronous_standby_names = '{STANDBY}'")).await?;
    client.batch_execute("select pg_reload_conf()").await?;
    until("commits wait for the standby", async || is("sync_state = 'sync'").await).await
}

/// Promotes `standby`, and waits until it accepts writes.
pub(super) async fn promote(standby: &Postgres) -> Result<(), DevError> {
    let client = session(standby).await?;
    client.batch_execute("select pg_promote(false)").await?;
    until("the standby takes writes", async || {
        let is_standby: bool = client.query_one("select pg_is_in_recovery()", &[]).await?.get(0);
        Ok(!is_standby)
    })
    .await
}

async fn session(postgres: &Postgres) -> Result<Client, DevError> {
    let session = connect(postgres.port, &postgres.password).await;
    session.ok_or_else(|| DevError::Guardian("PostgreSQL takes no connections".into()))
}

/// Waits until `holds` returns true. After the time limit, returns an error that contains `what`.
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
