-- Which programs the schema still serves. Migrations expand, so an earlier program goes on with a later schema, and one
-- that is put back starts with it. A migration that takes away what earlier programs need inserts a row here: its own
-- version, the last migration of the oldest program that it serves, and that program's version. Locks no table.
CREATE TABLE schema_compatibility (
    version        integer PRIMARY KEY,
    oldest_schema  integer NOT NULL,
    oldest_program text NOT NULL
);
