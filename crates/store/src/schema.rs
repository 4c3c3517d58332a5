//! What the database's schema is, compared with the one that this version was built for.
//!
//! Migrations expand: what a version needs stays there. A later migration that takes something away says so in the
//! table `schema_compatibility`, in its own transaction. So a version can be put back as long as no such migration has
//! come.

use tokio_postgres::Client;

use super::migrate::{MigrateError, embedded, holds_every_text};

/// Version of the program, as its users know it.
const PROGRAM: &str = settled_pipeline::VERSION;

/// Why this version cannot use the schema. Nothing but another version, or a repaired database, can help.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SchemaProblem {
    /// A later version has taken away something that this one needs.
    #[error(
        "the migration {migration} of a later version has changed the schema so that it needs settled {program} or \
         later (schema {schema}); this is settled {PROGRAM} (schema {built_for}): install settled {program} or later"
    )]
    Incompatible { migration: String, program: String, schema: i32, built_for: i32 },
    /// Something else was applied under this name.
    #[error(
        "the migration {0} was changed after it had been applied: the database was migrated by another build of settled"
    )]
    Changed(String),
    /// A migration of no release.
    #[error(
        "the database has the migration {migration}, which settled {PROGRAM} does not know although it has later \
         ones: it was migrated by a build that was never released"
    )]
    Unknown { migration: String },
    /// Later ones depend on it.
    #[error("the migration {0} was never applied, although a later one was: it cannot be applied any more")]
    Skipped(String),
}

/// The migrations of the database and of this version, by name and in their order.
#[derive(Clone, Debug, Default)]
pub struct Schema {
    /// Migrations that this version has and the database has, too.
    pub applied: Vec<String>,
    /// Migrations that the database lacks.
    pub missing: Vec<String>,
    /// Migrations of later versions. What this version needs is still there.
    pub later_compatible: Vec<String>,
    /// Migrations of later versions that have taken away something that this version needs.
    pub later_incompatible: Vec<String>,
    /// Why this version cannot use the schema, even if the missing migrations were applied.
    pub problem: Option<SchemaProblem>,
}

/// A migration as this version or the database has it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Migration {
    version: i32,
    name: String,
    checksum: String,
    /// What it needs of the program, if it is known to need anything.
    needs: Option<(i32, String)>,
}

impl Migration {
    fn full_name(&self) -> String {
        format!("V{}__{}", self.version, self.name)
    }
}

/// Reads which migrations were applied, and compares them with those of this version.
///
/// # Errors
/// If PostgreSQL refuses or is away, or if the database cannot store every text.
pub async fn schema(client: &Client) -> Result<Schema, MigrateError> {
    holds_every_text(client).await?;
    let runner = embedded::migrations::runner();
    let known = runner.get_migrations().iter().map(|migration| Migration {
        version: migration.version(),
        name: migration.name().to_owned(),
        checksum: migration.checksum().to_string(),
        needs: None,
    });
    Ok(compare(known.collect(), &recorded(client).await?))
}

/// Like [`schema`], for whoever is about to use it.
///
/// # Errors
/// [`MigrateError::Schema`] if this version cannot use it. It may lack migrations nevertheless.
pub async fn usable_schema(client: &Client) -> Result<Schema, MigrateError> {
    let found = schema(client).await?;
    match found.problem {
        Some(problem) => Err(problem.into()),
        None => Ok(found),
    }
}

/// Returns the migrations that the database has recorded, in their order.
async fn recorded(client: &Client) -> Result<Vec<Migration>, MigrateError> {
    const TABLES: &str = "SELECT to_regclass('refinery_schema_history') IS NOT NULL AS history,
                                 to_regclass('schema_compatibility') IS NOT NULL AS compatibility";
    const HISTORY: &str = "SELECT version, name, checksum, NULL::integer AS schema, NULL::text AS program
                             FROM refinery_schema_history ORDER BY version";
    const WITH_NEEDS: &str = "
        SELECT h.version, h.name, h.checksum, c.oldest_schema AS schema, c.oldest_program AS program
          FROM refinery_schema_history h LEFT JOIN schema_compatibility c ON c.version = h.version
         ORDER BY h.version";
    let there = client.query_one(TABLES, &[]).await?;
    let query = match (there.get("history"), there.get("compatibility")) {
        (false, _) => return Ok(Vec::new()),
        (true, false) => HISTORY,
        (true, true) => WITH_NEEDS,
    };
    let rows = client.query(query, &[]).await?;
    let migration = |row: &tokio_postgres::Row| {
        let schema: Option<i32> = row.get("schema");
        Migration {
            version: row.get("version"),
            name: row.get::<_, Option<String>>("name").unwrap_or_default(),
            checksum: row.get::<_, Option<String>>("checksum").unwrap_or_default(),
            needs: schema.zip(row.get("program")),
        }
    };
    Ok(rows.iter().map(migration).collect())
}

