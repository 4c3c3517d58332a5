-- Which ledger this is. A backup that is restored has the incarnation of the ledger it was made of, until it is
-- renewed: what happens from then on is told by another source. One row.
CREATE TABLE ledger (
    is_only     boolean PRIMARY KEY DEFAULT true CHECK (is_only),
    incarnation uuid NOT NULL DEFAULT gen_random_uuid(),
    since       timestamptz NOT NULL DEFAULT clock_timestamp(),
    -- The one before, so that a renewal can be repeated.
    previous    uuid
);
INSERT INTO ledger DEFAULT VALUES;
