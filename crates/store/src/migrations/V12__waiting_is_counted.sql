-- What waits and what is held is counted as it changes, so that nobody reads all rows to measure
-- them, and whatever is due or oldest is found by an index. Expands only: what the version before
-- writes is counted by the triggers, too.

DO $$
DECLARE
    tasks uuid[];
    times timestamptz[];
BEGIN
    -- When the tasks that wait already began to, read before anything is locked: those of either kind that
    -- have waited longest. To the others the wait begins now, which shows when those are gone.
    SELECT array_agg(task_id), array_agg(settled_at) INTO tasks, times FROM (
        (SELECT a.task_id, p.settled_at FROM agenda a JOIN payment p ON p.id = a.task_id
          WHERE a.waits_for IS NULL ORDER BY p.settled_at LIMIT 50000)
        UNION ALL
        (SELECT a.task_id, p.settled_at FROM agenda a JOIN payment p ON p.id = a.task_id
          WHERE a.waits_for IS NOT NULL ORDER BY p.settled_at LIMIT 50000)) oldest;
    -- In this order, as every batch reads `agenda` before it writes `hold`.
    LOCK TABLE agenda IN ACCESS EXCLUSIVE MODE;
    LOCK TABLE hold IN SHARE ROW EXCLUSIVE MODE;
    -- By the database's clock. A constant for the rows that are there, so the table is not rewritten.
    ALTER TABLE agenda ADD COLUMN since timestamptz NOT NULL DEFAULT statement_timestamp();
    CREATE INDEX agenda_scheduled ON agenda (since) WHERE waits_for IS NULL;
    CREATE INDEX agenda_parked ON agenda (since) WHERE waits_for IS NOT NULL;
    -- Tasks for the same moment are resumed in the order in which they were accepted. The index begins like
    -- the one that it replaces.
    CREATE INDEX agenda_due_since ON agenda (due_at, since);
    DROP INDEX agenda_due;
    UPDATE agenda a SET since = o.since FROM unnest(tasks, times) o (task_id, since) WHERE o.task_id = a.task_id;
END $$;

-- Rows that no queue takes can be many, and must not be read to find the others.
CREATE INDEX outbox_free ON outbox (id) WHERE held_key IS NULL;

-- Changes of the numbers of scheduled tasks, parked tasks and holds; their sum is the number. Each
-- statement adds rows of its own, so no two transactions wait for each other. Whoever measures
-- replaces many rows by their sum.
CREATE TABLE waiting_count (
    -- Not a sequence: it could fall behind after a restore, and payments would fail because of a count.
    id       uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    what     text NOT NULL CONSTRAINT waiting_count_what CHECK (what IN ('scheduled', 'parked', 'hold')),
    currency text,
    rows     bigint NOT NULL,
    amount   numeric NOT NULL DEFAULT 0
) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 2000);

-- Who may write what is counted may count it.
DO $$
DECLARE
    permission record;
BEGIN
    FOR permission IN
        SELECT CASE WHEN grantee = 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(grantee)) END AS who,
               privilege_type, CASE WHEN is_grantable THEN ' WITH GRANT OPTION' ELSE '' END AS further
          FROM pg_class, aclexplode(relacl) WHERE oid = 'hold'::regclass
    LOOP
        EXECUTE format('GRANT %s ON waiting_count TO %s%s', permission.privilege_type, permission.who, permission.further);
    END LOOP;
END $$;

CREATE FUNCTION hold_is_counted() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'INSERT' THEN
        INSERT INTO waiting_count (what, currency, rows, amount)
        SELECT 'hold', c.currency, count(*), sum(c.amount)
          FROM (SELECT (SELECT currency FROM account a WHERE a.id = h.account), h.amount FROM new_holds h) c (currency, amount)
         GROUP BY c.currency;
    ELSIF TG_OP = 'DELETE' THEN
        INSERT INTO waiting_count (what, currency, rows, amount)
        SELECT 'hold', c.currency, -count(*), -sum(c.amount)
          FROM (SELECT (SELECT currency FROM account a WHERE a.id = h.account), h.amount FROM old_holds h) c (currency, amount)
         GROUP BY c.currency;
    ELSE
        INSERT INTO waiting_count (what, currency, rows, amount)
        SELECT 'hold', c.currency, sum(c.rows), sum(c.amount)
          FROM (SELECT (SELECT currency FROM account a WHERE a.id = h.account), 1, h.amount FROM new_holds h
                UNION ALL
                SELECT (SELECT currency FROM account a WHERE a.id = h.account), -1, -h.amount FROM old_holds h)
               c (currency, rows, amount)
         GROUP BY c.currency HAVING sum(c.rows) <> 0 OR sum(c.amount) <> 0;
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER hold_insert_counted AFTER INSERT ON hold REFERENCING NEW TABLE AS new_holds
    FOR EACH STATEMENT EXECUTE FUNCTION hold_is_counted();
CREATE TRIGGER hold_delete_counted AFTER DELETE ON hold REFERENCING OLD TABLE AS old_holds
    FOR EACH STATEMENT EXECUTE FUNCTION hold_is_counted();
CREATE TRIGGER hold_update_counted AFTER UPDATE ON hold REFERENCING OLD TABLE AS old_holds NEW TABLE AS new_holds
    FOR EACH STATEMENT EXECUTE FUNCTION hold_is_counted();

CREATE FUNCTION agenda_is_counted() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'INSERT' THEN
        INSERT INTO waiting_count (what, rows)
        SELECT CASE WHEN waits_for IS NULL THEN 'scheduled' ELSE 'parked' END, count(*) FROM new_tasks GROUP BY 1;
    ELSIF TG_OP = 'DELETE' THEN
        INSERT INTO waiting_count (what, rows)
        SELECT CASE WHEN waits_for IS NULL THEN 'scheduled' ELSE 'parked' END, -count(*) FROM old_tasks GROUP BY 1;
    ELSE
        INSERT INTO waiting_count (what, rows)
        SELECT c.what, sum(c.rows)
          FROM (SELECT CASE WHEN waits_for IS NULL THEN 'scheduled' ELSE 'parked' END, 1 FROM new_tasks
                UNION ALL
                SELECT CASE WHEN waits_for IS NULL THEN 'scheduled' ELSE 'parked' END, -1 FROM old_tasks) c (what, rows)
         GROUP BY c.what HAVING sum(c.rows) <> 0;
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER agenda_insert_counted AFTER INSERT ON agenda REFERENCING NEW TABLE AS new_tasks
    FOR EACH STATEMENT EXECUTE FUNCTION agenda_is_counted();
CREATE TRIGGER agenda_delete_counted AFTER DELETE ON agenda REFERENCING OLD TABLE AS old_tasks
    FOR EACH STATEMENT EXECUTE FUNCTION agenda_is_counted();
CREATE TRIGGER agenda_update_counted AFTER UPDATE ON agenda REFERENCING OLD TABLE AS old_tasks NEW TABLE AS new_tasks
    FOR EACH STATEMENT EXECUTE FUNCTION agenda_is_counted();

-- What waits and is held already. Nobody changes it until this is committed.
INSERT INTO waiting_count (what, rows)
SELECT CASE WHEN waits_for IS NULL THEN 'scheduled' ELSE 'parked' END, count(*) FROM agenda GROUP BY 1;
INSERT INTO waiting_count (what, currency, rows, amount)
SELECT 'hold', a.currency, count(*), sum(h.amount) FROM hold h LEFT JOIN account a ON a.id = h.account GROUP BY a.currency;
