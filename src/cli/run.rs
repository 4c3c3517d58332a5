//! `settled run`: the daemon.

use std::io::IsTerminal;

use settled_pipeline::intake::Source;
use settled_pipeline::machine::{Outside, Stopped};
use settled_pipeline::outbox::Sink;
use settled_pipeline::shutdown::Shutdown;
use settled_pipeline::store::{BatchStore, OutboxStore};

use super::{Exit, Failure, Global};
use crate::daemon::{self, DaemonError, Servers};
use crate::lifecycle;
use crate::telemetry::LogSettings;
use crate::telemetry::logging::{self, Style};

pub(super) fn run<S: BatchStore, O: OutboxStore, I: Source, E: Sink>(
    global: &Global,
    wrap: impl FnOnce(Servers) -> Outside<S, O, I, E> + Send + 'static,
) -> Result<Exit, Failure> {
    let shutdown = Shutdown::new();
    // First: until then SIGHUP ends the process.
    let reloads = lifecycle::follow_signals(&shutdown)?;
    let config = global.load()?;
    config.check_files()?;
    init_log(&config.log)?;
    std::panic::set_hook(Box::new(|panic| {
        // A panic is a broken invariant, and a dead worker would leave its lane stuck.
        tracing::error!(%panic, "stopping: what is not acknowledged will be delivered again");
        std::process::exit(Exit::Failure as i32);
    }));
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(config.pipeline.threads).enable_all().build()?;
    // Spawned, so that it runs on the runtime's worker threads like everything it exchanges messages with.
    let ended = runtime.block_on(runtime.spawn(daemon::run(config, shutdown, reloads, wrap)))?;
    // Does not wait for workers that wait for an unavailable server.
    runtime.shutdown_background();
    exit(ended)
}

/// Returns how the process ends after the daemon has ended.
pub(super) fn exit(ended: Result<(), DaemonError>) -> Result<Exit, Failure> {
    let Err(error) = ended else { return Ok(Exit::Ok) };
    let exit = match &error {
        DaemonError::Stopped(Stopped::Intake(_)) => Exit::Unavailable,
        DaemonError::Pool(_) | DaemonError::Postgres(_) => Exit::BadConfig,
        _ => Exit::Failure,
    };
    Err(Failure::new(exit, error))
}

pub(super) fn init_log(settings: &LogSettings) -> Result<(), Failure> {
    let style = Style::of(settings.format, std::io::stderr().is_terminal());
    Ok(logging::init(style, &settings.level)?)
}
