//! `settled dev`: a local payment processor, servers and all.

use std::path::PathBuf;

use super::{Exit, Failure, Global, output, run};
use crate::config::Config;
use crate::dev::{PrivateServers, ServersOptions, check_programs, guardian};
use crate::lifecycle::Shutdown;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Keep the data in DIR, and use what is there
    #[arg(long, value_name = "DIR")]
    keep: Option<PathBuf>,
}

pub(super) fn run(global: &Global, args: &Args) -> Result<Exit, Failure> {
    check_programs()?;
    let mut config = global.load()?;
    run::log(&config.log)?;
    let shutdown = Shutdown::new();
    shutdown.follow_signals()?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let options = ServersOptions { dir: args.keep.clone(), keep: args.keep.is_some(), ..ServersOptions::default() };
        output::note("starting PostgreSQL and RabbitMQ …");
        let servers = PrivateServers::start(&std::env::current_exe()?, &options).await?;
        use_servers(&mut config, &servers)?;
        output::print_own(&welcome(&config, &servers))?;
        let done = run::daemon(config, shutdown).await;
        output::note("stopping PostgreSQL and RabbitMQ …");
        servers.shutdown().await?;
        done
    })
}

/// The servers are these, whatever the file says; an admin port that is taken is no reason to fail.
fn use_servers(config: &mut Config, servers: &PrivateServers) -> Result<(), Failure> {
    config.broker.uris = vec![servers.amqp_uri().parse().map_err(|error: String| anyhow::anyhow!(error))?];
    config.postgres.use_url(servers.postgres_url()).map_err(|error| anyhow::anyhow!(error))?;
    // Nor can anybody be told of a port that is only chosen later.
    if config.admin.listen.port() == 0 || std::net::TcpListener::bind(config.admin.listen).is_err() {
        config.admin.listen = free_port()?;
    }
    Ok(())
}

/// A loopback port that nobody listens on at the moment.
fn free_port() -> std::io::Result<std::net::SocketAddr> {
    std::net::TcpListener::bind(("127.0.0.1", 0))?.local_addr()
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

/// The hidden verb behind `dev`: see [`guardian`].
#[derive(Debug, clap::Args)]
pub(super) struct ServersArgs {
    #[arg(long)]
    dir: Option<PathBuf>,
    #[arg(long)]
    keep: bool,
    #[arg(long, value_name = "BYTES")]
    postgres_space: Option<u64>,
    #[arg(long)]
    standby: bool,
    #[arg(long)]
    without_broker: bool,
}

/// On this thread: the servers end with the thread that started them.
pub(super) fn servers(args: ServersArgs) -> Result<Exit, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let options = ServersOptions {
        dir: args.dir,
        keep: args.keep,
        postgres_space: args.postgres_space,
        standby: args.standby,
        without_broker: args.without_broker,
    };
    // It tells its errors itself, to the process that started it.
    Ok(if runtime.block_on(guardian::run(&options)) == std::process::ExitCode::SUCCESS {
        Exit::Ok
    } else {
        Exit::Failure
    })
}
