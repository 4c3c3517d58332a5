-- Sums over the whole ledger, and whether the database still guards it: one row (check, example)
-- per violation.
SELECT 'currency_sum' AS name, format('%s: balances sum to %s', coalesce(currency, 'none'), sum(posted)) AS example
  FROM account
 GROUP BY currency
HAVING sum(posted) <> 0
UNION ALL
SELECT 'guards', format('constraint %s of %s is missing or not validated', expected.constraint_name, expected.table_name)
  FROM (VALUES ('account', 'account_pkey'), ('account', 'account_name_key'),
               ('account', 'account_held'), ('account', 'account_opened'), ('account', 'account_above_limit'),
               ('account', 'account_below_limit'), ('account', 'account_shortfall'), ('account', 'account_closed'),
               ('payment', 'payment_pkey'), ('payment', 'payment_reason'), ('payment', 'payment_shape'),
               ('payment', 'payment_entries'), ('payment', 'payment_amount'), ('payment', 'payment_captured'),
               ('payment', 'payment_progress'),
               ('leg', 'leg_pkey'), ('leg', 'leg_leg_check'), ('leg', 'leg_entries'), ('leg', 'leg_amount'),
               ('leg', 'leg_captured'),
               ('hold', 'hold_pkey'), ('hold', 'hold_amount'),
               ('transition', 'transition_pkey'), ('transition', 'transition_version'),
               ('transition', 'transition_legal'),
               ('agenda', 'agenda_pkey'), ('waiting_count', 'waiting_count_pkey'), ('waiting_count', 'waiting_count_what'),
               ('entry', 'entry_pkey'), ('entry', 'entry_seq_check'), ('entry', 'entry_amount_check'),
               ('ledger', 'ledger_pkey'), ('ledger', 'ledger_is_only_check'), ('schema_compatibility', 'schema_compatibility_pkey'),
               ('instance', 'instance_pkey'), ('stream_producer', 'stream_producer_pkey'),
               ('stream_outbox', 'stream_outbox_pkey'),
               ('dead_letter', 'dead_letter_digest_key')) AS expected (table_name, constraint_name)
  LEFT JOIN pg_constraint c ON c.conrelid = to_regclass(expected.table_name) AND c.conname = expected.constraint_name
  LEFT JOIN pg_index i ON i.indexrelid = c.conindid
 WHERE (c.convalidated AND i.indisvalid IS NOT FALSE) IS NOT TRUE
UNION ALL
SELECT 'guards', format('trigger %s of %s is missing or disabled', expected.trigger_name, expected.table_name)
  FROM (VALUES ('entry', 'entry_append_only'), ('account', 'account_name_valid'),
               ('hold', 'hold_inserted'), ('hold', 'hold_deleted'), ('hold', 'hold_updated'),
               ('hold', 'hold_insert_counted'), ('hold', 'hold_delete_counted'), ('hold', 'hold_update_counted'),
               ('agenda', 'agenda_insert_counted'), ('agenda', 'agenda_delete_counted'),
               ('agenda', 'agenda_update_counted'),
               ('transition', 'transition_append_only'), ('transition', 'transition_made'),
               ('payment', 'payment_inserted'), ('payment', 'payment_updated')) AS expected (table_name, trigger_name)
 WHERE NOT EXISTS (SELECT FROM pg_trigger
                    WHERE tgrelid = to_regclass(expected.table_name) AND tgname = expected.trigger_name
                      AND tgenabled IN ('O', 'A'))
UNION ALL
SELECT 'guards', format('index %s is missing or not valid', expected.index_name)
  FROM (VALUES ('payment_parent'), ('payment_settled_at'), ('hold_expires'), ('agenda_due_since'), ('agenda_waits_for'),
               ('agenda_scheduled'), ('agenda_parked'), ('outbox_held'), ('outbox_refused'), ('outbox_free'),
               ('dead_letter_open'), ('dead_letter_task')) AS expected (index_name)
 WHERE NOT EXISTS (SELECT FROM pg_index WHERE indexrelid = to_regclass(expected.index_name) AND indisvalid)
UNION ALL
-- The schema may be older than that table: then its key is missing, above.
SELECT 'guards', 'the table ledger has no row'
 WHERE CASE WHEN to_regclass('ledger') IS NOT NULL THEN
           query_to_xml('SELECT incarnation FROM ledger', false, true, '')::text = '' ELSE false END
