-- Which programs the schema still serves. Migrations expand, so an earlier program goes on with a later schema, and one
-- that is put back starts with it. A migration that takes away what earlier programs need inserts a row here: its own
-- version, the last migration of the oldest program that it serves, and that program's version. Locks no table.
CREATE TABLE schema_compatibility (
    version        integer PRIMARY KEY,
    oldest_schema  integer NOT NULL,
    oldest_program text NOT NULL
);

-- Whoever may read the migrations may read this, so that a daemon whose role was granted its privileges by hand starts.
DO $$
DECLARE
    permission record;
BEGIN
    FOR permission IN
        SELECT CASE WHEN grantee = 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(grantee)) END AS who
          FROM pg_class, aclexplode(relacl)
         WHERE oid = 'refinery_schema_history'::regclass AND privilege_type = 'SELECT'
    LOOP
        EXECUTE format('GRANT SELECT ON schema_compatibility TO %s', permission.who);
    END LOOP;
END $$;
