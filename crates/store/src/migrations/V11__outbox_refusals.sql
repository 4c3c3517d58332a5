-- Why the broker refused the events of a row, in its own words; the row is held.
ALTER TABLE outbox ADD COLUMN held_reason text;
-- By id: an index on leased_until would be written with each renewal of a lease.
CREATE INDEX outbox_refused ON outbox (id) WHERE held_reason IS NOT NULL;

-- Events that an operator has given up, with the reason for it: nothing is thrown away.
CREATE TABLE outbox_discarded (
    id           bigint PRIMARY KEY,
    created_at   timestamptz NOT NULL,
    events       integer NOT NULL,
    held_key     text NOT NULL,
    held_reason  text,
    body         bytea NOT NULL,
    reason       text NOT NULL,
    discarded_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
