-- What is wrong with the legs of payments that have a list of them, and of their follow-ups: one
-- row (check, example) per violation.
-- $1: the largest amount.
WITH paired AS (
    SELECT l.payment_id, l.leg, l.debit_account, l.credit_account, l.amount, l.currency,
           coalesce(d.amount, 0) + coalesce(c.amount, 0) AS sum,
           da.status AS debit_status, da.currency AS debit_currency,
           ca.status AS credit_status, ca.currency AS credit_currency,
           p.type <> 'authorize' AS posts,
           p.legs IS NOT NULL
               AND p.type IN ('transfer', 'authorize', 'capture', 'refund', 'chargeback', 'chargeback_reversal')
               AND p.state NOT IN ('scheduled', 'parked', 'canceled', 'rejected')
               AND l.leg BETWEEN 0 AND 63 AND l.amount BETWEEN 1 AND $1 AND l.debit_account <> l.credit_account
               AND (l.debit_seq IS NOT NULL) = (p.type <> 'authorize') AND (l.credit_seq IS NULL) = (l.debit_seq IS NULL)
               AND (l.captured IS NOT NULL) = (p.type IN ('transfer', 'authorize'))
               AND (l.refunded IS NULL) = (l.captured IS NULL) AND (l.charged_back IS NULL) = (l.captured IS NULL)
           AS shape_holds,
           d.payment_id = l.payment_id AND d.amount = -l.amount AND c.payment_id = l.payment_id AND c.amount = l.amount
           AS entries_hold,
           da.status <> 'unopened' AND ca.status <> 'unopened' AS accounts_hold,
           da.currency = l.currency AND ca.currency = l.currency AS currency_holds
      FROM leg l
      LEFT JOIN payment p ON p.id = l.payment_id
      LEFT JOIN account da ON da.id = l.debit_account
      LEFT JOIN account ca ON ca.id = l.credit_account
      LEFT JOIN entry d ON d.account = l.debit_account  AND d.seq = l.debit_seq
      LEFT JOIN entry c ON c.account = l.credit_account AND c.seq = l.credit_seq
     WHERE in_part(l.payment_id)
), list AS (
    SELECT payment_id, count(*) AS legs, max(leg) AS last, sum(amount) AS amount,
           min(currency) = max(currency) AS is_of_one_currency,
           count(DISTINCT (debit_account, debit_seq)) FILTER (WHERE debit_seq IS NOT NULL) = count(debit_seq) AS is_distinct
      FROM leg
     WHERE in_part(payment_id)
     GROUP BY payment_id
), listed AS (
    SELECT p.id, p.legs, coalesce(l.legs, 0) AS found,
           CASE WHEN p.state IN ('scheduled', 'parked', 'canceled', 'rejected') THEN l.legs IS NULL
                ELSE l.legs = p.legs AND l.is_distinct
                     AND CASE WHEN p.type IN ('transfer', 'authorize') THEN l.last = p.legs - 1 AND p.amount IS NULL
                              ELSE p.amount IS NOT DISTINCT FROM CASE WHEN l.is_of_one_currency THEN l.amount END END
           END AS list_holds
      FROM payment p
      LEFT JOIN list l ON l.payment_id = p.id
     WHERE p.legs IS NOT NULL AND in_part(p.id)
)
SELECT broken.name,
       CASE broken.name
           WHEN 'payment_legs' THEN
               format('%s: leg %s is none that its payment can have', payment_id, leg)
           WHEN 'payment_entries' THEN
               format('%s leg %s: not exactly -%s and +%s under its keys', payment_id, leg, amount, amount)
           WHEN 'payment_sum' THEN
               format('%s leg %s: its entries sum to %s', payment_id, leg, sum)
           WHEN 'payment_accounts' THEN
               format('%s leg %s: debit account %s is %s, credit account %s is %s', payment_id, leg, debit_account,
                      coalesce(debit_status::text, 'missing'), credit_account, coalesce(credit_status::text, 'missing'))
           WHEN 'payment_currency' THEN
               format('%s leg %s: in %s, its accounts in %s and %s', payment_id, leg, currency,
                      coalesce(debit_currency, 'none'), coalesce(credit_currency, 'none'))
       END AS example
  FROM paired,
       LATERAL (VALUES ('payment_legs', shape_holds),
                       ('payment_entries', NOT posts OR entries_hold),
                       ('payment_sum', NOT posts OR sum = 0),
                       ('payment_accounts', accounts_hold),
                       ('payment_currency', currency_holds)) AS broken (name, holds)
 WHERE broken.holds IS NOT TRUE
UNION ALL
SELECT 'payment_legs', format('%s: has %s legs of %s, or others than it says', id, found, legs)
  FROM listed
 WHERE list_holds IS NOT TRUE
