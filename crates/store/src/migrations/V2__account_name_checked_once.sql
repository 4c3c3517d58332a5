-- A CHECK is evaluated at every update of its row, whatever changed: with each new balance of an
-- account its name was matched again, which was more than half of the time that the update took.
-- A name never changes, so it is checked when it comes. Takes a lock for a moment; no table is
-- read or rewritten.
CREATE FUNCTION account_name_is_valid() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NEW.name !~ '^[A-Za-z0-9][A-Za-z0-9:._-]{0,63}$' THEN
        RAISE EXCEPTION 'account name % is not valid', quote_literal(NEW.name)
            USING ERRCODE = 'check_violation', TABLE = 'account', COLUMN = 'name', CONSTRAINT = 'account_name_valid';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER account_name_valid BEFORE INSERT OR UPDATE OF name ON account
    FOR EACH ROW EXECUTE FUNCTION account_name_is_valid();
ALTER TABLE account DROP CONSTRAINT account_name_valid;
