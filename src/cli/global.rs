//! What every verb has in common: its options, and how it runs.

use std::path::PathBuf;

use serde::Serialize;
use serde_json::Value;
use settled_core::contract::Currencies;
use settled_store::Client;

use super::exit::{Exit, Failure};
use super::output::{self, Table, Text};
use crate::config::{BROKER, Config, DATABASE, Described, Sources};

#[derive(Debug, clap::Args)]
pub struct Global {
    /// The configuration file [default: /etc/settled/settled.toml, if it exists]
    #[arg(long, global = true, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// A file with the variables that the service gets from systemd (`EnvironmentFile=`) [default:
    /// settled.env beside the configuration, if it exists; `run` and `dev` read none by themselves]
    #[arg(long, global = true, value_name = "FILE")]
    pub env_file: Option<PathBuf>,
    /// Don't say on standard error which configuration and servers are used
    #[arg(long, short, global = true)]
    pub quiet: bool,
    /// Print JSON instead of tables
    #[arg(long, global = true)]
    pub json: bool,
}

impl Global {
    /// Loads the configuration.
    ///
    /// # Errors
    /// Every problem of the configuration, with exit code 78.
    pub fn load(&self) -> Result<Config, Failure> {
        Ok(Config::load(&self.sources(false))?)
    }

    /// Loads the configuration of the service on this machine: with what it gets from systemd. Otherwise like
    /// [`load`](Self::load).
    pub fn load_of_service(&self) -> Result<Config, Failure> {
        Ok(Config::load(&self.sources(true))?)
    }

    pub(super) fn sources(&self, of_service: bool) -> Sources<'_> {
        Sources { config: self.config.as_deref(), env_file: self.env_file.as_deref(), of_service }
    }

    /// Says on standard error which configuration and which of the servers (their keys) a command uses.
    pub(super) fn announce(&self, config: &Config, servers: &[&str]) {
        if self.quiet {
            return;
        }
        let servers = config.connections().into_iter().filter(|found| servers.contains(&found.key.as_str())).collect();
        let using = Using { configuration: config.file().map(|path| path.display().to_string()), servers };
        output::note(&if self.json { serde_json::json!({ "using": using }).to_string() } else { using.sentence() });
    }

    /// Runs a verb that needs the database.
    pub(super) fn with_database<T>(&self, run: impl AsyncFnOnce(Session) -> Result<T, Failure>) -> Result<T, Failure> {
        let config = self.load_of_service()?;
        self.announce(&config, &[DATABASE]);
        block_on(async {
            let client = settled_store::connect(&config.postgres).await?;
            run(Session { config, client, json: self.json, quiet: self.quiet }).await
        })
    }
}

/// A connection to the database, with the configuration and the output format of the verb that uses it.
pub(super) struct Session {
    pub(super) config: Config,
    pub(super) client: Client,
    pub(super) json: bool,
    quiet: bool,
}

/// The configuration and the servers that a command uses.
#[derive(Serialize)]
struct Using {
    configuration: Option<String>,
    servers: Vec<Described>,
}

impl Using {
    fn sentence(&self) -> String {
        let file = self.configuration.as_deref().unwrap_or("no configuration file");
        let server = |Described { value, origin, .. }: &Described| {
            let value = match value {
                Value::Array(nodes) => nodes.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(","),
                value => value.as_str().unwrap_or_default().to_owned(),
            };
            format!("{value} ({origin})")
        };
        let servers: Vec<String> = self.servers.iter().map(server).collect();
        format!("settled: using {file}; {}", servers.join("; "))
    }
}

impl Session {
    /// Says that the broker is used, too.
    pub(super) fn announce_broker(&self) {
        let global = Global { config: None, env_file: None, quiet: self.quiet, json: self.json };
        global.announce(&self.config, &[BROKER]);
    }

    pub(super) fn currencies(&self) -> &Currencies {
        &self.config.payments.currencies
    }

    /// See [`output::print`].
    pub(super) fn print<T: Serialize + ?Sized>(
        &self,
        value: &T,
        human: impl FnOnce() -> Text,
    ) -> Result<Exit, Failure> {
        output::print(self.json, value, human)
    }

    /// Prints rows as JSON, or as a [`Table`], which without rows is the line `empty`.
    pub(super) fn list<T: Serialize, const N: usize>(
        &self,
        rows: &[T],
        empty: &str,
        headings: [&str; N],
        cells: impl Fn(&T) -> [String; N],
    ) -> Result<Exit, Failure> {
        self.page(rows, empty, None, headings, cells)
    }

    /// Prints rows as [`Session::list`] does. `next` is what --before takes for the rows that follow, if there can be any.
    pub(super) fn page<T: Serialize, const N: usize>(
        &self,
        rows: &[T],
        empty: &str,
        next: Option<&str>,
        headings: [&str; N],
        cells: impl Fn(&T) -> [String; N],
    ) -> Result<Exit, Failure> {
        self.print(rows, || {
            let mut text = Table::of(headings, rows.iter().map(cells)).or(empty);
            if let Some(next) = next {
                text.line(format!("more: --before {next}"));
            }
            text
        })
    }
}

/// Runs the asynchronous part of a short-lived verb on a runtime of its own.
pub fn block_on<T>(future: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(future)
}
