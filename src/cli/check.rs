//! `settled check`: validates the configuration, and on request goes through all that the daemon needs of its servers.

use serde::Serialize;
use settled_pipeline::health::Outage;
use settled_pipeline::precondition::Precondition;
use settled_store::ConnectError;

use super::output::{self, Table, Text};
use super::{Exit, Failure, Global, block_on};
use crate::config::{Config, ConfigError, DEFAULT_PATH, Described, Origin, Problem};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Also connect to PostgreSQL and to every node of the broker, and go through all that the daemon needs there
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
    /// The settings that decide which servers are used, and where each comes from.
    connections: Vec<Described>,
    /// Empty without `--connect`.
    servers: Vec<Server>,
    /// What the daemon needs of the servers. Empty without `--connect`.
    preconditions: Vec<Needed>,
    /// Servers that nobody has configured, and settings of the servers that work but can lose tasks or payments.
    warnings: Vec<String>,
}

#[derive(Debug, Serialize)]
struct Server {
    server: &'static str,
    target: String,
    ok: bool,
    state: State,
    detail: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum State {
    Ok,
    Unreachable,
    /// It answers and refuses access, or the configuration, here or at a connection pooler, has to be changed first.
    Refused,
}

#[derive(Debug, PartialEq, Eq, Serialize)]
struct Needed {
    server: &'static str,
    #[serde(flatten)]
    found: Precondition,
}

const POSTGRESQL: &str = "PostgreSQL";
const RABBITMQ: &str = "RabbitMQ";

pub(super) fn run(global: &Global, args: &Args) -> Result<Exit, Failure> {
    let config = match load(global) {
        Ok(config) => config,
        Err(error) if global.json => {
            output::print(true, &Report { problems: error.problems(), ..Report::default() }, Text::default)?;
            return Ok(Exit::BadConfig);
        }
        Err(error) => return Err(error.into()),
    };
    let mut report = Report {
        ok: false,
        file: config.file().map(|path| path.display().to_string()),
        set: config.describe().iter().filter(|value| value.origin != Origin::Default).count(),
        connections: config.connections(),
        warnings: config.never_configured().into_iter().chain(config.certificate_warnings()).collect(),
        ..Report::default()
    };
    if args.connect {
        block_on(probe(&config, &mut report))?;
    }
    let exit = report.exit();
    report.ok = exit == Exit::Ok;
    output::print(global.json, &report, || human(&report))?;
    Ok(exit)
}

fn load(global: &Global) -> Result<Config, ConfigError> {
    let config = Config::load(&global.sources(true))?;
    config.check_files()?;
    Ok(config)
}

impl Report {
    fn exit(&self) -> Exit {
        let is = |state| self.servers.iter().any(|server| server.state == state);
        if is(State::Refused) || self.preconditions.iter().any(|needed| !needed.found.holds()) {
            return Exit::BadConfig;
        }
        if is(State::Unreachable) { Exit::Unavailable } else { Exit::Ok }
    }

    fn add_server(&mut self, server: &'static str, target: String, found: Result<String, Outage>) {
        let (state, detail) = match found {
            Ok(detail) => (State::Ok, detail),
            Err(Outage { reason, refused: true }) => (State::Refused, reason),
            Err(Outage { reason, .. }) => (State::Unreachable, reason),
        };
        self.servers.push(Server { server, target, ok: state == State::Ok, state, detail });
    }

    /// Adds what is needed of a server. All nodes of a cluster return the same.
    fn add_needed(&mut self, server: &'static str, found: Vec<Precondition>) {
        for found in found {
            let needed = Needed { server, found };
            if !self.preconditions.contains(&needed) {
                self.preconditions.push(needed);
            }
        }
    }
}

/// Connects to both servers concurrently.
async fn probe(config: &Config, report: &mut Report) -> Result<(), Failure> {
    let outlet = config.outlet();
    let broker = settled_amqp::probe(&config.broker, &outlet);
    let (database, broker) = tokio::join!(settled_store::probe(&config.postgres), broker);
    let mut warnings = Vec::new();
    let found = match database {
        Ok(probed) => {
            report.add_needed(POSTGRESQL, probed.preconditions);
            warnings.extend(probed.warnings);
            Ok(format!("version {}", probed.version))
        }
        Err(error) => Err(outage(&error)),
    };
    report.add_server(POSTGRESQL, config.postgres.target(), found);
    let broker = broker.map_err(|error| Failure::new(Exit::BadConfig, error))?;
    for (target, probed) in broker {
        let found = probed.map(|probed| {
            report.add_needed(RABBITMQ, probed.preconditions);
            warnings.extend(probed.dangers);
            "connected".to_owned()
        });
        report.add_server(RABBITMQ, target, found);
    }
    warnings.sort_unstable();
    warnings.dedup();
    report.warnings.extend(warnings);
    Ok(())
}

fn outage(error: &ConnectError) -> Outage {
    Outage { reason: error.to_string(), refused: error.is_refused() || error.is_configuration() }
}

fn human(report: &Report) -> Text {
    let file = match &report.file {
        Some(file) => format!("{file} is valid"),
        None => format!("no file given and no {DEFAULT_PATH}: the defaults are valid"),
    };
    let mut text = Text::of(format!("configuration: {file}, {} values set", report.set));
    let shown = report.connections.iter().filter(|found| !found.value.is_null());
    let rows = shown.map(|found| [found.key.clone(), found.value.to_string(), found.origin.to_string()]);
    text.table(&Table::of(["SETTING", "VALUE", "ORIGIN"], rows));
    if !report.servers.is_empty() {
        let rows = report.servers.iter().map(|server| {
            let state = match server.state {
                State::Ok => "ok",
                State::Unreachable => "unreachable",
                State::Refused => "refused",
            };
            [server.server, server.target.as_str(), state, server.detail.as_str()]
        });
        text.table(&Table::of(["SERVER", "TARGET", "STATE", "DETAIL"], rows));
    }
    if !report.preconditions.is_empty() {
        let rows = report.preconditions.iter().map(|Needed { server, found }| {
            [*server, found.what.as_str(), found.verdict.name(), found.detail.as_str()]
        });
        text.table(&Table::of(["SERVER", "NEEDED", "STATE", "DETAIL"], rows));
    }
    let mut remedies: Vec<&str> =
        report.preconditions.iter().filter_map(|needed| needed.found.remedy.as_deref()).collect();
    remedies.dedup();
    for remedy in remedies {
        text.line(format!("remedy: {remedy}"));
    }
    for warning in &report.warnings {
        text.line(format!("warning: {warning}"));
    }
    text
}
