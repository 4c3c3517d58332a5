-- Whether all that is held has its payment, and all that waits its place on the agenda: one row
-- (check, example) per violation.
WITH held AS (
    SELECT id, 0 AS leg, debit_account AS account, amount - captured AS amount, expires_at
      FROM payment
     WHERE state IN ('authorized', 'partially_captured') AND legs IS NULL AND amount > captured
       AND in_part(id)
     UNION ALL
    SELECT l.payment_id, l.leg, l.debit_account, l.amount - l.captured, p.expires_at
      FROM leg l
      JOIN payment p ON p.id = l.payment_id
     WHERE p.state IN ('authorized', 'partially_captured') AND l.amount > l.captured
       AND in_part(l.payment_id)
)
SELECT 'hold_payment' AS name,
       format('%s leg %s: holds %s on account #%s until %s, the payment says %s on #%s until %s',
              coalesce(h.payment_id, p.id), coalesce(h.leg, p.leg),
              coalesce(h.amount, 0), coalesce(h.account::text, 'none'), coalesce(h.expires_at::text, 'never'),
              coalesce(p.amount, 0), coalesce(p.account::text, 'none'), coalesce(p.expires_at::text, 'never')) AS example
  FROM (SELECT * FROM hold WHERE in_part(payment_id)) h
  FULL JOIN held p ON p.id = h.payment_id AND p.leg = h.leg
 WHERE (h.account = p.account AND h.amount = p.amount AND h.expires_at = p.expires_at) IS NOT TRUE
UNION ALL
SELECT 'agenda_task',
       format('%s: %s, on the agenda %s', coalesce(p.id, a.task_id), coalesce(p.state::text, 'does not wait'),
              CASE WHEN a.task_id IS NULL THEN 'not at all' WHEN a.waits_for IS NULL THEN 'for its time'
                   ELSE 'behind ' || a.waits_for END)
  FROM (SELECT id, state FROM payment WHERE state IN ('scheduled', 'parked') AND in_part(id)) p
  FULL JOIN (SELECT * FROM agenda WHERE in_part(task_id)) a ON a.task_id = p.id
 WHERE ((p.state = 'parked') = (a.waits_for IS NOT NULL) AND a.task_id IS NOT NULL) IS NOT TRUE
