-- name: HoldEndpoint :one
-- One endpoint of a user, which does not change until the transaction ends.
SELECT id, is_active, events
FROM endpoints
WHERE id = @id AND user_id = @user_id AND deleted_at IS NULL
FOR NO KEY UPDATE;

-- name: LockDelivery :one
-- One delivery of an endpoint, which does not change until the transaction
-- ends, and whether its event is still there, with its body.
SELECT d.id, d.event_id, d.leased_until,
       EXISTS (SELECT FROM events e WHERE e.id = d.event_id AND octet_length(e.body) > 0)::boolean AS has_event
FROM deliveries d
WHERE d.id = @id AND d.endpoint_id = @endpoint_id
FOR NO KEY UPDATE OF d;

-- name: RenewDeliveries :many
-- Has deliveries go on at once, but for those that somebody is at. What had ended
-- is pending again, as if never attempted; exhausted_at stays: a success then
-- tells of a recovery. low and high bound the ids, so that only their partitions are read.
UPDATE deliveries
SET failures = CASE WHEN status = 'pending' THEN failures ELSE 0 END,
    attempts_before = CASE WHEN status = 'pending' THEN attempts_before ELSE attempts END,
    response_code = CASE WHEN status = 'pending' THEN response_code END,
    error_message = CASE WHEN status = 'pending' THEN error_message END,
    status = 'pending', reason = NULL, delivered_at = NULL, next_attempt_at = now(), waits_for = NULL,
    trigger = @trigger::text, updated_at = now()
WHERE id = ANY (@ids::uuid[]) AND id BETWEEN @low::uuid AND @high::uuid
  AND leased_until IS NULL AND (NOT @only_failed::boolean OR status = 'failed')
RETURNING id, event_id;

-- name: OldestKept :one
-- The first day (UTC) of which events are kept with their bodies; today if there is none.
SELECT greatest(coalesce(oldest_day(), (now() AT TIME ZONE 'UTC')::date), (SELECT max(day) + 1 FROM cleared_days))::date;

-- name: UnfinishedRecovery :one
SELECT id FROM recoveries WHERE endpoint_id = @endpoint_id AND finished_at IS NULL LIMIT 1;

-- name: InsertRecovery :one
INSERT INTO recoveries (id, endpoint_id, since, until, missing, at, missing_at)
VALUES (@id, @endpoint_id, @since, @until, @missing, @at, @at)
RETURNING id, endpoint_id, since, until, missing, at, missing_at, next_at, recovered, created_at, finished_at;

-- name: Recovery :one
SELECT id, endpoint_id, since, until, missing, at, missing_at, next_at, recovered, created_at, finished_at
FROM recoveries
WHERE id = @id AND endpoint_id = @endpoint_id;

-- name: ListRecoveries :many
-- An endpoint's recoveries, newest first.
SELECT id, endpoint_id, since, until, missing, at, missing_at, next_at, recovered, created_at, finished_at
FROM recoveries
WHERE endpoint_id = @endpoint_id
ORDER BY id DESC
LIMIT @max_rows::int;

-- name: LockRecoveries :one
-- Whether it is this transaction's turn to recover a batch: one at a time has it.
SELECT pg_try_advisory_xact_lock(hashtext('cardwire recoveries'));

-- name: TakeRecovery :one
-- The unfinished recovery that has waited longest, if none has to pause.
SELECT r.id, r.endpoint_id, r.until, r.missing, r.at, r.missing_at, e.user_id, e.events, e.filter,
       (e.is_active AND e.deleted_at IS NULL)::boolean AS active
FROM recoveries r
JOIN endpoints e ON e.id = r.endpoint_id
WHERE r.finished_at IS NULL
  AND NOT EXISTS (SELECT FROM recoveries p WHERE p.finished_at IS NULL AND p.next_at > now())
ORDER BY r.next_at, r.id
LIMIT 1
FOR NO KEY UPDATE OF r SKIP LOCKED;

-- name: ExamineDeliveries :many
-- An endpoint's deliveries after one id and before another, oldest first, at most max_rows.
SELECT id, event_id, (status = 'failed')::boolean AS failed
FROM deliveries
WHERE endpoint_id = @endpoint_id AND id > @after::uuid AND id < @before::uuid
ORDER BY id
LIMIT @max_rows::int;

-- name: ExamineEvents :many
-- A user's events after one id and before another, oldest first, at most
-- max_rows, and whether their bodies are still kept.
SELECT id, type, (octet_length(body) > 0)::boolean AS has_body
FROM events
WHERE user_id = @user_id AND id > @after::uuid AND id < @before::uuid
ORDER BY id
LIMIT @max_rows::int;

-- name: InsertMissing :many
-- Writes pending deliveries of one endpoint, due at once; a known id changes
-- nothing. Returns those that were not there.
INSERT INTO deliveries (id, event_id, endpoint_id, event_type, trigger)
SELECT unnest(@ids::uuid[]), unnest(@event_ids::uuid[]), @endpoint_id::uuid, unnest(@event_types::text[]), @trigger::text
ON CONFLICT (id) DO NOTHING
RETURNING id, event_id;

-- name: AdvanceRecovery :exec
-- Notes how far a recovery is, and has all of them pause (in seconds).
UPDATE recoveries
SET at = @at, missing_at = @missing_at, recovered = recovered + @recovered::bigint,
    next_at = clock_timestamp() + make_interval(secs => @pause::float8),
    finished_at = CASE WHEN @finished::boolean THEN clock_timestamp() END
WHERE id = @id;

-- name: RecordAudit :exec
INSERT INTO audit_log (id, user_id, endpoint_id, actor, action, details)
VALUES (new_id(), @user_id, @endpoint_id, @actor, @action, @details);
