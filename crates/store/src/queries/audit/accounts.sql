-- What is wrong with accounts and their histories: one row (check, example) per violation.
-- $1: the largest absolute balance.
WITH chained AS (
    SELECT account, seq, amount, balance_after,
           lag(balance_after, 1, 0::bigint) OVER history AS balance_before,
           lead(seq) OVER history IS NULL AS is_last
      FROM entry
     WHERE account_in_part(account)
    WINDOW history AS (PARTITION BY account ORDER BY seq)
), history AS (
    SELECT account,
           count(*) AS entries,
           min(seq) AS first_seq,
           max(seq) AS last_seq,
           sum(amount) AS total,
           min(balance_after) AS lowest,
           max(balance_after) FILTER (WHERE is_last) AS last_balance,
           min(seq) FILTER (WHERE balance_after <> balance_before + amount) AS broken_at
      FROM chained
     GROUP BY account
), told AS (
    SELECT id, type, debit_account AS account, legs, currency, min_balance, request, settled_at
      FROM payment
     WHERE type IN ('open_account', 'close_account', 'freeze_account', 'unfreeze_account', 'set_limits',
                    'chargeback', 'chargeback_reversal')
       AND state = 'settled'
), change AS (
    SELECT account,
           count(*) FILTER (WHERE type = 'open_account') AS times_opened,
           count(*) FILTER (WHERE type = 'close_account') AS times_closed,
           count(*) FILTER (WHERE type = 'freeze_account') - count(*) FILTER (WHERE type = 'unfreeze_account') AS times_frozen,
           count(*) FILTER (WHERE type = 'set_limits') AS times_limited,
           min(currency) FILTER (WHERE type = 'open_account') AS currency
      FROM told
     WHERE type NOT IN ('chargeback', 'chargeback_reversal') AND account_in_part(account)
     GROUP BY account
), limits AS (
    SELECT t.account, given.which, coalesce(given.limit_given, 'none') AS limit_given,
           rank() OVER (PARTITION BY t.account, given.which ORDER BY t.settled_at DESC) AS nth
      FROM told t,
           LATERAL (SELECT CASE t.type WHEN 'set_limits' THEN t.request::jsonb END AS asked) AS task,
           LATERAL (VALUES ('min', t.type = 'open_account' OR task.asked ? 'min_balance',
                            CASE t.type WHEN 'open_account' THEN t.min_balance::text ELSE task.asked ->> 'min_balance' END),
                           ('max', t.type = 'open_account' OR task.asked ? 'max_balance', task.asked ->> 'max_balance'))
               AS given (which, is_given, limit_given)
     WHERE t.type IN ('open_account', 'set_limits') AND given.is_given
), given AS (
    -- Of tasks that were applied in the same moment any may have been the last.
    SELECT account, array_agg(limit_given) FILTER (WHERE which = 'min') AS lowest,
                    array_agg(limit_given) FILTER (WHERE which = 'max') AS highest
      FROM limits
     WHERE nth = 1
     GROUP BY account
), imposed AS (
    -- Who was debited without being asked.
    SELECT account FROM told WHERE type IN ('chargeback', 'chargeback_reversal') AND legs IS NULL
     UNION
    SELECT l.debit_account FROM told t JOIN leg l ON l.payment_id = t.id WHERE t.type IN ('chargeback', 'chargeback_reversal')
), held AS (
    SELECT account, sum(amount) AS amount FROM hold WHERE account_in_part(account) GROUP BY account
), joined AS (
    SELECT coalesce(a.name, '#' || coalesce(h.account, c.account, r.account)) AS name,
           a.status, a.posted, a.held, a.version, a.min_balance, a.max_balance, a.shortfall, a.currency,
           coalesce(h.entries, 0) AS entries, coalesce(h.total, 0) AS total, coalesce(h.last_balance, 0) AS last_balance,
           coalesce(h.first_seq, 1) AS first_seq, coalesce(h.last_seq, 0) AS last_seq, h.broken_at,
           coalesce(c.times_opened, 0) AS times_opened, coalesce(r.amount, 0) AS sum_of_holds,
           coalesce(c.times_frozen, 0) AS times_frozen, coalesce(c.times_closed, 0) AS times_closed,
           a.id IS NOT NULL AS exists_holds,
           a.posted = coalesce(h.total, 0) AS sum_holds,
           a.posted = coalesce(h.last_balance, 0) AS last_holds,
           h.broken_at IS NULL AS chain_holds,
           a.version = coalesce(h.entries, 0)
               AND coalesce(h.first_seq, 1) = 1 AND coalesce(h.last_seq, 0) = a.version AS version_holds,
           a.posted - a.held >= coalesce(a.min_balance - a.shortfall, a.posted - a.held)
               AND a.posted <= coalesce(a.max_balance, a.posted)
               AND (coalesce(h.lowest, 0) >= coalesce(a.min_balance, h.lowest, 0)
                    OR c.times_limited > 0 OR i.account IS NOT NULL)
               AND abs(a.posted) <= $1 AS limit_holds,
           a.shortfall = CASE WHEN i.account IS NULL THEN 0
                              ELSE greatest(a.min_balance - (a.posted - a.held), 0) END AS shortfall_holds,
           a.held = coalesce(r.amount, 0) AS held_holds,
           CASE a.status
               WHEN 'unopened' THEN a.currency IS NULL AND a.opened_at IS NULL AND a.posted = 0 AND a.held = 0
                                AND a.min_balance IS NULL AND a.max_balance IS NULL
                                AND a.version = 0 AND h.entries IS NULL
               ELSE a.currency ~ '^[A-Z]{3}$' AND a.opened_at IS NOT NULL
           END
               AND coalesce(c.times_closed, 0) = (a.status = 'closed')::int
               AND CASE a.status WHEN 'closed' THEN a.posted = 0 AND a.held = 0
                                                AND coalesce(c.times_frozen, 0) BETWEEN 0 AND 1
                                 ELSE coalesce(c.times_frozen, 0) = (a.status = 'frozen')::int END AS status_holds,
           CASE a.status
               WHEN 'unopened' THEN c.times_opened IS NULL
               ELSE c.times_opened = 1 AND c.currency = a.currency
           END AS opening_holds,
           c.times_opened IS DISTINCT FROM 1
               OR coalesce(a.min_balance::text, 'none') = ANY (g.lowest)
               AND coalesce(a.max_balance::text, 'none') = ANY (g.highest) AS given_holds
      FROM (SELECT * FROM account WHERE account_in_part(id)) a
      FULL JOIN history h ON h.account = a.id
      FULL JOIN change c ON c.account = a.id
      FULL JOIN held r ON r.account = a.id
      LEFT JOIN given g ON g.account = a.id
      LEFT JOIN imposed i ON i.account = a.id
)
SELECT broken.name,
       CASE broken.name
           WHEN 'account_exists' THEN format('%s: has entries, holds or an opening, and no row', joined.name)
           WHEN 'account_posted' THEN format('%s: posted %s, entries sum to %s', joined.name, posted, total)
           WHEN 'account_last_balance' THEN format('%s: posted %s, %s after the last entry', joined.name, posted, last_balance)
           WHEN 'entry_chain' THEN format('%s: entry %s does not continue the balance before it', joined.name, broken_at)
           WHEN 'account_version' THEN
               format('%s: version %s, %s entries, numbered %s to %s', joined.name, version, entries, first_seq, last_seq)
           WHEN 'account_limit' THEN
               format('%s: posted %s, held %s, limits %s and %s', joined.name, posted, held,
                      coalesce(min_balance::text, 'none'), coalesce(max_balance::text, 'none'))
           WHEN 'account_shortfall' THEN
               format('%s: shortfall %s, posted %s, held %s, limit %s', joined.name, shortfall, posted, held,
                      coalesce(min_balance::text, 'none'))
           WHEN 'account_held' THEN format('%s: held %s, its holds sum to %s', joined.name, held, sum_of_holds)
           WHEN 'account_status' THEN
               format('%s: %s, currency %s, version %s, %s entries, closed %s times, frozen %s times', joined.name, status,
                      coalesce(currency, 'none'), version, entries, times_closed, times_frozen)
           WHEN 'account_opening' THEN
               format('%s: %s, opened by %s payments, or not as they say', joined.name, status, times_opened)
           WHEN 'account_terms' THEN
               format('%s: limits %s and %s, last given others', joined.name,
                      coalesce(min_balance::text, 'none'), coalesce(max_balance::text, 'none'))
       END AS example
  FROM joined,
       LATERAL (VALUES ('account_exists', exists_holds),
                       ('account_posted', NOT exists_holds OR sum_holds),
                       ('account_last_balance', NOT exists_holds OR last_holds),
                       ('entry_chain', chain_holds),
                       ('account_version', NOT exists_holds OR version_holds),
                       ('account_limit', NOT exists_holds OR limit_holds),
                       ('account_shortfall', NOT exists_holds OR shortfall_holds),
                       ('account_held', NOT exists_holds OR held_holds),
                       ('account_status', NOT exists_holds OR status_holds),
                       ('account_opening', NOT exists_holds OR opening_holds),
                       ('account_terms', NOT exists_holds OR given_holds)) AS broken (name, holds)
 WHERE broken.holds IS NOT TRUE
