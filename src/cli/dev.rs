//! `settled dev`: the daemon with private servers.

use std::net::TcpListener;
use std::path::{Path, PathBuf};

use settled_amqp::{EventStream, Outlet, StreamSettings};
use settled_pipeline::shutdown::Shutdown;

use super::{Exit, Failure, Global, output, run};
use crate::config::Config;
use crate::dev::{self, PrivateServers, ServersOptions, check_programs};
use crate::{daemon, lifecycle};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Keep the data in DIR, and use what is there
    #[arg(long, value_name = "DIR")]
    keep: Option<PathBuf>,
}

pub(super) fn run(global: &Global, args: &Args) -> Result<Exit, Failure> {
    check_programs()?;
    let mut config = global.load()?;
    run::init_log(&config.log)?;
    let shutdown = Shutdown::new();
    let reloads = lifecycle::follow_signals(&shutdown)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let options = ServersOptions { dir: args.keep.clone(), keep: args.keep.is_some() };
        output::note("starting PostgreSQL and RabbitMQ …");
        let servers = PrivateServers::start(&std::env::current_exe()?, &options).await?;
        use_servers(&mut config, &servers)?;
        let place = Place { amqp: servers.amqp_uri(), postgres: servers.postgres_url(), dir: servers.dir() };
        output::print_own(&welcome(&config, &place))?;
        let ended = daemon::run(config, shutdown, reloads, |servers| servers).await;
        output::note("stopping PostgreSQL and RabbitMQ …");
        servers.shutdown().await?;
        run::exit(ended)
    })
}

/// Points the configuration at the private servers, and the admin server at a free port if its own is taken.
fn use_servers(config: &mut Config, servers: &PrivateServers) -> Result<(), Failure> {
    config.broker.uris = vec![servers.amqp_uri().parse().map_err(|error: String| anyhow::anyhow!(error))?];
    config.stream.port = servers.stream_port();
    config.postgres.use_url(servers.postgres_url()).map_err(|error| anyhow::anyhow!(error))?;
    // The welcome text names the port, so it has to be chosen now.
    if config.admin.listen.port() == 0 || TcpListener::bind(config.admin.listen).is_err() {
        config.admin.listen = TcpListener::bind(("127.0.0.1", 0))?.local_addr()?;
    }
    Ok(())
}

/// Where the private servers are.
struct Place<'a> {
    amqp: &'a str,
    postgres: &'a str,
    dir: &'a Path,
}

fn welcome(config: &Config, Place { amqp, postgres, dir }: &Place<'_>) -> String {
    let (tasks, admin, stream) = (&config.broker.exchange, config.admin.listen, config.stream.port);
    let (variable, events) = match config.outlet() {
        Outlet { stream: Some(EventStream { settings: StreamSettings { name, .. }, .. }), .. } => {
            (format!("\n  export SETTLED_STREAM_PORT='{stream}'"), format!("stream {name}, port {stream}"))
        }
        Outlet { exchange, .. } => {
            (String::new(), format!("exchange {exchange}; bind a queue to receive them: until then they are held"))
        }
    };
    format!(
        "
  settled is starting, with servers of its own. Ctrl-C stops everything.

  export SETTLED_AMQP_URI='{amqp}'
  export SETTLED_POSTGRES_URL='{postgres}'
  export SETTLED_ADMIN_LISTEN='{admin}'{variable}

  tasks      exchange {tasks}, routing key task.<type>
  events     {events}
  health     http://{admin}/readyz, metrics at /metrics
  data       {dir}

  In another terminal, with the {exports} lines above:
    settled account open world --currency USD --min-balance none
    settled account open customer:alice --currency USD
    settled account list

",
        exports = if variable.is_empty() { "three" } else { "four" },
        dir = dir.display(),
    )
}

/// Runs the [`guardian`](dev::guardian) on this thread: the servers end with the thread that started them.
pub(super) fn servers(options: &ServersOptions) -> Result<Exit, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    // The guardian reports its error on standard output.
    Ok(if runtime.block_on(dev::guard(options)) == std::process::ExitCode::SUCCESS { Exit::Ok } else { Exit::Failure })
}

#[cfg(test)]
mod tests {
    use settled_pipeline::outbox::Transport;

    use super::*;

    #[test]
    fn the_welcome_says_where_events_are() {
        let mut config = Config::default();
        config.stream.port = 40_000;
        let place = Place { amqp: "amqp://here", postgres: "postgresql://here", dir: Path::new("/tmp/here") };
        let exchange = welcome(&config, &place);
        assert!(exchange.contains("events     exchange payments.events; bind a queue"), "{exchange}");
        assert!(exchange.contains("with the three lines") && !exchange.contains("STREAM"), "{exchange}");
        config.events.transport = Transport::Stream;
        let stream = welcome(&config, &place);
        assert!(stream.contains("events     stream payments.events.log, port 40000\n"), "{stream}");
        assert!(stream.contains("  export SETTLED_STREAM_PORT='40000'\n"), "{stream}");
        assert_eq!((stream.matches("  export ").count(), stream.contains("bind a queue")), (4, false), "{stream}");
        assert!(stream.contains("with the four lines above"), "{stream}");
    }
}
