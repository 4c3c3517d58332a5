-- Sums over the whole ledger, and whether the database still guards it: one row (check, example)
-- per violation.
SELECT 'currency_sum' AS name, format('%s: balances sum to %s', coalesce(currency, 'none'), sum(posted)) AS example
  FROM account
 GROUP BY currency
HAVING sum(posted) <> 0
UNION ALL
SELECT 'guards', format('constraint %s of %s is missing or not validated', expected.constraint_name, expected.table_name)
  FROM (VALUES ('account', 'account_pkey'), ('account', 'account_name_key'),
               ('account', 'account_held'), ('account', 'account_above_limit'), ('account', 'account_opened'),
               ('payment', 'payment_pkey'), ('payment', 'payment_reason'), ('payment', 'payment_shape'),
               ('payment', 'payment_entries'), ('payment', 'payment_amount'),
               ('entry', 'entry_pkey'), ('entry', 'entry_seq_check'), ('entry', 'entry_amount_check'),
               ('dead_letter', 'dead_letter_digest_key')) AS expected (table_name, constraint_name)
  LEFT JOIN pg_constraint c ON c.conrelid = to_regclass(expected.table_name) AND c.conname = expected.constraint_name
  LEFT JOIN pg_index i ON i.indexrelid = c.conindid
 WHERE (c.convalidated AND i.indisvalid IS NOT FALSE) IS NOT TRUE
UNION ALL
SELECT 'guards', format('trigger %s of %s is missing or disabled', expected.trigger_name, expected.table_name)
  FROM (VALUES ('entry', 'entry_append_only'), ('account', 'account_name_valid')) AS expected (table_name, trigger_name)
 WHERE NOT EXISTS (SELECT FROM pg_trigger
                    WHERE tgrelid = to_regclass(expected.table_name) AND tgname = expected.trigger_name
                      AND tgenabled IN ('O', 'A'))
