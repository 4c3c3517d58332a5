-- Whether payments came to their states step by step: one row (check, example) per violation.
-- The parameters are all legal transitions.
WITH step AS (
    SELECT payment_id, version, from_state, to_state, cause,
           lag(to_state) OVER life AS state_before,
           lead(version) OVER life IS NULL AS is_last
      FROM transition
     WHERE in_part(payment_id)
    WINDOW life AS (PARTITION BY payment_id ORDER BY version)
), life AS (
    SELECT s.payment_id, count(*) AS steps, min(version) AS first_version, max(version) AS last_version,
           max(s.from_state) FILTER (WHERE state_before IS NULL) AS first_state,
           max(s.to_state) FILTER (WHERE is_last) AS last_state,
           min(version) FILTER (WHERE state_before <> s.from_state) AS broken_at,
           min(version) FILTER (WHERE legal.from_state IS NULL) AS illegal_at
      FROM step s
      LEFT JOIN unnest($1::text[], $2::text[]) AS legal (from_state, to_state)
             ON legal.from_state = s.from_state::text AND legal.to_state = s.to_state::text
     GROUP BY s.payment_id
), joined AS (
    SELECT coalesce(p.id, l.payment_id) AS id, p.version, p.state, l.steps, l.first_version, l.last_version,
           l.first_state, l.last_state, l.broken_at, l.illegal_at,
           p.version = l.steps + 1 AND l.first_version = 2 AND l.last_version = p.version
               AND l.broken_at IS NULL AND l.last_state = p.state AS chain_holds,
           l.illegal_at IS NULL
               AND (l.first_state IN ('scheduled', 'parked')
                    OR l.first_state = CASE p.type WHEN 'authorize' THEN 'authorized' ELSE 'settled' END::payment_state)
           AS legal_holds
      FROM life l
      FULL JOIN (SELECT id, type, version, state FROM payment WHERE version <> 1 AND in_part(id)) p ON p.id = l.payment_id
), told AS (
    -- Each follow-up that settled has moved its payment once; who stands twice is nobody's.
    SELECT t.payment_id, t.version, t.from_state, t.to_state, t.cause,
           row_number() OVER (PARTITION BY t.cause ORDER BY t.payment_id, t.version) AS nth
      FROM transition t
     WHERE t.cause <> t.payment_id AND in_part(t.cause)
), follow_up AS (
    SELECT id, parent_id, type FROM payment WHERE parent_id IS NOT NULL AND state = 'settled' AND in_part(id)
)
SELECT broken.name,
       CASE broken.name
           WHEN 'payment_transitions' THEN
               format('%s: %s at version %s, %s transitions from %s to %s, numbered %s to %s', id,
                      coalesce(state::text, 'missing or new'), coalesce(version::text, 'unknown'), coalesce(steps, 0),
                      first_state, last_state, first_version, last_version)
           WHEN 'transition_legal' THEN
               format('%s: began %s, version %s is no legal transition', id, first_state, coalesce(illegal_at, 1))
       END AS example
  FROM joined,
       LATERAL (VALUES ('payment_transitions', chain_holds),
                       ('transition_legal', steps IS NULL OR legal_holds)) AS broken (name, holds)
 WHERE broken.holds IS NOT TRUE
UNION ALL
SELECT 'transition_cause',
       format('%s from %s to %s: follow-up %s of type %s', coalesce(t.payment_id, f.parent_id),
              coalesce(t.from_state::text, 'nowhere'), coalesce(t.to_state::text, 'nowhere'), coalesce(f.id, t.cause),
              coalesce(f.type::text, 'none'))
  FROM told t
  FULL JOIN follow_up f ON f.id = t.cause AND t.nth = 1
 WHERE (f.parent_id = t.payment_id
        AND CASE f.type
                WHEN 'cancel' THEN t.to_state = 'canceled'
                WHEN 'void' THEN t.from_state IN ('authorized', 'partially_captured') AND t.to_state <> 'expired'
                WHEN 'capture' THEN t.from_state IN ('authorized', 'partially_captured') AND t.to_state NOT IN ('voided', 'expired')
                ELSE t.from_state IN ('partially_captured', 'settled', 'partially_refunded', 'charged_back') END) IS NOT TRUE
UNION ALL
SELECT 'transition_cause',
       format('%s from %s to %s: by %s', payment_id, from_state, to_state, coalesce('itself ' || cause, 'the clock'))
  FROM transition
 WHERE (cause IS NULL OR cause = payment_id) AND in_part(payment_id)
   AND CASE WHEN cause IS NULL
            THEN from_state = 'authorized' AND to_state = 'expired'
                 OR from_state = 'partially_captured' AND to_state <> 'partially_captured'
            ELSE from_state IN ('scheduled', 'parked') AND to_state <> 'canceled' END IS NOT TRUE
