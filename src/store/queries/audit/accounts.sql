-- What is wrong with accounts and their histories: one row (check, example) per violation.
-- $1: the largest absolute balance.
WITH chained AS (
    SELECT account, seq, amount, balance_after,
           lag(balance_after, 1, 0::bigint) OVER history AS balance_before,
           lead(seq) OVER history IS NULL AS is_last
      FROM entry
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
), opening AS (
    SELECT debit_account AS account, count(*) AS times, min(currency) AS currency, min(min_balance) AS min_balance
      FROM payment
     WHERE type = 'open_account' AND state = 'settled'
     GROUP BY debit_account
), joined AS (
    SELECT coalesce(a.name, '#' || coalesce(h.account, o.account)) AS name,
           a.status, a.posted, a.held, a.version, a.min_balance, a.currency,
           coalesce(h.entries, 0) AS entries, coalesce(h.total, 0) AS total, coalesce(h.last_balance, 0) AS last_balance,
           coalesce(h.first_seq, 1) AS first_seq, coalesce(h.last_seq, 0) AS last_seq, h.broken_at,
           coalesce(o.times, 0) AS times_opened,
           a.id IS NOT NULL AS exists_holds,
           a.posted = coalesce(h.total, 0) AS sum_holds,
           a.posted = coalesce(h.last_balance, 0) AS last_holds,
           h.broken_at IS NULL AS chain_holds,
           a.version = coalesce(h.entries, 0)
               AND coalesce(h.first_seq, 1) = 1 AND coalesce(h.last_seq, 0) = a.version AS version_holds,
           a.posted - a.held >= coalesce(a.min_balance, a.posted - a.held)
               AND coalesce(h.lowest, 0) >= coalesce(a.min_balance, h.lowest, 0)
               AND abs(a.posted) <= $1 AS limit_holds,
           -- No type of task holds money yet.
           a.held = 0 AS held_holds,
           CASE a.status
               WHEN 'unopened' THEN a.currency IS NULL AND a.opened_at IS NULL AND a.min_balance IS NULL
                                AND a.posted = 0 AND a.held = 0 AND a.version = 0 AND h.entries IS NULL
               ELSE a.currency ~ '^[A-Z]{3}$' AND a.opened_at IS NOT NULL
           END AS status_holds,
           CASE a.status
               WHEN 'unopened' THEN o.times IS NULL
               ELSE o.times = 1 AND o.currency = a.currency AND o.min_balance IS NOT DISTINCT FROM a.min_balance
           END AS opening_holds
      FROM account a
      FULL JOIN history h ON h.account = a.id
      FULL JOIN opening o ON o.account = a.id
)
SELECT broken.name,
       CASE broken.name
           WHEN 'account_exists' THEN format('%s: has entries or an opening, and no row', joined.name)
           WHEN 'account_posted' THEN format('%s: posted %s, entries sum to %s', joined.name, posted, total)
           WHEN 'account_last_balance' THEN format('%s: posted %s, %s after the last entry', joined.name, posted, last_balance)
           WHEN 'entry_chain' THEN format('%s: entry %s does not continue the balance before it', joined.name, broken_at)
           WHEN 'account_version' THEN
               format('%s: version %s, %s entries, numbered %s to %s', joined.name, version, entries, first_seq, last_seq)
           WHEN 'account_limit' THEN
               format('%s: posted %s, held %s, limit %s', joined.name, posted, held, coalesce(min_balance::text, 'none'))
           WHEN 'account_held' THEN format('%s: holds %s, for no payment', joined.name, held)
           WHEN 'account_status' THEN
               format('%s: %s, currency %s, version %s, %s entries', joined.name, status, coalesce(currency, 'none'), version, entries)
           WHEN 'account_opening' THEN
               format('%s: %s, opened by %s payments, or not as they say', joined.name, status, times_opened)
       END AS example
  FROM joined,
       LATERAL (VALUES ('account_exists', exists_holds),
                       ('account_posted', NOT exists_holds OR sum_holds),
                       ('account_last_balance', NOT exists_holds OR last_holds),
                       ('entry_chain', chain_holds),
                       ('account_version', NOT exists_holds OR version_holds),
                       ('account_limit', NOT exists_holds OR limit_holds),
                       ('account_held', NOT exists_holds OR held_holds),
                       ('account_status', NOT exists_holds OR status_holds),
                       ('account_opening', NOT exists_holds OR opening_holds)) AS broken (name, holds)
 WHERE broken.holds IS NOT TRUE
