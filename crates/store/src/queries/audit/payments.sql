-- What is wrong with payments by themselves: one row (check, example) per violation. Legs,
-- follow-ups, transitions and what waits have passes of their own.
-- $1: the names of all rejections; $2: the largest amount.
WITH told AS (
    SELECT id, type, state, version, reason, parent_id, legs, debit_account, credit_account, amount, currency,
           debit_seq, credit_seq, captured, refunded, charged_back, fingerprint, request IS NOT NULL AS is_written_down,
           state NOT IN ('scheduled', 'parked', 'canceled', 'rejected') AS is_applied,
           legs IS NULL AND type IN ('transfer', 'capture', 'refund', 'chargeback', 'chargeback_reversal')
               AND state NOT IN ('scheduled', 'parked', 'canceled', 'rejected') AS posts
      FROM payment
     WHERE in_part(id)
), paired AS (
    SELECT p.id, p.type, p.state, p.version, p.reason, p.debit_account, p.credit_account, p.amount, p.currency, p.posts,
           coalesce(d.amount, 0) + coalesce(c.amount, 0) AS sum,
           da.status AS debit_status, da.currency AS debit_currency,
           ca.status AS credit_status, ca.currency AS credit_currency,
           octet_length(p.fingerprint) = 16
               AND (p.is_written_down OR p.type IN ('open_account', 'transfer') AND p.legs IS NULL
                                         AND p.state NOT IN ('scheduled', 'parked'))
               AND CASE p.type
                       WHEN 'authorize' THEN true
                       WHEN 'transfer' THEN p.state NOT IN ('authorized', 'partially_captured', 'voided', 'expired')
                       ELSE p.state IN ('scheduled', 'parked', 'settled', 'canceled', 'rejected') END
               -- The first state.
               AND (p.version > 1 OR p.state IN ('scheduled', 'parked', 'rejected')
                    OR p.state = CASE p.type WHEN 'authorize' THEN 'authorized' ELSE 'settled' END::payment_state)
               AND CASE p.state WHEN 'rejected' THEN p.reason = ANY ($1::text[]) ELSE p.reason IS NULL END
           AS state_holds,
           CASE WHEN p.type IN ('transfer', 'authorize')
                THEN p.parent_id IS NULL AND (p.legs IS NULL) = (p.credit_account IS NOT NULL)
                     AND CASE WHEN p.legs IS NULL
                              THEN p.debit_account IS NOT NULL AND p.amount IS NOT NULL AND p.currency IS NOT NULL
                                   AND (NOT p.is_applied OR p.amount BETWEEN 1 AND $2
                                                            AND p.debit_account <> p.credit_account)
                              ELSE p.debit_account IS NULL AND p.legs BETWEEN 1 AND 64 END
                WHEN p.type IN ('open_account', 'close_account', 'freeze_account', 'unfreeze_account', 'set_limits')
                THEN p.parent_id IS NULL AND p.legs IS NULL AND p.debit_account IS NOT NULL
                     AND p.credit_account IS NULL AND p.amount IS NULL
                     AND (p.currency IS NOT NULL) = (p.type = 'open_account')
                ELSE p.parent_id <> p.id
                     AND (NOT p.posts OR p.amount BETWEEN 1 AND $2 AND p.currency IS NOT NULL
                                         AND p.debit_account <> p.credit_account)
           END
               AND (p.currency ~ '^[A-Z]{3}$') IS NOT FALSE
               AND (p.debit_seq IS NOT NULL) = p.posts AND (p.credit_seq IS NOT NULL) = p.posts
               AND (p.captured IS NULL) = (p.refunded IS NULL) AND (p.captured IS NULL) = (p.charged_back IS NULL)
           AS shape_holds,
           d.payment_id = p.id AND d.amount = -p.amount AND c.payment_id = p.id AND c.amount = p.amount AS entries_hold,
           (da.id IS NOT NULL) = (p.debit_account IS NOT NULL) AND (ca.id IS NOT NULL) = (p.credit_account IS NOT NULL)
               AND (NOT p.is_applied OR (da.status <> 'unopened') IS NOT FALSE AND (ca.status <> 'unopened') IS NOT FALSE)
           AS accounts_hold,
           NOT p.is_applied OR p.currency IS NULL OR p.legs IS NOT NULL
               OR da.currency = p.currency AND (p.credit_account IS NULL OR ca.currency = p.currency) AS currency_holds
      FROM told p
      LEFT JOIN account da ON da.id = p.debit_account
      LEFT JOIN account ca ON ca.id = p.credit_account
      LEFT JOIN entry d ON d.account = p.debit_account  AND d.seq = p.debit_seq
      LEFT JOIN entry c ON c.account = p.credit_account AND c.seq = p.credit_seq
)
SELECT broken.name,
       CASE broken.name
           WHEN 'payment_state' THEN
               format('%s: %s %s at version %s, reason %s', id, type, state, version, coalesce(reason, 'none'))
           WHEN 'payment_shape' THEN
               format('%s: no %s has these columns', id, type)
           WHEN 'payment_entries' THEN
               format('%s: not exactly -%s and +%s under its keys', id, amount, amount)
           WHEN 'payment_sum' THEN
               format('%s: its entries sum to %s', id, sum)
           WHEN 'payment_accounts' THEN
               format('%s: debit account %s is %s, credit account %s is %s', id, coalesce(debit_account::text, 'none'),
                      coalesce(debit_status::text, 'missing'), coalesce(credit_account::text, 'none'),
                      coalesce(credit_status::text, 'missing'))
           WHEN 'payment_currency' THEN
               format('%s: in %s, its accounts in %s and %s', id, currency,
                      coalesce(debit_currency, 'none'), coalesce(credit_currency, 'none'))
       END AS example
  FROM paired,
       LATERAL (VALUES ('payment_state', state_holds),
                       ('payment_shape', shape_holds),
                       ('payment_entries', NOT posts OR entries_hold),
                       ('payment_sum', NOT posts OR sum = 0),
                       ('payment_accounts', accounts_hold),
                       ('payment_currency', currency_holds)) AS broken (name, holds)
 WHERE (state_holds AND shape_holds AND (NOT posts OR entries_hold AND sum = 0) AND accounts_hold
        AND currency_holds) IS NOT TRUE
   AND broken.holds IS NOT TRUE
