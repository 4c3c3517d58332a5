-- Events for a stream: a row for those of a batch, as in the outbox. One producer appends them for the whole ledger.
CREATE TABLE stream_outbox (
    id         bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    events     integer NOT NULL CHECK (events > 0),
    body       bytea NOT NULL
) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 2000);
ALTER TABLE stream_outbox ALTER COLUMN body SET STORAGE EXTERNAL;

-- The producer: who appends, until when, and which rows have publishing ids. The events of `rows` have the ids from
-- `first_id` on, in order; without rows it is the next id. The stream drops what comes with an id again, so an id is
-- given once. Nothing that is updated has an index.
CREATE TABLE stream_producer (
    is_one       boolean PRIMARY KEY DEFAULT true CHECK (is_one),
    version      bigint NOT NULL,
    holder       uuid,
    leased_until timestamptz NOT NULL,
    first_id     bigint NOT NULL CHECK (first_id > 0),
    confirmed_id bigint NOT NULL,
    rows         bigint[] NOT NULL,
    events       integer[] NOT NULL,
    CHECK (cardinality(rows) = cardinality(events))
) WITH (fillfactor = 10);
INSERT INTO stream_producer (version, leased_until, first_id, confirmed_id, rows, events)
VALUES (0, '-infinity', 1, 0, '{}', '{}');

-- Whoever may use the outbox may use these, so that a daemon whose role was granted its privileges by hand starts.
DO $$
DECLARE
    permission record;
BEGIN
    FOR permission IN
        SELECT CASE WHEN grantee = 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(grantee)) END AS who, privilege_type
          FROM pg_class, aclexplode(relacl)
         WHERE oid = 'outbox'::regclass AND privilege_type IN ('SELECT', 'INSERT', 'UPDATE', 'DELETE')
    LOOP
        IF permission.privilege_type <> 'UPDATE' THEN
            EXECUTE format('GRANT %s ON stream_outbox TO %s', permission.privilege_type, permission.who);
        END IF;
        IF permission.privilege_type IN ('SELECT', 'UPDATE') THEN
            EXECUTE format('GRANT %s ON stream_producer TO %s', permission.privilege_type, permission.who);
        END IF;
    END LOOP;
END $$;
