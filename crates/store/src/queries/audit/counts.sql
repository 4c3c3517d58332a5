-- Whether what is counted of waiting tasks and holds is what there is: one row (check, example) per
-- violation.
WITH counted AS (
    SELECT what, coalesce(currency, '') AS currency, sum(rows) AS rows, sum(amount) AS amount
      FROM waiting_count GROUP BY 1, 2
), present AS (
    SELECT CASE WHEN waits_for IS NULL THEN 'scheduled' ELSE 'parked' END AS what, '' AS currency,
           count(*) AS rows, 0::numeric AS amount
      FROM agenda GROUP BY 1
     UNION ALL
    SELECT 'hold', coalesce(a.currency, ''), count(*), sum(h.amount)
      FROM hold h LEFT JOIN account a ON a.id = h.account GROUP BY 2
)
SELECT 'waiting_count' AS name,
       format('%s %s: counted are %s (%s), there are %s (%s)', coalesce(c.what, p.what), coalesce(c.currency, p.currency),
              coalesce(c.rows, 0), coalesce(c.amount, 0), coalesce(p.rows, 0), coalesce(p.amount, 0)) AS example
  FROM counted c
  FULL JOIN present p ON p.what = c.what AND p.currency = c.currency
 WHERE coalesce(c.rows, 0) <> coalesce(p.rows, 0) OR coalesce(c.amount, 0) <> coalesce(p.amount, 0)
