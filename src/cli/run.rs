//! `settled run`: the daemon.

use std::io::IsTerminal;

use settled_pipeline::intake::{IntakeError, Source};
use settled_pipeline::machine::{Outside, Stopped};
use settled_pipeline::outbox::Sink;
use settled_pipeline::shutdown::Shutdown;
use settled_pipeline::store::{BatchStore, OutboxStore};

use super::{Exit, Failure, Global};
use crate::config::{Config, Described};
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
    say_what_is_used(&config);
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

/// Says which configuration and servers are used, and which of them nobody has configured.
fn say_what_is_used(config: &Config) {
    let file = config.file().map(|path| path.display().to_string());
    for Described { key, value, origin, .. } in config.connections().iter().filter(|found| !found.value.is_null()) {
        tracing::info!(key, %value, %origin, "uses");
    }
    tracing::info!(file, "configuration");
    for warning in config.never_configured() {
        tracing::warn!("{warning}");
    }
}

/// Returns how the process ends after the daemon has ended.
pub(super) fn exit(ended: Result<(), DaemonError>) -> Result<Exit, Failure> {
    let Err(error) = ended else { return Ok(Exit::Ok) };
    let exit = match &error {
        DaemonError::Stopped(Stopped::Intake(IntakeError::NoQueue(_))) => Exit::Unavailable,
        // Somebody has to act first: a restart would not help.
        DaemonError::Stopped(Stopped::Intake(IntakeError::Forbidden(_)))
        | DaemonError::Pool(_)
        | DaemonError::Postgres(_)
        | DaemonError::Schema(_)
        | DaemonError::MissingMigrations(_)
        | DaemonError::Unmet(_) => Exit::BadConfig,
        // An address that is in use may be free soon.
        DaemonError::Admin(error) if error.source.kind() == std::io::ErrorKind::PermissionDenied => Exit::BadConfig,
        DaemonError::ProfileSocket(error) if error.source.kind() != std::io::ErrorKind::AddrInUse => Exit::BadConfig,
        _ => Exit::Failure,
    };
    Err(Failure::new(exit, error))
}

pub(super) fn init_log(settings: &LogSettings) -> Result<(), Failure> {
    let style = Style::of(settings.format, std::io::stderr().is_terminal());
    Ok(logging::init(style, &settings.level)?)
}

#[cfg(test)]
mod tests {
    use std::io::{Error, ErrorKind};

    use super::*;
    use crate::admin::BindError;

    #[test]
    fn only_what_may_get_better_by_itself_is_started_again() {
        let listen = "127.0.0.1:80".parse().expect("an address");
        for (kind, code) in [(ErrorKind::PermissionDenied, Exit::BadConfig), (ErrorKind::AddrInUse, Exit::Failure)] {
            let ended = exit(Err(BindError { listen, source: Error::from(kind) }.into()));
            assert_eq!(ended.expect_err("it ended").exit(), code, "{kind}");
        }
        let missing = exit(Err(DaemonError::MissingMigrations("V1__ledger".to_owned())));
        assert_eq!(missing.expect_err("it ended").exit(), Exit::BadConfig);
    }
}
