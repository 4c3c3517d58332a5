//! A look at the server, and the risks there: settings that make a commit less than durable, sequences behind their
//! tables, collations that have changed since the indexes were built.

use settled_pipeline::precondition::Precondition;
use tokio_postgres::{Error, GenericClient};

use super::PostgresSettings;
use super::connect::{ConnectError, connect};
use super::error::{behind, describe};
use super::preconditions::preconditions;

#[derive(Debug)]
pub struct Probed {
    /// The server's version: `15.18`.
    pub version: String,
    /// What the daemon needs of the database.
    pub preconditions: Vec<Precondition>,
    /// Risks for payments, one sentence each.
    pub warnings: Vec<String>,
}

/// Connects as the daemon does. Returns the server's version, what the daemon needs there, and the risks that
/// [`warnings`] finds.
///
/// # Errors
/// As [`connect`], and if it takes longer than two connection attempts to each host and a statement may.
pub async fn probe(settings: &PostgresSettings) -> Result<Probed, ConnectError> {
    let hosts = u32::try_from(settings.url.parts().get_hosts().len()).unwrap_or(1);
    let limit = settings.connect_timeout * (2 * hosts + 1) + settings.wait_timeout;
    let ask = async {
        let client = connect(settings).await?;
        let row = client.query_one("SELECT current_setting('server_version')", &[]).await?;
        let preconditions = preconditions(&client, settings.migrate).await?;
        Ok(Probed { version: row.get(0), preconditions, warnings: warnings(&client).await })
    };
    tokio::time::timeout(limit, ask).await.map_err(|_| ConnectError::Timeout(limit))?
}

/// Returns the risks, one sentence each. If a check fails, for lack of a right for instance, that is one too.
pub async fn warnings(client: &impl GenericClient) -> Vec<String> {
    let looked = async {
        let mut warnings = durability(client).await?;
        warnings.extend(sequences(client).await?);
        warnings.extend(collations(client).await?);
        Ok(warnings)
    };
    looked
        .await
        .unwrap_or_else(|error: Error| vec![format!("what could cost payments is not known: {}", describe(&error))])
}

/// Returns the settings that make a commit less than durable. `synchronous_commit` is that of this session, which
/// overrides the default of the role, the database and the server.
pub(super) async fn durability(client: &impl GenericClient) -> Result<Vec<String>, Error> {
    const SETTINGS: &str = "
        SELECT name, setting FROM pg_settings
         WHERE name IN ('fsync', 'full_page_writes') AND setting = 'off'
            OR name = 'synchronous_commit' AND setting IN ('off', 'local')
         ORDER BY name";
    let rows = client.query(SETTINGS, &[]).await?;
    let sentence = |row: &tokio_postgres::Row| {
        let (name, setting): (&str, &str) = (row.get("name"), row.get("setting"));
        let means = match name {
            "fsync" => "a crash of the machine can lose acknowledged payments and corrupt the database; set it to on",
            "full_page_writes" => {
                "a crash of the machine can leave torn pages, unless the file system never writes half a page; set it to on"
            }
            _ => "a crash can lose acknowledged payments; set it to on",
        };
        format!("{name} = {setting}: {means}")
    };
    Ok(rows.iter().map(sentence).collect())
}

/// Returns the sequences that would yield keys which exist already, as after a restore or an upgrade by logical
/// replication.
pub(super) async fn sequences(client: &impl GenericClient) -> Result<Vec<String>, Error> {
    // The tables' own sequences, in any schema of the search path. Those that may not be read are skipped.
    const COLUMNS: &str = "
        SELECT c.relname, a.attname,
               coalesce(pg_sequence_last_value(s.seqrelid), s.seqstart - s.seqincrement) AS last
          FROM pg_sequence s
          JOIN pg_depend d ON d.classid = 'pg_class'::regclass AND d.objid = s.seqrelid AND d.deptype IN ('a', 'i')
          JOIN pg_class c ON d.refclassid = 'pg_class'::regclass AND c.oid = d.refobjid
          JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = d.refobjsubid
         WHERE c.relname IN ('account', 'outbox', 'dead_letter') AND pg_table_is_visible(c.oid)
           AND has_sequence_privilege(s.seqrelid, 'SELECT, USAGE')
         ORDER BY c.relname";
    let mut sentences = Vec::new();
    for row in client.query(COLUMNS, &[]).await? {
        let (table, column, last): (&str, &str, i64) = (row.get("relname"), row.get("attname"), row.get("last"));
        let highest = client.query_one(&format!("SELECT max({column}) AS highest FROM {table}"), &[]).await?;
        let highest: Option<i64> = highest.get("highest");
        if let Some(highest) = highest.filter(|highest| *highest > last) {
            sentences.push(format!("{} (it is at {last}, the table at {highest})", behind(table, column)));
        }
    }
    Ok(sentences)
}

/// Returns a warning if the system's version of the database's collation differs from the recorded one: indexes on text
/// may then be in another order than the one in which they are searched.
async fn collations(client: &impl GenericClient) -> Result<Vec<String>, Error> {
    // Since PostgreSQL 15.
    const DATABASE: &str = "
        SELECT datname, datcollversion, pg_database_collation_actual_version(oid) AS actual
          FROM pg_database
         WHERE datname = current_database()
           AND datcollversion <> pg_database_collation_actual_version(oid)";
    let version = client.query_one("SELECT current_setting('server_version_num')::int", &[]).await?;
    if version.get::<_, i32>(0) < 150_000 {
        return Ok(Vec::new());
    }
    let sentence = |row: &tokio_postgres::Row| {
        let (name, recorded, actual): (&str, &str, &str) =
            (row.get("datname"), row.get("datcollversion"), row.get("actual"));
        format!(
            "the collation of the database {name} is recorded as version {recorded}, and the system has {actual}: \
             indexes on text can miss rows. Those of settled have a fixed order since its schema is of version 7; \
             rebuild others with REINDEX DATABASE, then ALTER DATABASE {name} REFRESH COLLATION VERSION"
        )
    };
    Ok(client.query(DATABASE, &[]).await?.iter().map(sentence).collect())
}
