-- Gauges for operators. Each reads a bounded part of a partial index, however
-- many rows the tables have: most deliveries are no longer pending and in none
-- of these indexes.

-- name: OldestDueDelivery :one
-- How long the oldest delivery waits, in seconds, that is due and nobody is at. 0 if there is none.
SELECT coalesce((
    SELECT extract(epoch FROM now() - next_attempt_at)
    FROM deliveries
    WHERE status = 'pending' AND next_attempt_at <= now() AND waits_for IS NULL
      AND (leased_until IS NULL OR leased_until <= now())
    ORDER BY next_attempt_at
    LIMIT 1
), 0)::float8 AS age;

-- name: CountDue :one
-- Of the oldest deliveries that are due, up to a number: how many wait, how many
-- are being attempted, and how many whose process died.
SELECT (count(*) FILTER (WHERE leased_until IS NULL))::bigint AS due,
       (count(*) FILTER (WHERE leased_until > now()))::bigint AS in_flight,
       (count(*) FILTER (WHERE leased_until <= now()))::bigint AS expired
FROM (
    SELECT leased_until FROM deliveries
    WHERE status = 'pending' AND next_attempt_at <= now() AND waits_for IS NULL
    ORDER BY next_attempt_at
    LIMIT @max_rows::int
) d;

-- name: CountWaiting :many
-- What deliveries wait for without a message, of those up to a number.
SELECT d.waits_for::text AS reason, count(*) AS n
FROM (
    SELECT waits_for FROM deliveries
    WHERE waits_for IS NOT NULL
    ORDER BY next_attempt_at
    LIMIT @max_rows::int
) d
GROUP BY d.waits_for;

-- name: CountOutbox :one
-- Events that wait in the outbox, up to a number, and for how long the oldest has, in seconds.
SELECT (SELECT count(*) FROM (SELECT FROM outbox WHERE refused IS NULL LIMIT @max_rows::int) o)::bigint AS waiting,
       coalesce((SELECT extract(epoch FROM now() - min(created_at)) FROM outbox WHERE refused IS NULL), 0)::float8 AS age;

-- name: CountDeadEvents :one
-- Dead events, up to a number.
SELECT count(*) FROM (SELECT FROM dead_events LIMIT @max_rows::int) d;
