-- name: MatchEndpoints :many
-- The active endpoints of some users. Which events they want is matched by the
-- caller (services/internal/subscription), for the whole batch at once. waits
-- says that deliveries of it are parked.
SELECT e.id, e.user_id, e.events, e.filter, e.created_at, (s.waits_for IS NOT NULL)::boolean AS waits
FROM endpoints e
LEFT JOIN endpoint_states s ON s.endpoint_id = e.id
WHERE e.user_id = ANY (@user_ids::uuid[]) AND e.is_active AND e.deleted_at IS NULL
ORDER BY e.user_id, e.id;

-- name: StoreEvents :many
-- Writes events, and the deliveries of those that were new, due at once. All that
-- a batch of events needs but for repeats, in one statement and so in one transaction.
--
-- Deliveries of endpoints that have others parked are parked like those, and are
-- to have no message: these endpoints are told apart by the caller (waiting), and
-- once more here, with their rows locked so that nobody takes the last parked one
-- for the last meanwhile (see LockWaiting). A test never waits.
--
-- Returns the ids of the events that were new, and of the endpoints that wait.
WITH waiting AS (
    SELECT endpoint_id, waits_for
    FROM endpoint_states
    WHERE endpoint_id = ANY (@waiting::uuid[]) AND waits_for IS NOT NULL
    ORDER BY endpoint_id
    FOR SHARE
), stored AS (
    INSERT INTO events (id, user_id, type, body, occurred_at, stream_seq)
    SELECT unnest(@ids::uuid[]), unnest(@user_ids::uuid[]), unnest(@types::text[]), unnest(@bodies::bytea[]),
           unnest(@occurred_ats::timestamptz[]), unnest(@stream_seqs::bigint[])
    ON CONFLICT (id) DO NOTHING
    RETURNING id
), made AS (
    INSERT INTO deliveries (id, event_id, endpoint_id, event_type, trigger, waits_for, next_attempt_at)
    SELECT d.id, d.event_id, d.endpoint_id, d.event_type, d.trigger, w.waits_for,
           CASE WHEN w.waits_for IS NULL THEN now() ELSE '9999-01-01Z' END
    FROM (SELECT unnest(@delivery_ids::uuid[]) AS id, unnest(@event_ids::uuid[]) AS event_id, unnest(@endpoint_ids::uuid[]) AS endpoint_id,
                 unnest(@event_types::text[]) AS event_type, unnest(@triggers::text[]) AS trigger) d
    LEFT JOIN waiting w ON w.endpoint_id = d.endpoint_id AND d.trigger <> 'test'
    WHERE d.event_id IN (SELECT id FROM stored)
    ON CONFLICT (id) DO NOTHING
)
SELECT id, false AS waits FROM stored
UNION ALL
SELECT endpoint_id, true FROM waiting;

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
-- Which of some deliveries are there and wait for an attempt with a message. (What is
-- pending has a next_attempt_at; this way the planner goes by the primary key.)
SELECT id
FROM deliveries
WHERE id = ANY (@ids::uuid[]) AND id BETWEEN @low::uuid AND @high::uuid AND next_attempt_at IS NOT NULL AND waits_for IS NULL;

-- name: InsertDeadEvents :exec
INSERT INTO dead_events (id, stream_seq, subject, headers, body, reason)
SELECT unnest(@ids::uuid[]), unnest(@stream_seqs::bigint[]), unnest(@subjects::text[]), unnest(@headers::bytea[]),
       unnest(@bodies::bytea[]), unnest(@reasons::text[])
ON CONFLICT (id) DO NOTHING;
