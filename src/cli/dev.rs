//! `settled dev`: the daemon with private servers.

use std::net::TcpListener;
use std::path::PathBuf;

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
        output::print_own(&welcome(&config, &servers))?;
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

fn welcome(config: &Config, servers: &PrivateServers) -> String {
    let (amqp, postgres, admin) = (servers.amqp_uri(), servers.postgres_url(), config.admin.listen);
    let (tasks, events) = (&config.broker.exchange, &config.events.exchange);
    format!(
        "
  settled is starting, with servers of its own. Ctrl-C stops everything.

  export SETTLED_AMQP_URI='{amqp}'
  export SETTLED_POSTGRES_URL='{postgres}'
  export SETTLED_ADMIN_LISTEN='{admin}'

  tasks      exchange {tasks}, routing key task.<type>
  events     exchange {events}; bind a queue to receive them: until then they are held
  health     http://{admin}/readyz, metrics at /metrics
  data       {dir}

  In another terminal, with the three lines above:
    settled account open world --currency USD --min-balance none
    settled account open customer:alice --currency USD
    settled account list

",
        dir = servers.dir().display(),
    )
}

/// Runs the [`guardian`](dev::guardian) on this thread: the servers end with the thread that started them.
pub(super) fn servers(options: &ServersOptions) -> Result<Exit, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    // The guardian reports its error on standard output.
    Ok(if runtime.block_on(dev::guard(options)) == std::process::ExitCode::SUCCESS { Exit::Ok } else { Exit::Failure })
}
