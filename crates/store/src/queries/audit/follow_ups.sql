-- Whether payments are where their follow-ups took them: one row (check, example) per violation.
-- A payment without a list of legs is its own leg 0.
WITH child AS (
    SELECT p.parent_id, p.type, coalesce(l.leg, 0) AS leg, coalesce(l.amount, p.amount) AS amount,
           -- As the payment's own movement would be written.
           CASE WHEN p.type IN ('capture', 'chargeback_reversal')
                THEN (coalesce(l.debit_account, p.debit_account), coalesce(l.credit_account, p.credit_account),
                      coalesce(l.currency, p.currency), p.legs IS NOT NULL)
                ELSE (coalesce(l.credit_account, p.credit_account), coalesce(l.debit_account, p.debit_account),
                      coalesce(l.currency, p.currency), p.legs IS NOT NULL)
           END::text AS way
      FROM payment p
      LEFT JOIN leg l ON l.payment_id = p.id AND p.legs IS NOT NULL
     WHERE p.parent_id IS NOT NULL AND p.state = 'settled' AND in_part(p.parent_id)
       AND p.type IN ('capture', 'refund', 'chargeback', 'chargeback_reversal')
), done AS (
    -- Numeric sums: nobody may break the books by an overflow of their audit.
    SELECT parent_id, leg, count(*) AS children,
           coalesce(sum(amount) FILTER (WHERE type = 'capture'), 0) AS captured,
           coalesce(sum(amount) FILTER (WHERE type = 'refund'), 0) AS refunded,
           coalesce(sum(amount) FILTER (WHERE type = 'chargeback'), 0)
               - coalesce(sum(amount) FILTER (WHERE type = 'chargeback_reversal'), 0) AS charged_back,
           min(way) AS first_way, max(way) AS last_way
      FROM child
     GROUP BY parent_id, leg
), own AS (
    -- A transfer that says nothing of itself is one on which nothing has acted.
    SELECT id, 0 AS leg, type, state, amount, coalesce(captured, CASE type WHEN 'transfer' THEN amount END) AS captured,
           coalesce(refunded, 0) AS refunded, coalesce(charged_back, 0) AS charged_back,
           (debit_account, credit_account, currency, false)::text AS way
      FROM payment
     WHERE type IN ('transfer', 'authorize') AND legs IS NULL
       AND state NOT IN ('scheduled', 'parked', 'canceled', 'rejected')
       AND (type = 'authorize' OR captured IS NOT NULL OR state <> 'settled')
       AND in_part(id)
     UNION ALL
    SELECT l.payment_id, l.leg, p.type, p.state, l.amount, l.captured, l.refunded, l.charged_back,
           (l.debit_account, l.credit_account, l.currency, true)::text
      FROM leg l
      JOIN payment p ON p.id = l.payment_id AND p.type IN ('transfer', 'authorize')
     WHERE in_part(l.payment_id)
), compared AS (
    SELECT coalesce(o.id, d.parent_id) AS id, coalesce(o.leg, d.leg) AS leg,
           o.amount, o.captured, o.refunded, o.charged_back,
           coalesce(d.captured, 0) AS captured_by, coalesce(d.refunded, 0) AS refunded_by,
           coalesce(d.charged_back, 0) AS charged_back_by, coalesce(d.children, 0) AS children,
           o.id IS NOT NULL AND (d.parent_id IS NULL OR d.first_way = o.way AND d.last_way = o.way) AS parent_holds,
           o.id IS NULL
               OR o.captured = coalesce(d.captured, 0) + CASE o.type WHEN 'transfer' THEN o.amount ELSE 0 END
               AND o.refunded = coalesce(d.refunded, 0) AND o.charged_back = coalesce(d.charged_back, 0)
               AND o.captured BETWEEN 0 AND o.amount AND o.refunded >= 0 AND o.charged_back >= 0
               AND o.refunded::numeric + o.charged_back <= o.captured AS sums_hold
      FROM own o
      FULL JOIN done d ON d.parent_id = o.id AND d.leg = o.leg
), progress AS (
    SELECT id, state, sum(amount) AS amount, sum(captured) AS captured, sum(refunded) AS refunded,
           sum(charged_back) AS charged_back
      FROM own
     GROUP BY id, state
)
SELECT broken.name,
       CASE broken.name
           WHEN 'follow_up_parent' THEN
               format('%s leg %s: %s follow-ups moved money, and not the other way round or back of it', id, leg, children)
           WHEN 'payment_captured' THEN
               format('%s leg %s: of %s captured %s, refunded %s, charged back %s; its follow-ups %s, %s, %s', id, leg,
                      amount, captured, refunded, charged_back, captured_by, refunded_by, charged_back_by)
       END AS example
  FROM compared,
       LATERAL (VALUES ('follow_up_parent', parent_holds), ('payment_captured', sums_hold)) AS broken (name, holds)
 WHERE broken.holds IS NOT TRUE
UNION ALL
SELECT 'payment_progress',
       format('%s: %s, of %s captured %s, refunded %s, charged back %s', id, state, amount, captured, refunded, charged_back)
  FROM progress
 WHERE CASE state
           WHEN 'authorized' THEN captured = 0
           WHEN 'partially_captured' THEN captured > 0 AND captured < amount
           WHEN 'settled' THEN captured > 0 AND refunded = 0 AND charged_back = 0
           WHEN 'partially_refunded' THEN refunded > 0 AND refunded < captured AND charged_back = 0
           WHEN 'refunded' THEN captured > 0 AND refunded = captured AND charged_back = 0
           WHEN 'charged_back' THEN charged_back > 0
           ELSE captured = 0
       END IS NOT TRUE
