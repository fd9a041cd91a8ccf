-- name: NewestChanged :many
-- Of the newest deliveries, at most examined of them, those that have changed
-- since a time, and the time by the database's clock.
SELECT id, event_id, event_type, status, next_attempt_at, clock_timestamp()::timestamptz AS now
FROM (
    SELECT id, event_id, event_type, status, next_attempt_at, updated_at
    FROM deliveries ORDER BY id DESC LIMIT @examined::int
) AS d
WHERE updated_at >= @since::timestamptz;

-- name: NewestChangedOf :many
-- The same of some endpoints, at most examined of each.
SELECT d.id, d.event_id, d.event_type, d.status, d.next_attempt_at, clock_timestamp()::timestamptz AS now
FROM unnest(@endpoint_ids::uuid[]) AS e (id)
CROSS JOIN LATERAL (
    SELECT w.id, w.event_id, w.event_type, w.status, w.next_attempt_at, w.updated_at
    FROM deliveries w WHERE w.endpoint_id = e.id ORDER BY w.id DESC LIMIT @examined::int
) AS d
WHERE d.updated_at >= @since::timestamptz;

-- name: FinishedAttempts :many
-- Attempts of some deliveries that ended since a time, in the order of their ends.
SELECT delivery_id, n, endpoint_id, finished_at::timestamptz AS finished_at, outcome::text AS outcome, response_code, error_message, duration_ms
FROM attempts
WHERE delivery_id = ANY (@ids::uuid[]) AND delivery_id BETWEEN @low::uuid AND @high::uuid AND finished_at >= @since::timestamptz
ORDER BY attempts.finished_at, delivery_id, n;

-- name: EndpointsOf :many
-- The endpoints of a user, or the one with an id, deleted ones too.
SELECT id FROM endpoints WHERE user_id = sqlc.narg(user_id)::uuid OR id = sqlc.narg(id)::uuid LIMIT @max_rows::int;

-- name: DatabaseTime :one
SELECT clock_timestamp()::timestamptz;
