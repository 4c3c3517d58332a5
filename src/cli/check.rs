//! `settled check`: validates the configuration, and on request connects to the servers.

use serde::Serialize;
use settled_store::ConnectError;

use super::output::{self, Table, Text};
use super::{Exit, Failure, Global, block_on};
use crate::config::{Config, ConfigError, DEFAULT_PATH, Origin, Problem};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Also connect to PostgreSQL and to every node of the broker
    #[arg(long)]
    connect: bool,
}

#[derive(Debug, Default, Serialize)]
struct Report {
    ok: bool,
    file: Option<String>,
    /// The number of values that are not defaults.
    set: usize,
    problems: Vec<Problem>,
    /// Empty without `--connect`.
    servers: Vec<Server>,
    /// Settings of the servers that work but can lose tasks or payments. Empty without `--connect`.
    warnings: Vec<String>,
}

#[derive(Debug, Serialize)]
struct Server {
    server: &'static str,
    target: String,
    ok: bool,
    detail: String,
    /// Whether the configuration, here or at a connection pooler, has to be changed first.
    #[serde(skip)]
    misconfigured: bool,
}

pub(super) fn run(global: &Global, args: &Args) -> Result<Exit, Failure> {
    let config = match load(global) {
        Ok(config) => config,
        Err(error) if global.json => {
            output::print(true, &Report { problems: error.problems(), ..Report::default() }, Text::default)?;
            return Ok(Exit::BadConfig);
        }
        Err(error) => return Err(error.into()),
    };
    let (servers, warnings) = if args.connect { block_on(probe(&config))? } else { Default::default() };
    let failed = if servers.iter().any(|server| server.misconfigured) { Exit::BadConfig } else { Exit::Unavailable };
    let report = Report {
        ok: servers.iter().all(|server| server.ok),
        file: config.file().map(|path| path.display().to_string()),
        set: config.describe().iter().filter(|value| value.origin != Origin::Default).count(),
        problems: Vec::new(),
        servers,
        warnings,
    };
    output::print(global.json, &report, || human(&report))?;
    Ok(if report.ok { Exit::Ok } else { failed })
}

fn load(global: &Global) -> Result<Config, ConfigError> {
    let config = Config::load(global.config.as_deref())?;
    config.check_files()?;
    Ok(config)
}

/// Connects to both servers concurrently.
async fn probe(config: &Config) -> Result<(Vec<Server>, Vec<String>), Failure> {
    let (database, broker) = tokio::join!(settled_store::probe(&config.postgres), settled_amqp::probe(&config.broker));
    let misconfigured = database.as_ref().is_err_and(ConnectError::is_configuration);
    let (found, mut warnings) = match database {
        Ok(probed) => (Ok(format!("version {}", probed.version)), probed.warnings),
        Err(error) => (Err(error.to_string()), Vec::new()),
    };
    let postgres = server("PostgreSQL", config.postgres.target(), found);
    let mut servers = vec![Server { misconfigured, ..postgres }];
    for (target, result) in broker? {
        let found = result.map(|dangers| {
            // All nodes of a cluster return the same; duplicates are removed below.
            warnings.extend(dangers);
            "connected".to_owned()
        });
        servers.push(server("RabbitMQ", target, found));
    }
    warnings.sort_unstable();
    warnings.dedup();
    Ok((servers, warnings))
}

fn server(server: &'static str, target: String, result: Result<String, String>) -> Server {
    let ok = result.is_ok();
    Server { server, target, ok, detail: result.unwrap_or_else(|error| error), misconfigured: false }
}

fn human(report: &Report) -> Text {
    let file = match &report.file {
        Some(file) => format!("{file} is valid"),
        None => format!("no file given and no {DEFAULT_PATH}: the defaults are valid"),
    };
    let mut text = Text::of(format!("configuration: {file}, {} values set", report.set));
    if !report.servers.is_empty() {
        let rows = report.servers.iter().map(|server| {
            let state = match server {
                Server { ok: true, .. } => "ok",
                Server { misconfigured: true, .. } => "refused",
                _ => "unreachable",
            };
            [server.server, server.target.as_str(), state, server.detail.as_str()]
        });
        text.table(&Table::of(["SERVER", "TARGET", "STATE", "DETAIL"], rows));
    }
    for warning in &report.warnings {
        text.line(format!("warning: {warning}"));
    }
    text
}
