//! What the daemon needs of its database: one list for its start and for `settled check --connect`.

use settled_pipeline::precondition::Precondition;
use tokio_postgres::{Client, Error, GenericClient};

use super::migrate::MigrateError;
use super::privileges::{CALLED, CALLED_OF_SERVER, TABLES, User, tables};
use super::schema::usable_schema;

/// The oldest version with all that the schema uses (`gen_random_uuid`).
const OLDEST: i32 = 130_000;

/// Returns every precondition and whether it holds. Changes nothing. `migrates` says whether the daemon may bring the
/// schema up to date.
pub(super) async fn preconditions(client: &Client, migrates: bool) -> Result<Vec<Precondition>, Error> {
    let mut found = vec![version(client).await?];
    match usable_schema(client).await {
        Ok(usable) => {
            found.push(schema(client, &usable.missing, migrates).await?);
            found.push(rights(client).await?);
        }
        Err(MigrateError::Postgres(error)) if error.as_db_error().is_none() => return Err(error),
        Err(error) => found.push(Precondition::failed(
            "schema",
            error.to_string(),
            "correct what PostgreSQL says; `settled migrate --dry-run` repeats the question",
        )),
    }
    Ok(found)
}

/// Returns the preconditions that do not hold of an up-to-date schema.
pub async fn unmet(client: &impl GenericClient) -> Result<Vec<Precondition>, Error> {
    let found = [version(client).await?, rights(client).await?];
    Ok(found.into_iter().filter(|precondition| !precondition.holds()).collect())
}

async fn version(client: &impl GenericClient) -> Result<Precondition, Error> {
    const VERSION: &str =
        "SELECT current_setting('server_version_num')::int AS number, current_setting('server_version') AS name";
    let row = client.query_one(VERSION, &[]).await?;
    let (number, name): (i32, &str) = (row.get("number"), row.get("name"));
    Ok(if number >= OLDEST {
        Precondition::ok("version", name)
    } else {
        Precondition::failed("version", format!("{name}, expected 13 or later"), "upgrade PostgreSQL")
    })
}

async fn schema(client: &impl GenericClient, missing: &[String], migrates: bool) -> Result<Precondition, Error> {
    if missing.is_empty() {
        return Ok(Precondition::ok("schema", "up to date"));
    }
    let lacks = format!("lacks {}", missing.join(", "));
    if !migrates {
        let remedy = "run `settled migrate` as the owner of the tables, or set postgres.migrate = true";
        return Ok(Precondition::failed("schema", format!("{lacks}, and postgres.migrate is false"), remedy));
    }
    // What a migration needs: to create in the schema, and to own what is there.
    const MAY_MIGRATE: &str = "
        SELECT current_user::text AS role,
               coalesce(has_schema_privilege(current_schema(), 'CREATE'), false)
               AND NOT EXISTS (SELECT FROM pg_class
                                WHERE oid = ANY(SELECT to_regclass(name)::oid FROM unnest($1::text[]) AS n(name))
                                  AND NOT pg_has_role(relowner, 'USAGE')) AS may";
    let row = client.query_one(MAY_MIGRATE, &[&tables()]).await?;
    let role: &str = row.get("role");
    Ok(if row.get("may") {
        Precondition::ok("schema", format!("{lacks}: `settled run` makes it"))
    } else {
        let found = format!("{lacks}, and the role {role} may not make it");
        Precondition::failed("schema", found, "run `settled migrate` as the owner of the tables and of their schema")
    })
}

/// Whether the role has the rights on what there is.
async fn rights(client: &impl GenericClient) -> Result<Precondition, Error> {
    const TABLE_RIGHTS: &str = "
        SELECT name, privilege FROM unnest($1::text[], $2::text[]) WITH ORDINALITY AS n(name, privilege, place)
         WHERE NOT coalesce(has_table_privilege(to_regclass(name)::oid, privilege), true) ORDER BY place";
    const FUNCTION_RIGHTS: &str = "
        SELECT name FROM unnest($1::text[]) AS n(name)
         WHERE NOT coalesce(has_function_privilege(to_regprocedure(name)::oid, 'EXECUTE'), true)";
    let needed = TABLES.iter().filter(|(_, user, _)| *user == User::Daemon);
    let pairs = needed.flat_map(|(table, _, rights)| rights.iter().map(move |right| (*table, *right)));
    let (names, rights): (Vec<&str>, Vec<&str>) = pairs.unzip();
    let role: String = client.query_one("SELECT quote_ident(current_user)", &[]).await?.get(0);
    let mut lacking: Vec<(String, String)> = Vec::new();
    for row in client.query(TABLE_RIGHTS, &[&names, &rights]).await? {
        lacking.push((row.get("privilege"), row.get("name")));
    }
    for row in client.query(FUNCTION_RIGHTS, &[&[CALLED, CALLED_OF_SERVER].as_slice()]).await? {
        lacking.push(("EXECUTE".to_owned(), format!("FUNCTION {}", row.get::<_, &str>("name"))));
    }
    if lacking.is_empty() {
        return Ok(Precondition::ok("rights", format!("the role {role} has all that it needs")));
    }
    let list: Vec<String> = lacking.iter().map(|(right, object)| format!("{right} on {object}")).collect();
    let grants: Vec<String> =
        lacking.iter().map(|(right, object)| format!("GRANT {right} ON {object} TO {role};")).collect();
    let found = format!("the role {role} lacks {}", list.join(", "));
    Ok(Precondition::failed("rights", found, format!("as the owner of the tables: {}", grants.join(" "))))
}
