-- Entries that are not one side of a settled transfer: one row (check, example) per violation.
SELECT 'entry_payment' AS name,
       format('entry %s of account #%s: not a side of payment %s', e.seq, e.account, e.payment_id) AS example
  FROM entry e
  LEFT JOIN payment p ON p.id = e.payment_id
 WHERE (p.state = 'settled'
        AND (e.account = p.debit_account AND e.seq = p.debit_seq
             OR e.account = p.credit_account AND e.seq = p.credit_seq)) IS NOT TRUE
