//! Three roles: one owns the schema and migrates it, one runs the daemon, one reads.
//!
//! What each may do is in [`privileges`](super::privileges).

use tokio_postgres::Client;

use super::migrate::{self, MigrateError};
use super::privileges::{CALLED, OF_TRIGGERS, SEQUENCES, TYPES, tables, tables_with};

/// Names of the roles.
#[derive(Clone, Debug)]
pub struct Roles {
    /// Owns the schema and migrates it.
    pub owner: String,
    /// The daemon, and the commands that deal with dead letters and held events.
    pub daemon: String,
    /// Reads everything and changes nothing: the other commands, the audit, dashboards.
    pub reader: String,
}

/// What was done, or would be.
#[derive(Clone, Debug, Default)]
pub struct Granted {
    /// Statements that create the roles and make the owner the owner.
    pub roles: Vec<String>,
    /// Migrations that the owner applies after that, by name.
    pub migrations: Vec<String>,
    /// Statements that give the roles their privileges on each table, and take away all others.
    pub privileges: Vec<String>,
}

/// Returns what [`grant`] would do.
///
/// # Errors
/// As [`grant`].
pub async fn plan_grants(client: &Client, roles: &Roles) -> Result<Granted, MigrateError> {
    let schema = super::usable_schema(client).await?;
    let found = Found::read(client, roles).await?;
    Ok(Granted { roles: set_up(roles, &found), migrations: schema.missing, privileges: privileges(roles) })
}

/// Creates the roles that are missing, makes `owner` the owner of the schema and of what is in it, migrates as `owner`,
/// and gives each role its privileges. Takes away all other privileges of theirs, and those of everybody. Changes no
/// password, and no attribute of a role that exists. Can be repeated.
///
/// # Errors
/// [`MigrateError::Roles`] if a role is one that privileges do not limit, [`MigrateError::Grant`] if a statement is
/// refused. Then none of the statements with it is in force.
pub async fn grant(client: &mut Client, roles: &Roles) -> Result<Granted, MigrateError> {
    migrate::lock(client).await?;
    let granted = grant_locked(client, roles).await;
    client.batch_execute("RESET ROLE").await?;
    migrate::unlock(client).await?;
    granted
}

async fn grant_locked(client: &mut Client, roles: &Roles) -> Result<Granted, MigrateError> {
    let plan = plan_grants(client, roles).await?;
    all_or_nothing(client, &plan.roles).await?;
    // What is created from here on is the owner's, and has the default privileges.
    client.batch_execute(&format!("SET ROLE {}", quoted(&roles.owner))).await?;
    let migrations = migrate::migrate(client).await?;
    all_or_nothing(client, &plan.privileges).await?;
    Ok(Granted { migrations, ..plan })
}

async fn all_or_nothing(client: &mut Client, statements: &[String]) -> Result<(), MigrateError> {
    let transaction = client.transaction().await?;
    for statement in statements {
        let done = transaction.batch_execute(statement).await;
        done.map_err(|error| MigrateError::Grant { statement: statement.clone(), error })?;
    }
    Ok(transaction.commit().await?)
}

/// What there is already.
#[derive(Debug, Default)]
struct Found {
    database: String,
    schema: String,
    /// Which of the three roles exist.
    roles: Vec<String>,
    /// Whether this session may act as the owner.
    is_owner: bool,
    /// Whether the owner owns the schema.
    owns_schema: bool,
    /// Whether this session may grant privileges on the database.
    administers: bool,
    /// Whether one of the other two roles owns the database.
    is_database_of_theirs: bool,
    /// What is not the owner's yet, as `TABLE account`.
    foreign: Vec<String>,
}

