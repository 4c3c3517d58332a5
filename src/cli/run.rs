//! `settled run`: the daemon.

use std::io::IsTerminal;

use super::{Exit, Failure, Global};
use crate::config::Config;
use crate::daemon::{self, DaemonError};
use crate::lifecycle::Shutdown;
use crate::telemetry::logging::{self, Style};
use crate::telemetry::{LogFormat, LogSettings};

#[derive(Debug, clap::Args)]
pub(super) struct Args {}

pub(super) fn run(global: &Global, _: &Args) -> Result<Exit, Failure> {
    let config = global.load()?;
    config.check_files()?;
    log(&config.log)?;
    std::panic::set_hook(Box::new(|panic| {
        // A panic is a broken invariant. A worker less would be a lane that stands still.
        tracing::error!(%panic, "stopping: what is not acknowledged will be delivered again");
        std::process::exit(Exit::Failure as i32);
    }));
    let shutdown = Shutdown::new();
    shutdown.follow_signals()?;
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(config.pipeline.threads).enable_all().build()?;
    // With the workers on their threads: what is delivered doesn't change threads on its way.
    let done = runtime.block_on(runtime.spawn(daemon(config, shutdown)))?;
    // A worker that waits for a server that is away would hold the exit up.
    runtime.shutdown_background();
    done
}

/// Runs the daemon in this process.
pub(super) async fn daemon(config: Config, shutdown: Shutdown) -> Result<Exit, Failure> {
    match daemon::run(config, shutdown).await {
        Ok(()) => Ok(Exit::Ok),
        Err(error) => Err(failure(error)),
    }
}

fn failure(error: DaemonError) -> Failure {
    let exit = match &error {
        DaemonError::Intake(_) => Exit::Unavailable,
        DaemonError::Pool(_) | DaemonError::Postgres(_) => Exit::BadConfig,
        _ => Exit::Failure,
    };
    Failure::new(exit, error)
}

/// Begins to log.
pub(super) fn log(settings: &LogSettings) -> Result<(), Failure> {
    let terminal = std::io::stderr().is_terminal();
    let style = match settings.format {
        LogFormat::Auto => Style::automatic(terminal),
        LogFormat::Json => Style::Json,
        LogFormat::Text => Style::Text { colour: terminal },
    };
    Ok(logging::init(style, &settings.level)?)
}
