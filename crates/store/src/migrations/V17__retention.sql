-- Finds what is kept for a limited time by the time at which that began: see `[retention]`.
CREATE INDEX dead_letter_resolved ON dead_letter (resolved_at) WHERE resolved_at IS NOT NULL;
CREATE INDEX outbox_discarded_at ON outbox_discarded (discarded_at);

-- Whoever may resolve a dead letter may remove it, and whoever may discard an event, that: so that a daemon whose role was
-- granted its privileges by hand starts.
DO $$
DECLARE
    permission record;
BEGIN
    FOR permission IN
        SELECT relname, CASE WHEN grantee = 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(grantee)) END AS who
          FROM pg_class, aclexplode(relacl)
         WHERE (oid = 'dead_letter'::regclass AND privilege_type = 'UPDATE')
            OR (oid = 'outbox_discarded'::regclass AND privilege_type = 'INSERT')
    LOOP
        EXECUTE format('GRANT DELETE ON %I TO %s', permission.relname, permission.who);
    END LOOP;
END $$;

-- Payments and what belongs to them are hardly ever changed and never removed, so by default their tables are vacuumed
-- when a fifth of them is new: millions of rows at once, which the index by time does not know until then. A vacuum reads
-- what is new only, so small steps cost no more.
ALTER TABLE payment SET (autovacuum_vacuum_insert_scale_factor = 0.02);
ALTER TABLE entry SET (autovacuum_vacuum_insert_scale_factor = 0.02);
ALTER TABLE transition SET (autovacuum_vacuum_insert_scale_factor = 0.02);
ALTER TABLE leg SET (autovacuum_vacuum_insert_scale_factor = 0.02);