impl Found {
    async fn read(client: &Client, roles: &Roles) -> Result<Self, MigrateError> {
        const ROLES: &str = "SELECT rolname::text, rolsuper FROM pg_roles WHERE rolname = ANY($1)";
        const PLACE: &str = "
            SELECT current_database()::text AS database, coalesce(current_schema(), 'public')::text AS schema,
                   (SELECT nspowner FROM pg_namespace WHERE nspname = current_schema()) IS NOT DISTINCT FROM owner.oid
                       AS owns_schema,
                   coalesce(pg_has_role(owner.oid, 'MEMBER'), false) AS is_owner,
                   pg_has_role(d.datdba, 'MEMBER') AS administers,
                   d.datdba = ANY(SELECT oid FROM pg_roles WHERE rolname = ANY($2)) AS is_database_of_theirs,
                   ARRAY(SELECT rolname::text FROM pg_roles
                          WHERE rolname = ANY($2) AND pg_has_role(oid, owner.oid, 'MEMBER')) AS members
              FROM pg_database d LEFT JOIN pg_roles owner ON owner.rolname = $1
             WHERE d.datname = current_database()";
        const FOREIGN: &str = "
            SELECT CASE relkind WHEN 'v' THEN 'VIEW ' ELSE 'TABLE ' END || oid::regclass AS what
              FROM pg_class
             WHERE relnamespace = current_schema()::regnamespace AND relkind IN ('r', 'p', 'v')
               AND relname = ANY($1) AND pg_get_userbyid(relowner) <> $4
            UNION ALL
            SELECT 'FUNCTION ' || oid::regprocedure FROM pg_proc
             WHERE pronamespace = current_schema()::regnamespace
               AND proname = ANY($2) AND pg_get_userbyid(proowner) <> $4
            UNION ALL
            SELECT 'TYPE ' || oid::regtype FROM pg_type
             WHERE typnamespace = current_schema()::regnamespace
               AND typname = ANY($3) AND pg_get_userbyid(typowner) <> $4
             ORDER BY 1";
        let others = [roles.daemon.as_str(), &roles.reader];
        check_names(roles)?;
        let rows = client.query(ROLES, &[&[&roles.owner[..], others[0], others[1]].as_slice()]).await?;
        for row in rows.iter().filter(|row| row.get("rolsuper")) {
            let role: &str = row.get("rolname");
            if others.contains(&role) {
                return Err(MigrateError::Roles(format!(
                    "the role {role} is a superuser, which no privilege limits: name another role, or \
                     ALTER ROLE {} NOSUPERUSER as another superuser",
                    quoted(role)
                )));
            }
        }
        let place = client.query_one(PLACE, &[&roles.owner, &others.as_slice()]).await?;
        if let Some(member) = place.get::<_, Vec<String>>("members").first() {
            return Err(MigrateError::Roles(format!(
                "the role {member} is a member of {owner}, and could do all that {owner} may: REVOKE {} FROM {}",
                quoted(&roles.owner),
                quoted(member),
                owner = roles.owner
            )));
        }
        let functions = std::iter::once(CALLED).chain(OF_TRIGGERS.iter().copied());
        let functions: Vec<&str> = functions.filter_map(|function| function.split('(').next()).collect();
        let foreign = client.query(FOREIGN, &[&tables(), &functions, &TYPES, &roles.owner]).await?;
        Ok(Self {
            database: place.get("database"),
            schema: place.get("schema"),
            roles: rows.iter().map(|row| row.get("rolname")).collect(),
            is_owner: place.get("is_owner"),
            owns_schema: place.get("owns_schema"),
            administers: place.get("administers"),
            is_database_of_theirs: place.get("is_database_of_theirs"),
            foreign: foreign.iter().map(|row| row.get("what")).collect(),
        })
    }
}

fn check_names(roles: &Roles) -> Result<(), MigrateError> {
    let names = [&roles.owner, &roles.daemon, &roles.reader];
    if let Some(name) = names.into_iter().find(|name| name.is_empty() || name.len() > 63 || name.contains('\0')) {
        return Err(MigrateError::Roles(format!("{name:?} is not the name of a role: expected 1 to 63 bytes")));
    }
    if names[0] == names[1] || names[1] == names[2] || names[0] == names[2] {
        return Err(MigrateError::Roles("the three roles need three names".to_owned()));
    }
    Ok(())
}

