-- The daemons that use this database. Each writes its own row, and renews the lease every few seconds. A row whose lease
-- has run out is one of a daemon that is dead or cannot reach the database; one that stops deletes its row. Nothing that
-- is updated has an index, so a renewal writes no index, and its page has room for it.
CREATE TABLE instance (
    id          bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    host        text NOT NULL,
    pid         integer NOT NULL,
    version     text NOT NULL,
    -- The last migration that the daemon was built for.
    schema      integer NOT NULL,
    -- Where its health and metrics are served, on its host.
    admin       text NOT NULL,
    started_at  timestamptz NOT NULL DEFAULT clock_timestamp(),
    lease_until timestamptz NOT NULL,
    state       text NOT NULL,
    reason      text,
    in_flight   bigint NOT NULL,
    -- When an operator asked it to take no more tasks. The daemon reads it with its lease.
    drain_at    timestamptz
) WITH (fillfactor = 50);

-- Whoever may use the outbox may use this, so that a daemon whose role was granted its privileges by hand starts.
DO $$
DECLARE
    permission record;
BEGIN
    FOR permission IN
        SELECT CASE WHEN grantee = 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(grantee)) END AS who, privilege_type
          FROM pg_class, aclexplode(relacl)
         WHERE oid = 'outbox'::regclass AND privilege_type IN ('SELECT', 'INSERT', 'UPDATE', 'DELETE')
    LOOP
        EXECUTE format('GRANT %s ON instance TO %s', permission.privilege_type, permission.who);
    END LOOP;
END $$;
