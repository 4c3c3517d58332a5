-- Holds, captures, refunds, legs, schedules, dependencies. Expands only: what the version before
-- writes stays valid, so that both can run side by side. Takes locks on `account` and `payment`
-- for a moment; no table is read or rewritten.
-- The constraints hold for new rows from here on; a later migration validates them for the old
-- ones without keeping anybody from writing.

ALTER TABLE account
    ADD COLUMN max_balance bigint,
    -- How far chargebacks have taken the balance below its limit.
    ADD COLUMN shortfall   bigint NOT NULL DEFAULT 0,
    DROP CONSTRAINT account_above_limit,
    ADD CONSTRAINT account_above_limit CHECK (min_balance IS NULL OR posted - held >= min_balance - shortfall) NOT VALID,
    ADD CONSTRAINT account_below_limit CHECK (max_balance IS NULL OR posted <= max_balance) NOT VALID,
    ADD CONSTRAINT account_shortfall   CHECK (shortfall >= 0) NOT VALID,
    ADD CONSTRAINT account_closed      CHECK (status <> 'closed' OR (posted = 0 AND held = 0)) NOT VALID;

-- `parent_id` is the payment that a follow-up acts on. `legs` is how many rows of `leg` the payment
-- has; those, and not this row, then say from where to where. `captured`, `refunded` and
-- `charged_back` say what has become of `amount`: in a transfer nothing has acted on they are null,
-- and all of it was captured. `request` is the task as it was asked for, where the columns don't
-- say all of it.
ALTER TABLE payment
    ALTER COLUMN debit_account DROP NOT NULL,
    ALTER COLUMN currency DROP NOT NULL,
    ADD COLUMN parent_id    uuid,
    ADD COLUMN legs         smallint,
    ADD COLUMN captured     bigint,
    ADD COLUMN refunded     bigint,
    ADD COLUMN charged_back bigint,
    ADD COLUMN expires_at   timestamptz,
    ADD COLUMN request      text,
    DROP CONSTRAINT payment_shape,
    DROP CONSTRAINT payment_entries,
    DROP CONSTRAINT payment_amount,
    ADD CONSTRAINT payment_shape CHECK (
        CASE WHEN type IN ('transfer', 'authorize')
             THEN parent_id IS NULL
              AND (legs IS NULL) = (credit_account IS NOT NULL)
              AND (legs IS NOT NULL OR (debit_account IS NOT NULL AND amount IS NOT NULL AND currency IS NOT NULL))
             WHEN type IN ('open_account', 'close_account', 'freeze_account', 'unfreeze_account', 'set_limits')
             THEN parent_id IS NULL AND legs IS NULL AND debit_account IS NOT NULL
              AND credit_account IS NULL AND amount IS NULL
             ELSE parent_id IS NOT NULL AND parent_id <> id
        END) NOT VALID,
    ADD CONSTRAINT payment_entries CHECK (
        (debit_seq IS NULL) = (credit_seq IS NULL)
        AND (debit_seq IS NOT NULL) = (legs IS NULL AND
            (type = 'transfer' AND state IN ('settled', 'partially_refunded', 'refunded', 'charged_back')
             OR type IN ('capture', 'refund', 'chargeback', 'chargeback_reversal') AND state = 'settled'))) NOT VALID,
    ADD CONSTRAINT payment_amount CHECK (
        debit_seq IS NULL OR (amount BETWEEN 1 AND 1000000000000000 AND debit_account <> credit_account)) NOT VALID,
    ADD CONSTRAINT payment_captured CHECK (
        captured IS NULL OR (legs IS NULL AND captured BETWEEN 0 AND amount AND refunded >= 0 AND charged_back >= 0
                             AND refunded + charged_back <= captured)) NOT VALID,
    ADD CONSTRAINT payment_progress CHECK (
        captured IS NULL OR
        CASE state WHEN 'authorized'         THEN captured = 0
                   WHEN 'partially_captured' THEN captured BETWEEN 1 AND amount - 1
                   WHEN 'settled'            THEN captured > 0 AND refunded = 0 AND charged_back = 0
                   WHEN 'partially_refunded' THEN refunded BETWEEN 1 AND captured - 1 AND charged_back = 0
                   WHEN 'refunded'           THEN refunded = captured AND captured > 0
                   WHEN 'charged_back'       THEN charged_back > 0
                   ELSE captured = 0 END) NOT VALID;

