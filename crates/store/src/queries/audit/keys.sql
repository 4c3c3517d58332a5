-- Whether what is looked up by a text is there once, and found by its index: one row (check, example)
-- per violation. OFFSET 0 keeps the planner from looking all up at once in another way; and it is told
-- to use the indexes.
SELECT 'account_name' AS name, format('%s: accounts %s have this name', min(name), string_agg(id::text, ', ' ORDER BY id)) AS example
  FROM account
 -- By an expression that no index is in the order of.
 GROUP BY convert_to(name, 'UTF8')
HAVING count(*) > 1
UNION ALL
SELECT 'text_keys', format('account %s: its index doesn''t find the name %s; REINDEX INDEX account_name_key', a.id, a.name)
  FROM account a
 WHERE NOT EXISTS (SELECT FROM (SELECT f.id FROM account f WHERE f.name = a.name OFFSET 0) AS found WHERE found.id = a.id)
UNION ALL
SELECT 'text_keys', format('routing key %s: %s rows of outbox are held, its index finds %s; REINDEX INDEX outbox_held',
                           held.key, held.rows, by_index.rows)
  FROM (SELECT min(held_key) AS key, count(*) AS rows FROM outbox WHERE held_key IS NOT NULL
         GROUP BY convert_to(held_key, 'UTF8')) AS held,
       LATERAL (SELECT count(*) AS rows FROM (SELECT FROM outbox WHERE held_key = held.key OFFSET 0) AS found) AS by_index
 WHERE held.rows <> by_index.rows
UNION ALL
SELECT 'text_keys', format('reason %s: %s dead letters are open, their index finds %s; REINDEX INDEX dead_letter_open',
                           letters.reason, letters.rows, by_index.rows)
  FROM (SELECT min(reason) AS reason, count(*) AS rows FROM dead_letter WHERE resolution IS NULL
         GROUP BY convert_to(reason, 'UTF8')) AS letters,
       LATERAL (SELECT count(*) AS rows
                  FROM (SELECT FROM dead_letter d
                         WHERE d.reason = letters.reason AND d.resolution IS NULL OFFSET 0) AS found) AS by_index
 WHERE letters.rows <> by_index.rows
UNION ALL
SELECT 'text_keys', format('index %s is in the order of the collation %s, expected "C"', i.indexrelid::regclass, c.collname)
  FROM (VALUES ('account_name_key'), ('outbox_held'), ('dead_letter_open')) AS expected (index_name)
  JOIN pg_index i ON i.indexrelid = to_regclass(expected.index_name),
       LATERAL unnest(i.indcollation) AS of_column (collation_id)
  JOIN pg_collation c ON c.oid = of_column.collation_id
 WHERE c.collname NOT IN ('C', 'POSIX')
