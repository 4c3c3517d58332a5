-- Texts that rows are looked up by are compared byte by byte from here on. Until now their order was
-- the operating system's or ICU's: a new version of either, or a replica on another one, can have
-- another order, and an index in the old one doesn't find its rows.
-- Rebuilds the indexes on these columns, the unique one on `account.name` among them; no table is
-- rewritten. What the version before asks and writes stays valid.

-- Neither a view nor a trigger may use a column whose type is changed. Who may read the view may
-- read it afterwards.
DO $$
DECLARE
    acl aclitem[] := (SELECT relacl FROM pg_class WHERE oid = 'payment_named'::regclass);
    permission record;
BEGIN
    DROP VIEW payment_named;
    DROP TRIGGER account_name_valid ON account;
    BEGIN
        ALTER TABLE account ALTER COLUMN name TYPE text COLLATE "C";
    EXCEPTION WHEN unique_violation THEN
        RAISE EXCEPTION 'accounts have the same name: an index in another order than the one it was searched in let them in. SELECT name COLLATE "C", array_agg(id) FROM account GROUP BY 1 HAVING count(*) > 1 lists them; give all but one of each another name, and migrate again'
            USING ERRCODE = 'unique_violation', TABLE = 'account', CONSTRAINT = 'account_name_key';
    END;
    CREATE TRIGGER account_name_valid BEFORE INSERT OR UPDATE OF name ON account
        FOR EACH ROW EXECUTE FUNCTION account_name_is_valid();
    CREATE VIEW payment_named AS
        SELECT p.id, p.type, p.state, p.reason, d.name AS debit_account, c.name AS credit_account, p.amount,
               p.currency, p.min_balance, p.reference, p.metadata, p.publisher, p.version, p.received_at, p.settled_at,
               p.debit_seq, p.credit_seq, p.debit_account AS debit_id, p.credit_account AS credit_id,
               p.parent_id, p.legs, p.captured, p.refunded, p.charged_back, p.expires_at, p.request
          FROM payment p
          LEFT JOIN account d ON d.id = p.debit_account
          LEFT JOIN account c ON c.id = p.credit_account;
    FOR permission IN
        SELECT CASE WHEN grantee = 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(grantee)) END AS who,
               privilege_type, CASE WHEN is_grantable THEN ' WITH GRANT OPTION' ELSE '' END AS further
          FROM aclexplode(acl)
    LOOP
        EXECUTE format('GRANT %s ON payment_named TO %s%s', permission.privilege_type, permission.who, permission.further);
    END LOOP;
END $$;

ALTER TABLE outbox ALTER COLUMN held_key TYPE text COLLATE "C";
ALTER TABLE dead_letter ALTER COLUMN reason TYPE text COLLATE "C";
