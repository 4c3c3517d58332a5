//! `settled migrate`: brings the schema up to date, and on request gives each role its privileges.

use anyhow::anyhow;
use serde::Serialize;
use settled_store::{Client, Granted, MigrateError, Roles, Schema};

use super::output::{self, Table, Text};
use super::progress::Progress;
use super::{Exit, Failure, Global, Session};
use crate::lifecycle;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Only say what is applied and what is missing; with --grant, print the SQL
    #[arg(long)]
    dry_run: bool,
    /// Also create the roles that are missing, make one the owner of the schema, and give each the
    /// privileges that it needs and no others
    ///
    /// To be run as a superuser or, if it may create roles, as the owner of the database; later
    /// also as the owner of the schema. Passwords are left to you.
    #[arg(long)]
    grant: bool,
    /// The role that owns the schema and migrates it
    #[arg(long, value_name = "ROLE", default_value = "settled_owner", requires = "grant")]
    owner_role: String,
    /// The role of the daemon, and of the commands that deal with dead letters and held events
    #[arg(long, value_name = "ROLE", default_value = "settled", requires = "grant")]
    daemon_role: String,
    /// The role that only reads: for all other commands, the audit and dashboards
    #[arg(long, value_name = "ROLE", default_value = "settled_read", requires = "grant")]
    read_role: String,
}

#[derive(Debug, Default, Serialize)]
struct Report {
    /// Migrations that were applied now; of a dry run, all that are applied.
    applied: Vec<String>,
    missing: Vec<String>,
    later_compatible: Vec<String>,
    later_incompatible: Vec<String>,
    /// Why this version cannot use the schema.
    problem: Option<String>,
    /// With `--grant`: what was executed or, in a dry run, would be.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    statements: Vec<String>,
}

impl From<Schema> for Report {
    fn from(schema: Schema) -> Self {
        let Schema { applied, missing, later_compatible, later_incompatible, problem } = schema;
        let problem = problem.map(|problem| problem.to_string());
        Self { applied, missing, later_compatible, later_incompatible, problem, statements: Vec::new() }
    }
}

pub(super) fn run(global: &Global, args: &Args) -> Result<Exit, Failure> {
    if args.grant {
        return grant(global, args);
    }
    let report = global.with_database(async |Session { mut client, .. }| {
        if args.dry_run {
            return Ok(Report::from(settled_store::schema(&client).await?));
        }
        migrate(&mut client, global.json).await
    })?;
    output::print(global.json, &report, || if args.dry_run { states(&report) } else { done(&report) })?;
    Ok(if report.problem.is_some() { Exit::BadConfig } else { Exit::Ok })
}

/// Who may do what `--grant` does.
const GRANTED_BY: &str = "run it as a superuser, or as the owner of the database and the schema, with the right to create \
     roles; --dry-run prints the SQL for somebody who is";

async fn migrate(client: &mut Client, json: bool) -> Result<Report, Failure> {
    let stop = lifecycle::interruptible()?;
    let missing = settled_store::schema(client).await?.missing;
    let progress = Progress::begin(json, "migrations", Some(missing.len() as u64));
    let applying = settled_store::migrate_each(client, |name| {
        progress.say(&format!("applied {name}"));
        progress.advance(1);
    });
    let applied = tokio::select! {
        biased;
        applied = applying => applied.map_err(|error| refused(error, "migrations are for the role that owns the schema"))?,
        () = stop.cancelled() => return Err(interrupted()),
    };
    drop(progress);
    Ok(Report { applied, ..Report::from(settled_store::schema(client).await?) })
}

/// Returns the failure; with a hint if PostgreSQL forbids what was asked of it.
fn refused(error: MigrateError, hint: &'static str) -> Failure {
    let is_forbidden = error.is_forbidden();
    let failure = Failure::from(error);
    if is_forbidden { failure.hint(hint) } else { failure }
}

/// Returns a table of all migrations.
fn states(report: &Report) -> Text {
    let rows = [
        (&report.applied, "applied"),
        (&report.missing, "missing"),
        (&report.later_compatible, "later, compatible"),
        (&report.later_incompatible, "later, incompatible"),
    ];
    let rows = rows.into_iter().flat_map(|(names, state)| names.iter().map(move |name| [name.as_str(), state]));
    let mut text = Text::from(Table::of(["MIGRATION", "STATE"], rows));
    if let Some(problem) = &report.problem {
        text.line(problem);
    }
    text
}

fn done(report: &Report) -> Text {
    let mut text = match &report.applied[..] {
        [] => Text::of("the schema is up to date"),
        applied => Text::of(format!("applied: {}", applied.join(", "))),
    };
    if !report.later_compatible.is_empty() {
        text.line(format!("of a later version, and compatible with this one: {}", report.later_compatible.join(", ")));
    }
    text
}

fn grant(global: &Global, args: &Args) -> Result<Exit, Failure> {
    let roles =
        Roles { owner: args.owner_role.clone(), daemon: args.daemon_role.clone(), reader: args.read_role.clone() };
    let granted = global.with_database(async |Session { mut client, .. }| {
        let granted = match args.dry_run {
            true => settled_store::plan_grants(&client, &roles).await,
            false => settled_store::grant(&mut client, &roles).await,
        };
        granted.map_err(|error| refused(error, GRANTED_BY))
    })?;
    let Granted { roles: set_up, migrations, privileges } = &granted;
    let statements = [&set_up[..], privileges].concat();
    let (applied, missing) =
        if args.dry_run { (Vec::new(), migrations.clone()) } else { (migrations.clone(), Vec::new()) };
    let report = Report { applied, missing, statements, ..Report::default() };
    output::print(global.json, &report, || sql(&granted, &roles.owner, args.dry_run))
}

/// Returns the statements as a script that `psql` takes.
fn sql(granted: &Granted, owner: &str, is_dry: bool) -> Text {
    let mut text = Text::default();
    for statement in &granted.roles {
        text.line(format!("{statement};"));
    }
    if !granted.migrations.is_empty() {
        let did = if is_dry { "to be applied" } else { "applied" };
        text.line(format!("-- {did} as {owner}: {}", granted.migrations.join(", ")));
    }
    for statement in &granted.privileges {
        text.line(format!("{statement};"));
    }
    text
}

fn interrupted() -> Failure {
    let error = anyhow!("interrupted: each migration that was not applied as a whole is rolled back");
    Failure::new(Exit::Interrupted, error).hint("`settled migrate` goes on with those that are missing")
}
