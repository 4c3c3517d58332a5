-- Finds payments by the time of their decision. Of each 256 pages it keeps the earliest and the latest time, so it is
-- tiny, and an insert has hardly anything to do for it. Reads `payment` once; until then nobody writes it.
CREATE INDEX payment_settled_at ON payment USING brin (settled_at) WITH (pages_per_range = 256, autosummarize = on);
