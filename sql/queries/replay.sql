-- name: LockReplays :exec
-- Until the transaction ends, nobody else begins a replay.
SELECT pg_advisory_xact_lock(hashtext('cardwire replays'));

-- name: OverlappingReplay :one
-- An unfinished replay that may deliver an event of a range to an endpoint of a
-- scope. Null arguments stand for all endpoints and all users; no types for all.
SELECT id
FROM replays
WHERE finished_at IS NULL
  AND (endpoint_id IS NULL OR sqlc.narg(endpoint_id)::uuid IS NULL OR endpoint_id = sqlc.narg(endpoint_id))
  AND (user_id IS NULL OR sqlc.narg(user_id)::uuid IS NULL OR user_id = sqlc.narg(user_id))
  AND (cardinality(types) = 0 OR cardinality(@types::text[]) = 0 OR types && @types)
  AND start_id < @end_id::uuid AND end_id > @start_id::uuid
  AND (from_seq IS NULL OR sqlc.narg(from_seq)::bigint IS NULL OR from_seq <= sqlc.narg(to_seq)::bigint AND to_seq >= sqlc.narg(from_seq))
ORDER BY id
LIMIT 1;

-- name: InsertReplay :one
INSERT INTO replays (id, actor, endpoint_id, user_id, mode, types, since, until, from_seq, to_seq, rate, start_id, end_id, at, total)
VALUES (@id, @actor, sqlc.narg(endpoint_id), sqlc.narg(user_id), @mode, @types, sqlc.narg(since), sqlc.narg(until),
        sqlc.narg(from_seq), sqlc.narg(to_seq), sqlc.narg(rate), @start_id, @end_id, @at, sqlc.narg(total))
RETURNING id, actor, endpoint_id, user_id, mode, types, since, until, from_seq, to_seq, rate, start_id, end_id, at, total, done, made, skipped,
          state, reason, next_at, created_at, updated_at, finished_at;

-- name: Replay :one
SELECT id, actor, endpoint_id, user_id, mode, types, since, until, from_seq, to_seq, rate, start_id, end_id, at, total, done, made, skipped,
       state, reason, next_at, created_at, updated_at, finished_at
FROM replays
WHERE id = @id;

-- name: HoldReplay :one
-- The same; it does not change until the transaction ends.
SELECT id, actor, endpoint_id, user_id, mode, types, since, until, from_seq, to_seq, rate, start_id, end_id, at, total, done, made, skipped,
       state, reason, next_at, created_at, updated_at, finished_at
FROM replays
WHERE id = @id FOR NO KEY UPDATE;

-- name: ListReplays :many
-- The newest replays before an id, of all users or of one.
SELECT id, actor, endpoint_id, user_id, mode, types, since, until, from_seq, to_seq, rate, start_id, end_id, at, total, done, made, skipped,
       state, reason, next_at, created_at, updated_at, finished_at
FROM replays
WHERE (sqlc.narg(user_id)::uuid IS NULL OR user_id = sqlc.narg(user_id)) AND id < @before::uuid
ORDER BY id DESC
LIMIT @max_rows::int;

-- name: SetReplayState :one
-- What was paused goes on at once, and does not make up for the pause.
UPDATE replays
SET state = @state::text, reason = sqlc.narg(reason),
    next_at = CASE WHEN @state = 'running' THEN clock_timestamp() ELSE next_at END,
    finished_at = CASE WHEN @state IN ('cancelled', 'finished') THEN clock_timestamp() END,
    updated_at = clock_timestamp()
WHERE id = @id
RETURNING id, actor, endpoint_id, user_id, mode, types, since, until, from_seq, to_seq, rate, start_id, end_id, at, total, done, made, skipped,
          state, reason, next_at, created_at, updated_at, finished_at;

-- name: TakeReplay :one
-- The running replay that has waited longest for its next batch, if it is time
-- for one. Nobody else takes it until the transaction ends.
SELECT id, actor, endpoint_id, user_id, mode, types, since, until, from_seq, to_seq, rate, start_id, end_id, at, total, done, made, skipped,
       state, reason, next_at, created_at, updated_at, finished_at
FROM replays
WHERE state = 'running' AND finished_at IS NULL AND next_at <= clock_timestamp()
ORDER BY next_at
LIMIT 1
FOR NO KEY UPDATE SKIP LOCKED;

-- name: NextReplay :one
-- Seconds until the next batch of a running replay may begin; an hour if none runs.
SELECT coalesce(extract(epoch FROM min(next_at) - clock_timestamp()), 3600)::float8 AS wait
FROM replays
WHERE state = 'running' AND finished_at IS NULL;

-- name: AdvanceReplay :exec
-- Notes a batch. The next one is put off by pause (in seconds); what
-- is late makes up for a quarter of a second at most.
UPDATE replays
SET at = @at, done = done + @done::bigint, made = made + @made::bigint, skipped = skipped + @skipped::bigint,
    next_at = greatest(next_at, clock_timestamp() - interval '250 ms') + make_interval(secs => @pause::float8),
    state = CASE WHEN @finished::boolean THEN 'finished' ELSE state END,
    finished_at = CASE WHEN @finished THEN clock_timestamp() END,
    updated_at = clock_timestamp()
