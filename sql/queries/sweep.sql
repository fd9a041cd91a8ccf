-- name: TakeExpiredLeases :many
-- Takes deliveries whose process did not live to settle them: closes the
-- attempt as interrupted, and frees the delivery to be attempted again. The
-- arrays leave the planner no way but the primary keys; a join it may answer by
-- reading all attempts.
WITH expired AS (
    SELECT id FROM deliveries
    WHERE status = 'pending' AND next_attempt_at <= now() AND leased_until <= now()
    ORDER BY next_attempt_at
    LIMIT @max_rows::int
    FOR NO KEY UPDATE SKIP LOCKED
), freed AS (
    UPDATE deliveries d SET leased_until = NULL, claim_id = NULL, swept_at = now(), updated_at = now()
    WHERE d.id = ANY (ARRAY (SELECT id FROM expired))
    RETURNING d.id, d.event_id, d.endpoint_id
), closed AS (
    UPDATE attempts a SET outcome = 'interrupted', finished_at = now()
    WHERE a.delivery_id = ANY (ARRAY (SELECT id FROM freed)) AND a.outcome IS NULL
)
SELECT id, event_id, endpoint_id FROM freed;

-- name: TakeDueDeliveries :many
-- Takes deliveries that are due and were published, if at all, before
-- published_before: no message of theirs is left. Marks them as swept now.
WITH due AS (
    SELECT id FROM deliveries
    WHERE status = 'pending' AND next_attempt_at < @published_before::timestamptz
      AND (leased_until IS NULL OR leased_until <= now())
      AND (swept_at IS NULL OR swept_at < @published_before) AND waits_for IS NULL
    ORDER BY next_attempt_at
    LIMIT @max_rows::int
    FOR NO KEY UPDATE SKIP LOCKED
)
UPDATE deliveries d SET swept_at = now()
WHERE d.id = ANY (ARRAY (SELECT id FROM due))
RETURNING d.id, d.event_id, d.endpoint_id;

-- name: TakeTimedDeliveries :many
-- Takes deliveries that waited without a message for a time that has come.
UPDATE deliveries d SET waits_for = NULL, swept_at = now()
WHERE d.id = ANY (ARRAY (
    SELECT id FROM deliveries
    WHERE waits_for IS NOT NULL AND next_attempt_at <= now()
    ORDER BY next_attempt_at
    LIMIT @max_rows::int
    FOR NO KEY UPDATE SKIP LOCKED
))
RETURNING d.id, d.event_id, d.endpoint_id;

-- name: Now :one
-- The clock that decides what is due.
SELECT clock_timestamp()::timestamptz AS now;
