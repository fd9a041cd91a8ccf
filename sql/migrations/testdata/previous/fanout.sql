-- name: MatchEndpoints :many
-- The active endpoints of some users. Which event types they want is matched
-- by the caller, for the whole batch at once.
SELECT id, user_id, events, created_at
FROM endpoints
WHERE user_id = ANY (@user_ids::uuid[]) AND is_active AND deleted_at IS NULL
ORDER BY user_id, id;

-- name: InsertEvents :many
-- Writes events; returns the ids of those that were new.
INSERT INTO events (id, user_id, type, body, occurred_at, stream_seq)
SELECT unnest(@ids::uuid[]), unnest(@user_ids::uuid[]), unnest(@types::text[]), unnest(@bodies::bytea[]),
       unnest(@occurred_ats::timestamptz[]), unnest(@stream_seqs::bigint[])
ON CONFLICT (id) DO NOTHING
RETURNING id;

-- name: StoredEvents :many
-- What is stored under ids that were not new.
SELECT id, user_id, type, body
FROM events
WHERE id = ANY (@ids::uuid[]) AND id BETWEEN @low::uuid AND @high::uuid;

-- name: InsertDeliveries :execrows
-- Writes pending deliveries, due at once; a known id changes nothing.
INSERT INTO deliveries (id, event_id, endpoint_id, event_type, trigger)
SELECT unnest(@ids::uuid[]), unnest(@event_ids::uuid[]), unnest(@endpoint_ids::uuid[]), unnest(@event_types::text[]), unnest(@triggers::text[])
ON CONFLICT (id) DO NOTHING;

-- name: PendingDeliveries :many
-- Which of some deliveries are there and wait for an attempt. (What is pending
-- has a next_attempt_at; this way the planner goes by the primary key.)
SELECT id
FROM deliveries
WHERE id = ANY (@ids::uuid[]) AND id BETWEEN @low::uuid AND @high::uuid AND next_attempt_at IS NOT NULL;

-- name: InsertDeadEvents :exec
INSERT INTO dead_events (id, stream_seq, subject, headers, body, reason)
SELECT unnest(@ids::uuid[]), unnest(@stream_seqs::bigint[]), unnest(@subjects::text[]), unnest(@headers::bytea[]),
       unnest(@bodies::bytea[]), unnest(@reasons::text[])
ON CONFLICT (id) DO NOTHING;
