-- The ledger. The daemon's pure ledger is the first wall against an impossible state, these
-- constraints are the second.

CREATE TYPE account_status AS ENUM ('unopened', 'open', 'frozen', 'closed');
CREATE TYPE task_type AS ENUM ('open_account', 'transfer');
CREATE TYPE payment_state AS ENUM ('settled', 'rejected');

-- Every name a task ever mentioned is a row, so that it has a short id and can be locked even
-- before the account is opened. A name's id never changes, so it may be cached.
-- No index but the two keys: balance updates stay heap-only (HOT).
CREATE TABLE account (
    id          bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    posted      bigint NOT NULL DEFAULT 0,
    held        bigint NOT NULL DEFAULT 0,
    version     bigint NOT NULL DEFAULT 0,
    min_balance bigint,
    opened_at   timestamptz,
    status      account_status NOT NULL DEFAULT 'unopened',
    currency    text,
    name        text NOT NULL UNIQUE,
    CONSTRAINT account_name_valid   CHECK (name ~ '^[A-Za-z0-9][A-Za-z0-9:._-]{0,63}$'),
    CONSTRAINT account_held         CHECK (held >= 0),
    CONSTRAINT account_above_limit  CHECK (min_balance IS NULL OR posted - held >= min_balance),
    CONSTRAINT account_opened       CHECK ((status = 'unopened') = (currency IS NULL)
                                       AND (status = 'unopened') = (opened_at IS NULL)
                                       AND (status <> 'unopened' OR (posted = 0 AND held = 0 AND version = 0)))
) WITH (fillfactor = 80);

-- One row per task, with its own id: what became of it. `debit_account` is the opened account
-- of an open_account. `debit_seq`/`credit_seq` are the keys of its entries, so that the
-- entries of a payment are found without an index on the busiest table.
CREATE TABLE payment (
    id             uuid PRIMARY KEY,
    debit_account  bigint NOT NULL,
    credit_account bigint,
    amount         bigint,
    min_balance    bigint,
    debit_seq      bigint,
    credit_seq     bigint,
    received_at    timestamptz NOT NULL,
    settled_at     timestamptz NOT NULL,
    version        integer NOT NULL DEFAULT 1,
    type           task_type NOT NULL,
    state          payment_state NOT NULL,
    currency       text NOT NULL,
    fingerprint    bytea NOT NULL,
    reason         text,
    publisher      text,
    reference      text,
    metadata       jsonb,
    CONSTRAINT payment_reason  CHECK ((state = 'rejected') = (reason IS NOT NULL)),
    CONSTRAINT payment_shape   CHECK ((type = 'transfer') = (credit_account IS NOT NULL)
                                  AND (type = 'transfer') = (amount IS NOT NULL)),
    CONSTRAINT payment_entries CHECK ((type = 'transfer' AND state = 'settled') = (debit_seq IS NOT NULL)
                                  AND (debit_seq IS NULL) = (credit_seq IS NULL)),
    CONSTRAINT payment_amount  CHECK (state <> 'settled' OR type <> 'transfer'
                                   OR (amount BETWEEN 1 AND 1000000000000000 AND debit_account <> credit_account))
);

-- Append-only. `seq` is the account's version after the entry: 1 … n without a gap, so that a
-- balance at any moment can be read and verified.
CREATE TABLE entry (
    account       bigint NOT NULL,
    seq           bigint NOT NULL CHECK (seq > 0),
    amount        bigint NOT NULL CHECK (amount <> 0),
    balance_after bigint NOT NULL,
    payment_id    uuid   NOT NULL,
    PRIMARY KEY (account, seq)
);

CREATE FUNCTION entry_is_append_only() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'entry is append-only';
END $$;
CREATE TRIGGER entry_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON entry
    FOR EACH STATEMENT EXECUTE FUNCTION entry_is_append_only();

-- What is still to be published. `body` holds the events of one batch, one JSON document per
-- line. A row belongs to the daemon that holds its lease; when the lease runs out, whoever
-- sweeps takes it. `held_key` is the routing key that no queue took.
CREATE TABLE outbox (
    id           bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    leased_until timestamptz NOT NULL,
    created_at   timestamptz NOT NULL DEFAULT clock_timestamp(),
    events       integer NOT NULL CHECK (events > 0),
    held_key     text,
    body         bytea NOT NULL
) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 2000);
ALTER TABLE outbox ALTER COLUMN body SET STORAGE EXTERNAL;
CREATE INDEX outbox_held ON outbox (held_key, id) WHERE held_key IS NOT NULL;

-- Messages that can't become a payment. `digest` (body, message id, reason) makes a
-- redelivery an attempt on the same row.
CREATE TABLE dead_letter (
    id          bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    digest      bytea NOT NULL UNIQUE,
    task_id     uuid,
    reason      text NOT NULL,
    field       text,
    detail      text NOT NULL,
    body        bytea NOT NULL,
    properties  jsonb NOT NULL,
    first_seen  timestamptz NOT NULL,
    last_seen   timestamptz NOT NULL,
    attempts    integer NOT NULL DEFAULT 1,
    resolution  text CHECK (resolution IN ('replayed', 'discarded')),
    resolved_at timestamptz,
    CONSTRAINT dead_letter_resolved CHECK ((resolution IS NULL) = (resolved_at IS NULL))
);
CREATE INDEX dead_letter_open ON dead_letter (reason, id) WHERE resolution IS NULL;
CREATE INDEX dead_letter_task ON dead_letter (task_id) WHERE task_id IS NOT NULL;

-- Lets a pipelined batch end itself: the COMMIT sent right behind becomes a ROLLBACK.
CREATE FUNCTION expect_rows(what text, actual bigint, expected bigint) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    IF actual <> expected THEN
        RAISE EXCEPTION '%: % rows written, % expected', what, actual, expected USING ERRCODE = '40001';
    END IF;
END $$;

-- What people read: names instead of ids.
CREATE VIEW payment_named AS
    SELECT p.id, p.type, p.state, p.reason, d.name AS debit_account, c.name AS credit_account, p.amount,
           p.currency, p.min_balance, p.reference, p.metadata, p.publisher, p.version, p.received_at, p.settled_at,
           p.debit_seq, p.credit_seq, p.debit_account AS debit_id, p.credit_account AS credit_id
      FROM payment p
      JOIN account d ON d.id = p.debit_account
      LEFT JOIN account c ON c.id = p.credit_account;
