-- What is wrong with payments: one row (check, example) per violation.
-- $1: the names of all rejections; $2: the largest amount.
WITH paired AS (
    SELECT p.id,
           coalesce(d.amount, 0) + coalesce(c.amount, 0) AS sum,
           p.debit_account, p.credit_account, p.amount, p.currency, p.state, p.type, p.reason,
           da.status AS debit_status, da.currency AS debit_currency,
           ca.status AS credit_status, ca.currency AS credit_currency,
           p.state = 'settled' AND p.type = 'transfer' AS posts,
           p.version = 1
               AND octet_length(p.fingerprint) = 16
               AND p.currency ~ '^[A-Z]{3}$'
               AND (p.type = 'transfer') = (p.amount IS NOT NULL)
               AND (p.type = 'transfer') = (p.credit_account IS NOT NULL)
               AND CASE p.state WHEN 'rejected' THEN p.reason = ANY ($1::text[])
                                ELSE p.reason IS NULL
                                     AND (p.type <> 'transfer' OR p.amount BETWEEN 1 AND $2
                                                                  AND p.debit_account <> p.credit_account) END
               AND (p.debit_seq IS NOT NULL) = (p.state = 'settled' AND p.type = 'transfer')
               AND (p.credit_seq IS NOT NULL) = (p.debit_seq IS NOT NULL) AS state_holds,
           d.payment_id = p.id AND d.amount = -p.amount AND c.payment_id = p.id AND c.amount = p.amount AS entries_hold,
           da.id IS NOT NULL AND (ca.id IS NOT NULL) = (p.credit_account IS NOT NULL)
               AND (p.state = 'rejected'
                    OR da.status <> 'unopened' AND (ca.status <> 'unopened') IS NOT FALSE) AS accounts_hold,
           p.state = 'rejected'
               OR da.currency = p.currency AND (p.type <> 'transfer' OR ca.currency = p.currency) AS currency_holds
      FROM payment p
      LEFT JOIN account da ON da.id = p.debit_account
      LEFT JOIN account ca ON ca.id = p.credit_account
      LEFT JOIN entry d ON d.account = p.debit_account  AND d.seq = p.debit_seq
      LEFT JOIN entry c ON c.account = p.credit_account AND c.seq = p.credit_seq
)
SELECT broken.name,
       CASE broken.name
           WHEN 'payment_state' THEN
               format('%s: %s %s, reason %s', id, type, state, coalesce(reason, 'none'))
           WHEN 'payment_entries' THEN
               format('%s: not exactly -%s and +%s under its keys', id, amount, amount)
           WHEN 'payment_sum' THEN
               format('%s: its entries sum to %s', id, sum)
           WHEN 'payment_accounts' THEN
               format('%s: debit account %s is %s, credit account %s is %s', id, debit_account,
                      coalesce(debit_status::text, 'missing'), coalesce(credit_account::text, 'none'),
                      coalesce(credit_status::text, 'missing'))
           WHEN 'payment_currency' THEN
               format('%s: in %s, its accounts in %s and %s', id, currency,
                      coalesce(debit_currency, 'none'), coalesce(credit_currency, 'none'))
       END AS example
  FROM paired,
       LATERAL (VALUES ('payment_state', state_holds),
                       ('payment_entries', NOT posts OR entries_hold),
                       ('payment_sum', NOT posts OR sum = 0),
                       ('payment_accounts', accounts_hold),
                       ('payment_currency', currency_holds)) AS broken (name, holds)
 WHERE (state_holds AND (NOT posts OR entries_hold AND sum = 0) AND accounts_hold AND currency_holds) IS NOT TRUE
   AND broken.holds IS NOT TRUE
