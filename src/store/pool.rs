//! The pool of connections to PostgreSQL: with all timeouts, to a server that takes writes.

use std::time::Duration;

use deadpool_postgres::{ClientWrapper, Hook, HookError, Manager, ManagerConfig, Pool, RecyclingMethod, Runtime};
use tokio_postgres::NoTls;
use tokio_postgres_rustls::MakeRustlsConnect;

use super::PostgresSettings;
use super::hosts::HostByHost;
use crate::tls::{TlsError, client_config};

/// Why there is no pool to be had, whatever PostgreSQL does.
#[derive(Debug, thiserror::Error)]
pub enum PoolSetUpError {
    /// `postgres.password_file` can't be read.
    #[error("postgres.password_file: {0}")]
    PasswordFile(std::io::Error),
    /// `postgres.tls_ca_file` can't be used.
    #[error("postgres.tls_ca_file: {0}")]
    Tls(#[from] TlsError),
    /// The pool refuses its settings.
    #[error("postgres: {0}")]
    Pool(#[from] deadpool_postgres::BuildError),
}

/// What every session starts with, beside the limits in the connection's options. The
/// statements are few and fixed, so a plan is made once, and stays while the tables grow: one
/// made on the empty tables of a new installation would read all of `payment` for each batch,
/// until an autovacuum comes by. So rows are found by their keys from the first one on. A server
/// whose default would acknowledge a commit before it is durable is overruled; a stricter one is
/// left alone.
const SESSION: &str = "
    SET jit = off;
    SET plan_cache_mode = force_generic_plan;
    SET enable_seqscan = off;
    SET default_transaction_isolation = 'read committed';
    SELECT set_config('synchronous_commit', 'on', false)
     WHERE current_setting('synchronous_commit') IN ('off', 'local')";

/// A connection on which nothing was asked for this long is asked whether it is still there before
/// it is used again: one that a firewall has forgotten, say, is as silent as one that is idle, and
/// whoever got it would wait for much longer. Whatever is used again and again isn't asked.
const QUIET: Duration = Duration::from_secs(5);

/// A pool of connections; none is made yet.
///
/// # Errors
///
/// Files that can't be read.
pub fn pool(settings: &PostgresSettings) -> Result<Pool, PoolSetUpError> {
    let config = settings.connection().map_err(PoolSetUpError::PasswordFile)?;
    // Each host is tried for as long as it may take, the last one too.
    let hosts = u32::try_from(config.get_hosts().len()).unwrap_or(1);
    let limit = settings.connect_timeout;
    let recycle_timeout = settings.recycle_timeout;
    let recycling = ManagerConfig { recycling_method: RecyclingMethod::Fast };
    let manager = if settings.is_tls() {
        let tls = MakeRustlsConnect::new(client_config(settings.tls_ca_file.as_deref())?);
        Manager::from_connect(config, HostByHost { tls, limit }, recycling)
    } else {
        Manager::from_connect(config, HostByHost { tls: NoTls, limit }, recycling)
    };
    Ok(Pool::builder(manager)
        .max_size(settings.pool_size)
        .wait_timeout(Some(settings.wait_timeout))
        .create_timeout(Some(settings.connect_timeout * (hosts + 1)))
        .recycle_timeout(Some(recycle_timeout))
        .runtime(Runtime::Tokio1)
        .pre_recycle(Hook::async_fn(move |client: &mut ClientWrapper, metrics| {
            let (is_quiet, limit) = (metrics.last_used() >= QUIET, recycle_timeout);
            Box::pin(async move { if is_quiet { is_there(client, limit).await } else { Ok(()) } })
        }))
        .post_create(Hook::async_fn(|client: &mut ClientWrapper, _| {
            Box::pin(async move { client.batch_execute(SESSION).await.map_err(HookError::Backend) })
        }))
        .build()?)
}

/// One trip; an error takes the connection out of the pool.
async fn is_there(client: &ClientWrapper, limit: Duration) -> Result<(), HookError> {
    match tokio::time::timeout(limit, client.batch_execute("")).await {
        Ok(answered) => answered.map_err(HookError::Backend),
        Err(_) => Err(HookError::message("a connection of the pool is silent")),
    }
}