WHERE id = @id;

-- name: PutOffReplay :exec
-- Puts off the next batch of a running replay by pause (in seconds).
UPDATE replays SET next_at = clock_timestamp() + make_interval(secs => @pause::float8)
WHERE id = @id AND state = 'running';

-- name: ReplayEndpoint :one
-- The endpoint of a replay, as fan-out sees it.
SELECT id, user_id, events, filter, created_at, is_active, (deleted_at IS NOT NULL)::boolean AS deleted
FROM endpoints
WHERE id = @id;

-- name: ReplayPage :many
-- The next events after one id and before another: of at most max_rows of them
-- those that are wanted, and the last. Events whose bodies are gone are not.
WITH page AS MATERIALIZED (
    SELECT id, user_id, type, occurred_at, stream_seq, octet_length(body) > 0 AS kept
    FROM events
    WHERE id > @after::uuid AND id < @before::uuid
    ORDER BY id
    LIMIT @max_rows::int
), wanted AS (
    SELECT id, user_id, type, occurred_at,
           ((cardinality(@types::text[]) = 0 OR type = ANY (@types)) AND stream_seq BETWEEN @from_seq::bigint AND @to_seq::bigint AND kept)::boolean AS wanted
    FROM page
)
SELECT id, user_id, type, occurred_at, wanted, (SELECT count(*) FROM page) AS rows
FROM wanted
WHERE wanted OR id = (SELECT id FROM page ORDER BY id DESC LIMIT 1)
ORDER BY id;

-- name: ReplayPageOfUser :many
-- The same, of one user's events.
WITH page AS MATERIALIZED (
    SELECT id, user_id, type, occurred_at, stream_seq, octet_length(body) > 0 AS kept
    FROM events
    WHERE user_id = @user_id AND id > @after::uuid AND id < @before::uuid
    ORDER BY id
    LIMIT @max_rows::int
), wanted AS (
    SELECT id, user_id, type, occurred_at,
           ((cardinality(@types::text[]) = 0 OR type = ANY (@types)) AND stream_seq BETWEEN @from_seq::bigint AND @to_seq::bigint AND kept)::boolean AS wanted
    FROM page
)
SELECT id, user_id, type, occurred_at, wanted, (SELECT count(*) FROM page) AS rows
FROM wanted
WHERE wanted OR id = (SELECT id FROM page ORDER BY id DESC LIMIT 1)
ORDER BY id;

-- name: CountReplayEvents :one
-- How many events a range has that are wanted. Null stands for all users. Bodies
-- are not looked at: those that are gone are counted.
SELECT count(*)
FROM events
WHERE id > @after::uuid AND id < @before::uuid AND (sqlc.narg(user_id)::uuid IS NULL OR user_id = sqlc.narg(user_id))
  AND (cardinality(@types::text[]) = 0 OR type = ANY (@types)) AND stream_seq BETWEEN @from_seq::bigint AND @to_seq::bigint;

-- name: SequenceBounds :one
-- The first and the last id of the events with certain sequence numbers. The
-- planner must not look for them in the order of ids: it might read all events.
WITH found AS MATERIALIZED (
    SELECT id FROM events WHERE stream_seq BETWEEN @from_seq::bigint AND @to_seq::bigint
)
SELECT (SELECT id FROM found ORDER BY id LIMIT 1)::uuid AS first, (SELECT id FROM found ORDER BY id DESC LIMIT 1)::uuid AS last
WHERE EXISTS (SELECT FROM found);

-- name: DeliveredPairs :many
-- Which of some pairs of event and endpoint have deliveries, and whether one of
-- these has succeeded or may yet. All deliveries of an event begin with the same
-- 48 bits: lows and highs bound those of each pair, low and high all of them.
-- OFFSET keeps the planner to one look at the index for each.
SELECT p.event_id::uuid AS event_id, p.endpoint_id::uuid AS endpoint_id, bool_or(d.status <> 'failed')::boolean AS alive
FROM (SELECT unnest(@event_ids::uuid[]) AS event_id, unnest(@endpoint_ids::uuid[]) AS endpoint_id,
             unnest(@lows::uuid[]) AS low, unnest(@highs::uuid[]) AS high) p
CROSS JOIN LATERAL (
    SELECT w.status
    FROM deliveries w
    WHERE w.endpoint_id = p.endpoint_id AND w.id BETWEEN p.low AND p.high AND w.id BETWEEN @low::uuid AND @high::uuid
      AND w.event_id = p.event_id
    OFFSET 0
) d
GROUP BY p.event_id, p.endpoint_id;

-- name: InsertReplayDeliveries :execrows
-- Writes pending deliveries of a replay, due at once; a known id changes nothing.
INSERT INTO deliveries (id, event_id, endpoint_id, event_type, trigger, replay_id)
SELECT unnest(@ids::uuid[]), unnest(@event_ids::uuid[]), unnest(@endpoint_ids::uuid[]), unnest(@event_types::text[]), @trigger::text, @replay_id::uuid
ON CONFLICT (id) DO NOTHING;

-- name: EventBodies :many
SELECT id, body
FROM events
WHERE id = ANY (@ids::uuid[]) AND id BETWEEN @low::uuid AND @high::uuid;
