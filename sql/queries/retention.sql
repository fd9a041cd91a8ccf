-- name: HoldBodies :exec
-- Keeps bodies from being cleared until the transaction ends: what is then seen
-- of an event stays. For whoever makes deliveries pending again.
SELECT pg_advisory_xact_lock_shared(hashtext('cardwire bodies'));

-- name: KeptBodies :many
-- Those of some events whose bodies are kept. low and high bound the ids, so
-- that only their partitions are read.
SELECT id FROM events
WHERE id = ANY (@ids::uuid[]) AND id BETWEEN @low::uuid AND @high::uuid AND octet_length(body) > 0;

-- name: LockBodies :exec
-- Waits for whoever holds bodies, and has others wait until the transaction ends.
SELECT pg_advisory_xact_lock(hashtext('cardwire bodies'));

-- name: DaysToClear :many
-- The days (UTC) before one of which bodies may still be kept, oldest first.
SELECT p.day::date
FROM event_days() AS p (day)
WHERE p.day < @before::date
  AND NOT EXISTS (SELECT FROM cleared_days d WHERE d.day = p.day AND d.finished_at IS NOT NULL)
ORDER BY p.day;

-- name: BeginClearing :exec
INSERT INTO cleared_days (day) VALUES (@day::date) ON CONFLICT (day) DO NOTHING;

-- name: FinishClearing :exec
UPDATE cleared_days SET finished_at = now() WHERE day = @day::date;

-- name: ForgetCleared :exec
-- Forgets the days before one: their rows are gone.
DELETE FROM cleared_days WHERE day < @before::date;

-- name: EventsWithBodies :many
-- Events after one id and before another whose bodies are kept, oldest first.
SELECT id FROM events
WHERE id > @after::uuid AND id < @before::uuid AND octet_length(body) > 0
ORDER BY id
LIMIT @max_rows::int;

-- name: ClearEvents :execrows
-- Clears the bodies of some events, but for those with a pending delivery, whose
-- ids, like those of the events, are between low and high. Only after LockBodies.
UPDATE events SET body = ''
WHERE id = ANY (@ids::uuid[]) AND id BETWEEN @low::uuid AND @high::uuid
  AND id <> ALL (ARRAY (
      SELECT d.event_id FROM deliveries d
      WHERE d.id BETWEEN @low AND @high AND d.next_attempt_at IS NOT NULL));

-- name: AttemptsWithBodies :many
-- Deliveries after one id and before another with attempts that have bodies or
-- headers, once for each attempt.
SELECT delivery_id FROM attempts
WHERE delivery_id > @after::uuid AND delivery_id < @before::uuid
  AND (response_body IS NOT NULL OR response_headers IS NOT NULL OR request_headers IS NOT NULL)
ORDER BY delivery_id
LIMIT @max_rows::int;

-- name: ClearAttempts :execrows
UPDATE attempts SET response_body = NULL, response_headers = NULL, request_headers = NULL
WHERE delivery_id = ANY (@ids::uuid[]) AND delivery_id BETWEEN @low::uuid AND @high::uuid AND outcome IS NOT NULL;

-- name: DeleteOldDeadEvents :execrows
DELETE FROM dead_events
WHERE id = ANY (ARRAY (SELECT d.id FROM dead_events d WHERE d.created_at < @before::timestamptz ORDER BY d.created_at LIMIT @max_rows::int));

-- name: DeleteOldRecoveries :execrows
DELETE FROM recoveries
WHERE id = ANY (ARRAY (SELECT r.id FROM recoveries r WHERE r.finished_at < @before::timestamptz LIMIT @max_rows::int));

-- name: DeleteOldEndpoints :execrows
-- Deletes endpoints that were deleted before a time, with what hangs on them:
-- their deliveries are gone.
DELETE FROM endpoints
WHERE id = ANY (ARRAY (SELECT e.id FROM endpoints e WHERE e.deleted_at < @before::timestamptz LIMIT @max_rows::int));

-- name: LongSchedules :one
-- How many endpoints have a schedule of their own that is longer than a time (in seconds).
SELECT count(*) FROM endpoints e
WHERE e.deleted_at IS NULL AND (SELECT sum(ms) FROM unnest(e.retry_schedule) AS ms) > 1000 * @longest::bigint;

-- name: PendingBefore :one
-- How many deliveries before an id are pending, counted up to max_rows.
SELECT count(*) FROM (
    SELECT FROM deliveries WHERE id < @before::uuid AND status = 'pending' LIMIT @max_rows::int
) AS d;
