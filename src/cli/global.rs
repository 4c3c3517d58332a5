//! What every verb has in common: its options, and how it runs.

use std::path::PathBuf;

use serde::Serialize;
use settled_core::contract::Currencies;
use settled_store::Client;

use super::exit::{Exit, Failure};
use super::output::{self, Table, Text};
use crate::config::Config;

#[derive(Debug, clap::Args)]
pub struct Global {
    /// The configuration file [default: /etc/settled/settled.toml, if it exists]
    #[arg(long, global = true, value_name = "FILE")]
    pub config: Option<PathBuf>,
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
        Ok(Config::load(self.config.as_deref())?)
    }

    /// Runs a verb that needs the database.
    pub(super) fn with_database<T>(&self, run: impl AsyncFnOnce(Session) -> Result<T, Failure>) -> Result<T, Failure> {
        let config = self.load()?;
        block_on(async {
            let client = settled_store::connect(&config.postgres).await?;
            run(Session { config, client, json: self.json }).await
        })
    }
}

/// A connection to the database, with the configuration and the output format of the verb that uses it.
pub(super) struct Session {
    pub(super) config: Config,
    pub(super) client: Client,
    pub(super) json: bool,
}

impl Session {
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