/// Returns the statements before the migration.
fn set_up(roles: &Roles, found: &Found) -> Vec<String> {
    let [owner, daemon, reader] = [&roles.owner, &roles.daemon, &roles.reader].map(|role| quoted(role));
    let (database, schema) = (quoted(&found.database), quoted(&found.schema));
    let missing = [&roles.owner, &roles.daemon, &roles.reader].into_iter().filter(|role| !found.roles.contains(role));
    let mut statements: Vec<String> = missing.map(|role| format!("CREATE ROLE {} LOGIN", quoted(role))).collect();
    let mut unless = |is_so: bool, statement: String| {
        if !is_so {
            statements.push(statement);
        }
    };
    unless(found.is_owner, format!("GRANT {owner} TO CURRENT_USER"));
    unless(found.owns_schema, format!("ALTER SCHEMA {schema} OWNER TO {owner}"));
    unless(!found.is_database_of_theirs, format!("ALTER DATABASE {database} OWNER TO {owner}"));
    statements.extend(found.foreign.iter().map(|what| format!("ALTER {what} OWNER TO {owner}")));
    if found.administers {
        statements.push(format!("REVOKE ALL ON DATABASE {database} FROM {daemon}, {reader}"));
        statements.push(format!("REVOKE CREATE, TEMPORARY ON DATABASE {database} FROM PUBLIC"));
        statements.push(format!("GRANT CONNECT ON DATABASE {database} TO {owner}, {daemon}, {reader}"));
    }
    statements.push(format!("REVOKE ALL ON SCHEMA {schema} FROM {daemon}, {reader}"));
    statements.push(format!("REVOKE CREATE ON SCHEMA {schema} FROM PUBLIC"));
    statements.push(format!("GRANT USAGE ON SCHEMA {schema} TO {daemon}, {reader}"));
    let of_owner = format!("ALTER DEFAULT PRIVILEGES FOR ROLE {owner}");
    // This default is the server's, not a schema's.
    statements.push(format!("{of_owner} REVOKE EXECUTE ON FUNCTIONS FROM PUBLIC"));
    for (privileges, of, to) in [
        ("SELECT, INSERT, UPDATE, DELETE", "TABLES", &daemon),
        ("SELECT", "TABLES", &reader),
        ("SELECT", "SEQUENCES", &daemon),
        ("SELECT", "SEQUENCES", &reader),
        ("EXECUTE", "FUNCTIONS", &daemon),
    ] {
        statements.push(format!("{of_owner} IN SCHEMA {schema} GRANT {privileges} ON {of} TO {to}"));
    }
    statements
}

/// Returns the statements after the migration. All are in one transaction: a daemon that runs never lacks a privilege.
fn privileges(roles: &Roles) -> Vec<String> {
    let [daemon, reader] = [&roles.daemon, &roles.reader].map(|role| quoted(role));
    let (tables, sequences, of_triggers) = (tables().join(", "), SEQUENCES.join(", "), OF_TRIGGERS.join(", "));
    vec![
        format!("REVOKE ALL ON {tables} FROM PUBLIC, {daemon}, {reader}"),
        format!("GRANT SELECT ON {tables} TO {daemon}, {reader}"),
        format!("GRANT INSERT ON {} TO {daemon}", tables_with("INSERT").join(", ")),
        format!("GRANT UPDATE ON {} TO {daemon}", tables_with("UPDATE").join(", ")),
        format!("GRANT DELETE ON {} TO {daemon}", tables_with("DELETE").join(", ")),
        format!("REVOKE ALL ON SEQUENCE {sequences} FROM PUBLIC, {daemon}, {reader}"),
        format!("GRANT SELECT ON SEQUENCE {sequences} TO {daemon}, {reader}"),
        format!("REVOKE ALL ON FUNCTION {CALLED}, {of_triggers} FROM PUBLIC, {daemon}, {reader}"),
        format!("GRANT EXECUTE ON FUNCTION {CALLED} TO {daemon}"),
    ]
}

/// Returns a name as an SQL identifier.
fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn roles() -> Roles {
        Roles { owner: "o\"wner".to_owned(), daemon: "d".to_owned(), reader: "r".to_owned() }
    }

    #[test]
    fn nothing_is_created_or_transferred_twice() {
        let all = vec![roles().owner, roles().daemon, roles().reader];
        let is_done = Found { roles: all, is_owner: true, owns_schema: true, ..Found::default() };
        let statements = set_up(&roles(), &is_done);
        assert!(statements.iter().all(|statement| !statement.contains("CREATE ROLE")), "{statements:?}");
        assert!(statements.iter().all(|statement| !statement.contains("OWNER TO")), "{statements:?}");
        let nothing = Found { foreign: vec!["TABLE account".to_owned()], ..Found::default() };
        let statements = set_up(&roles(), &nothing);
        for expected in ["CREATE ROLE \"o\"\"wner\" LOGIN", "ALTER TABLE account OWNER TO \"o\"\"wner\""] {
            assert!(statements.iter().any(|statement| statement == expected), "{expected}: {statements:?}");
        }
    }

    #[test]
    fn roles_are_three_and_have_names() {
        assert!(check_names(&roles()).is_ok());
        assert!(check_names(&Roles { reader: "d".to_owned(), ..roles() }).is_err());
        assert!(check_names(&Roles { daemon: String::new(), ..roles() }).is_err());
    }
}