/// Compares the migrations of this version with those of the database, both in any order.
fn compare(mut known: Vec<Migration>, recorded: &[Migration]) -> Schema {
    known.sort_by_key(|migration| migration.version);
    let built_for = known.last().map_or(0, |migration| migration.version);
    let last = recorded.iter().map(|migration| migration.version).max().unwrap_or(0);
    let mut schema = Schema::default();
    let mut problems = Vec::new();
    for migration in &known {
        let name = migration.full_name();
        match recorded.iter().find(|recorded| recorded.version == migration.version) {
            None if migration.version < last => problems.push(SchemaProblem::Skipped(name.clone())),
            Some(found) if (&found.name, &found.checksum) != (&migration.name, &migration.checksum) => {
                problems.push(SchemaProblem::Changed(found.full_name()));
            }
            _ => {}
        }
        let is_applied = recorded.iter().any(|recorded| recorded.version == migration.version);
        if is_applied { &mut schema.applied } else { &mut schema.missing }.push(name);
    }
    for migration in recorded.iter().filter(|recorded| known.iter().all(|known| known.version != recorded.version)) {
        let name = migration.full_name();
        match &migration.needs {
            _ if migration.version < built_for => problems.push(SchemaProblem::Unknown { migration: name }),
            Some((oldest, program)) if *oldest > built_for => {
                schema.later_incompatible.push(name.clone());
                let program = program.clone();
                problems.push(SchemaProblem::Incompatible { migration: name, program, schema: *oldest, built_for });
            }
            _ => schema.later_compatible.push(name),
        }
    }
    // The last migration asks for the latest program.
    schema.problem = problems.pop();
    schema
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(version: i32) -> Migration {
        Migration { version, name: format!("m{version}"), checksum: version.to_string(), needs: None }
    }

    fn needing(version: i32, schema: i32) -> Migration {
        Migration { needs: Some((schema, format!("0.{schema}.0"))), ..of(version) }
    }

    fn with(recorded: &[Migration]) -> Schema {
        compare(vec![of(3), of(1), of(2)], recorded)
    }

    #[test]
    fn an_empty_database_lacks_everything_and_a_complete_one_nothing() {
        assert_eq!(with(&[]).missing, ["V1__m1", "V2__m2", "V3__m3"]);
        let complete = with(&[of(1), of(2), of(3)]);
        assert_eq!((complete.applied.len(), complete.missing.len(), complete.problem), (3, 0, None));
        let half = with(&[of(1)]);
        assert_eq!((half.missing.len(), half.problem), (2, None));
    }

    #[test]
    fn a_later_migration_is_compatible_unless_it_says_that_it_needs_a_later_program() {
        let before = [of(1), of(2), of(3)];
        for later in [of(4), needing(4, 2), needing(4, 3)] {
            let schema = with(&[&before[..], &[later]].concat());
            assert_eq!((schema.later_compatible, schema.problem), (vec!["V4__m4".to_owned()], None));
        }
        let schema = with(&[&before[..], &[of(4), needing(5, 4), needing(6, 5), of(7)]].concat());
        assert_eq!(schema.later_compatible, ["V4__m4", "V7__m7"]);
        assert_eq!(schema.later_incompatible, ["V5__m5", "V6__m6"]);
        let needed = SchemaProblem::Incompatible {
            migration: "V6__m6".to_owned(),
            program: "0.5.0".to_owned(),
            schema: 5,
            built_for: 3,
        };
        assert_eq!(schema.problem, Some(needed));
    }

    #[test]
    fn a_history_that_no_release_has_made_is_a_problem() {
        let other = Migration { checksum: "other".to_owned(), ..of(2) };
        assert_eq!(with(&[of(1), other, of(3)]).problem, Some(SchemaProblem::Changed("V2__m2".to_owned())));
        let renamed = Migration { name: "other".to_owned(), ..of(2) };
        assert_eq!(with(&[of(1), renamed]).problem, Some(SchemaProblem::Changed("V2__other".to_owned())));
        assert_eq!(with(&[of(1), of(3)]).problem, Some(SchemaProblem::Skipped("V2__m2".to_owned())));
        assert_eq!(with(&[of(1), of(2), of(4)]).problem, Some(SchemaProblem::Skipped("V3__m3".to_owned())));
        let unknown = SchemaProblem::Unknown { migration: "V0__m0".to_owned() };
        assert_eq!(with(&[of(0), of(1), of(2), of(3)]).problem, Some(unknown));
    }
}
