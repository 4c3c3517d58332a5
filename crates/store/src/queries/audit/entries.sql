-- Entries that are not one side of what a task has moved: one row (check, example) per violation.
WITH side AS (
    SELECT payment_id, debit_account AS account, debit_seq AS seq FROM leg WHERE debit_seq IS NOT NULL AND in_part(payment_id)
     UNION ALL
    SELECT payment_id, credit_account, credit_seq FROM leg WHERE credit_seq IS NOT NULL AND in_part(payment_id)
)
SELECT 'entry_payment' AS name,
       format('entry %s of account #%s: not a side of payment %s', e.seq, e.account, e.payment_id) AS example
  FROM entry e
  LEFT JOIN payment p ON p.id = e.payment_id
  LEFT JOIN side s ON s.payment_id = e.payment_id AND s.account = e.account AND s.seq = e.seq
 WHERE in_part(e.payment_id)
   AND (p.type IN ('transfer', 'capture', 'refund', 'chargeback', 'chargeback_reversal')
        AND p.state NOT IN ('scheduled', 'parked', 'canceled', 'rejected')
        AND CASE WHEN p.legs IS NULL
                 THEN e.account = p.debit_account AND e.seq = p.debit_seq
                      OR e.account = p.credit_account AND e.seq = p.credit_seq
                 ELSE s.seq IS NOT NULL END) IS NOT TRUE
