-- For the few payments that act on another one. Reads `payment` once; until then nobody writes it.
CREATE INDEX payment_parent ON payment (parent_id) WHERE parent_id IS NOT NULL;
