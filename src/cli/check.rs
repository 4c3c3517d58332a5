//! `settled check`: is the configuration right, and are the servers there?

use serde::Serialize;

use super::output::{self, Table, Text};
use super::{Exit, Failure, Global, block_on};
use crate::config::{Config, ConfigError, DEFAULT_PATH, Origin, Problem};
use crate::store::ConnectError;
use crate::{intake, store};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Also connect to PostgreSQL and to every node of the broker
    #[arg(long)]
    connect: bool,
}

/// What was found.
#[derive(Debug, Default, Serialize)]
struct Report {
    ok: bool,
    /// The file that was read.
    file: Option<String>,
    /// How many values are not defaults.
    set: usize,
    problems: Vec<Problem>,
    /// With `--connect`.
    servers: Vec<Server>,
    /// With `--connect`: what works, and can cost tasks or payments nevertheless.
    warnings: Vec<String>,
}

#[derive(Debug, Serialize)]
struct Server {
    server: &'static str,
    target: String,
    ok: bool,
    detail: String,
    /// Whether it can't be used until the configuration, here or at a pooler, is changed.
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

/// Tries both servers at the same time.
async fn probe(config: &Config) -> Result<(Vec<Server>, Vec<String>), Failure> {
    let (database, broker) = tokio::join!(store::probe(&config.postgres), intake::probe(&config.broker));
    let misconfigured = database.as_ref().is_err_and(ConnectError::is_configuration);
    let (found, mut warnings) = match database {
        Ok(probed) => (Ok(format!("version {}", probed.version)), probed.warnings),
        Err(error) => (Err(error.to_string()), Vec::new()),
    };
    let postgres = server("PostgreSQL", config.postgres.target(), found);
    let mut servers = vec![Server { misconfigured, ..postgres }];
    for (target, result) in broker? {
        let found = result.map(|dangers| {
            // All nodes of a cluster say the same.
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
        let mut table = Table::new(["SERVER", "TARGET", "STATE", "DETAIL"]);
        for server in &report.servers {
            let state = match server {
                Server { ok: true, .. } => "ok",
                Server { misconfigured: true, .. } => "refused",
                _ => "unreachable",
            };
            table.row([server.server, server.target.as_str(), state, server.detail.as_str()]);
        }
        text.table(&table);
    }
    for warning in &report.warnings {
        text.line(format!("warning: {warning}"));
    }
    text
}