-- The legs of payments that have a list of them, and what their follow-ups did with each.
-- `captured` and its like are a payment's own, null in a follow-up.
CREATE TABLE leg (
    payment_id     uuid NOT NULL,
    leg            smallint NOT NULL CHECK (leg BETWEEN 0 AND 63),
    debit_account  bigint NOT NULL,
    credit_account bigint NOT NULL,
    amount         bigint NOT NULL,
    captured       bigint,
    refunded       bigint,
    charged_back   bigint,
    debit_seq      bigint,
    credit_seq     bigint,
    currency       text NOT NULL,
    PRIMARY KEY (payment_id, leg),
    CONSTRAINT leg_entries  CHECK ((debit_seq IS NULL) = (credit_seq IS NULL)),
    CONSTRAINT leg_amount   CHECK (debit_seq IS NULL OR (amount BETWEEN 1 AND 1000000000000000
                                                         AND debit_account <> credit_account)),
    CONSTRAINT leg_captured CHECK (captured IS NULL OR (captured BETWEEN 0 AND amount AND refunded >= 0
                                                        AND charged_back >= 0
                                                        AND refunded + charged_back <= captured))
);

-- What is held, as long as it is: one row for each leg of an authorization.
CREATE TABLE hold (
    payment_id uuid NOT NULL,
    leg        smallint NOT NULL,
    account    bigint NOT NULL,
    amount     bigint NOT NULL CONSTRAINT hold_amount CHECK (amount > 0),
    expires_at timestamptz NOT NULL,
    PRIMARY KEY (payment_id, leg)
);
CREATE INDEX hold_expires ON hold (expires_at);

-- An account's `held` is the sum of its holds because nothing else ever changes it.
CREATE FUNCTION hold_is_kept_in_account() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'INSERT' THEN
        UPDATE account a SET held = a.held + d.amount
          FROM (SELECT account, sum(amount)::bigint AS amount FROM new_holds GROUP BY account) d WHERE a.id = d.account;
    ELSIF TG_OP = 'DELETE' THEN
        UPDATE account a SET held = a.held - d.amount
          FROM (SELECT account, sum(amount)::bigint AS amount FROM old_holds GROUP BY account) d WHERE a.id = d.account;
    ELSE
        UPDATE account a SET held = a.held + d.amount
          FROM (SELECT account, sum(amount)::bigint AS amount
                  FROM (SELECT account, amount FROM new_holds UNION ALL SELECT account, -amount FROM old_holds) c
                 GROUP BY account) d
         WHERE a.id = d.account;
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER hold_inserted AFTER INSERT ON hold REFERENCING NEW TABLE AS new_holds
    FOR EACH STATEMENT EXECUTE FUNCTION hold_is_kept_in_account();
CREATE TRIGGER hold_deleted AFTER DELETE ON hold REFERENCING OLD TABLE AS old_holds
    FOR EACH STATEMENT EXECUTE FUNCTION hold_is_kept_in_account();
CREATE TRIGGER hold_updated AFTER UPDATE ON hold REFERENCING OLD TABLE AS old_holds NEW TABLE AS new_holds
    FOR EACH STATEMENT EXECUTE FUNCTION hold_is_kept_in_account();

-- Every state of a payment after its first one, and what brought it there: a task, or (null) the
-- clock. Append-only.
CREATE TABLE transition (
    payment_id uuid NOT NULL,
    version    integer NOT NULL CONSTRAINT transition_version CHECK (version > 1),
    from_state payment_state NOT NULL,
    to_state   payment_state NOT NULL,
    at         timestamptz NOT NULL,
    cause      uuid,
    PRIMARY KEY (payment_id, version),
    CONSTRAINT transition_legal CHECK ((from_state, to_state) IN (
        ('scheduled', 'settled'),
        ('scheduled', 'authorized'),
        ('scheduled', 'rejected'),
        ('scheduled', 'parked'),
        ('scheduled', 'canceled'),
        ('parked', 'settled'),
        ('parked', 'authorized'),
        ('parked', 'rejected'),
        ('parked', 'canceled'),
        ('authorized', 'partially_captured'),
        ('authorized', 'settled'),
        ('authorized', 'voided'),
        ('authorized', 'expired'),
        ('partially_captured', 'partially_captured'),
        ('partially_captured', 'settled'),
        ('partially_captured', 'partially_refunded'),
        ('partially_captured', 'refunded'),
        ('partially_captured', 'charged_back'),
        ('settled', 'partially_refunded'),
        ('settled', 'refunded'),
        ('settled', 'charged_back'),
        ('partially_refunded', 'partially_refunded'),
        ('partially_refunded', 'refunded'),
        ('partially_refunded', 'charged_back'),
        ('charged_back', 'charged_back'),
        ('charged_back', 'settled'),
        ('charged_back', 'partially_refunded')
    ))
);
CREATE TRIGGER transition_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON transition
    FOR EACH STATEMENT EXECUTE FUNCTION entry_is_append_only();

