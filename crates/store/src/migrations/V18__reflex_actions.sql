-- What daemons did by themselves, or would have done: a row for each action and one for its end. At most a few an hour.
CREATE TABLE reflex_action (
    id        uuid PRIMARY KEY,
    at        timestamptz NOT NULL,
    host      text NOT NULL,
    pid       integer NOT NULL,
    reflex    text NOT NULL,
    action    text NOT NULL,
    publisher text,
    reason    text NOT NULL
);
CREATE INDEX reflex_action_at ON reflex_action (at);

-- Whoever may use the registry of daemons may use this, so that a daemon whose role was granted its privileges by hand starts.
DO $$
DECLARE
    permission record;
BEGIN
    FOR permission IN
        SELECT CASE WHEN grantee = 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(grantee)) END AS who, privilege_type
          FROM pg_class, aclexplode(relacl)
         WHERE oid = 'instance'::regclass AND privilege_type IN ('SELECT', 'INSERT')
    LOOP
        EXECUTE format('GRANT %s ON reflex_action TO %s', permission.privilege_type, permission.who);
    END LOOP;
END $$;