-- A payment's state changes by transitions only, one version each. A plain transfer has one state
-- and passes by.
CREATE FUNCTION payment_state_is_reached() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    reached payment_state;
    reached_version integer := 1;
    step record;
BEGIN
    IF TG_OP = 'UPDATE' THEN
        reached := OLD.state;
        reached_version := OLD.version;
    END IF;
    FOR step IN SELECT version, from_state, to_state FROM transition
                 WHERE payment_id = NEW.id AND version > reached_version AND version <= NEW.version ORDER BY version LOOP
        IF step.version <> reached_version + 1 OR step.from_state <> reached THEN
            RAISE EXCEPTION 'payment %: no way from % to %', NEW.id, reached, step.to_state
                USING ERRCODE = 'check_violation', TABLE = 'payment', CONSTRAINT = 'payment_state_reached';
        END IF;
        reached := step.to_state;
        reached_version := step.version;
    END LOOP;
    IF reached_version <> NEW.version OR reached IS DISTINCT FROM NEW.state THEN
        RAISE EXCEPTION 'payment %: % at version % is not where its transitions lead', NEW.id, NEW.state, NEW.version
            USING ERRCODE = 'check_violation', TABLE = 'payment', CONSTRAINT = 'payment_state_reached';
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER payment_inserted AFTER INSERT ON payment
    FOR EACH ROW WHEN (NEW.version > 1) EXECUTE FUNCTION payment_state_is_reached();
CREATE TRIGGER payment_updated AFTER UPDATE ON payment
    FOR EACH ROW WHEN (NEW.version <> OLD.version OR NEW.state <> OLD.state) EXECUTE FUNCTION payment_state_is_reached();

-- And a transition moves its payment, in the same transaction.
CREATE FUNCTION transition_is_made() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM FROM payment WHERE id = NEW.payment_id AND version >= NEW.version;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'payment %: has not come to % at version %', NEW.payment_id, NEW.to_state, NEW.version
            USING ERRCODE = 'check_violation', TABLE = 'transition', CONSTRAINT = 'transition_made';
    END IF;
    RETURN NULL;
END $$;
CREATE CONSTRAINT TRIGGER transition_made AFTER INSERT ON transition DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW EXECUTE FUNCTION transition_is_made();

-- Tasks that wait: until `due_at`, when they are looked at (again), for their time or for another
-- task. Whatever changes that task makes them due, and is counted in `woken`, so that who has looked
-- before doesn't put them off. `deadline` is when waiting ends.
CREATE TABLE agenda (
    task_id    uuid PRIMARY KEY,
    due_at     timestamptz NOT NULL,
    deadline   timestamptz NOT NULL,
    looked     integer NOT NULL DEFAULT 0,
    woken      integer NOT NULL DEFAULT 0,
    waits_for  uuid,
    properties jsonb NOT NULL
) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 2000);
CREATE INDEX agenda_due ON agenda (due_at);
CREATE INDEX agenda_waits_for ON agenda (waits_for) WHERE waits_for IS NOT NULL;

CREATE OR REPLACE VIEW payment_named AS
    SELECT p.id, p.type, p.state, p.reason, d.name AS debit_account, c.name AS credit_account, p.amount,
           p.currency, p.min_balance, p.reference, p.metadata, p.publisher, p.version, p.received_at, p.settled_at,
           p.debit_seq, p.credit_seq, p.debit_account AS debit_id, p.credit_account AS credit_id,
           p.parent_id, p.legs, p.captured, p.refunded, p.charged_back, p.expires_at, p.request
      FROM payment p
      LEFT JOIN account d ON d.id = p.debit_account
      LEFT JOIN account c ON c.id = p.credit_account;
