-- name: TotalDeliveries :one
-- How many deliveries an endpoint has, without reading them.
SELECT coalesce(sum(n), 0)::bigint FROM delivery_counts WHERE endpoint_id = @endpoint_id;

-- name: ListDeliveries :many
-- A page of an endpoint's deliveries, newest event first. Partitions are read
-- from the newest on, and no further than the page.
SELECT id, event_id, endpoint_id, event_type, status, reason, attempts, failures, next_attempt_at, leased_until, swept_at,
       response_code, error_message, delivered_at, created_at, updated_at, waits_for, trigger, exhausted_at, attempts_before, replay_id, claim_id
FROM deliveries
WHERE endpoint_id = @endpoint_id
ORDER BY id DESC
LIMIT @max_rows::int OFFSET @skip::int;

-- name: ScanDeliveries :many
-- Of an endpoint's deliveries with ids from low on and before an id, newest
-- first, those with a status and an event type (empty is any), at most max_rows.
-- Examines at most max_examined: however few there are, a page has a bound.
SELECT id, event_id, endpoint_id, event_type, status, reason, attempts, failures, next_attempt_at, leased_until, swept_at,
       response_code, error_message, delivered_at, created_at, updated_at, waits_for, trigger, exhausted_at, attempts_before, replay_id, claim_id
FROM (
    SELECT id, event_id, endpoint_id, event_type, status, reason, attempts, failures, next_attempt_at, leased_until, swept_at,
       response_code, error_message, delivered_at, created_at, updated_at, waits_for, trigger, exhausted_at, attempts_before, replay_id, claim_id
    FROM deliveries e
    WHERE e.endpoint_id = @endpoint_id AND e.id >= @low::uuid AND e.id < @before::uuid
    ORDER BY e.id DESC
    LIMIT @max_examined::int
) AS d
WHERE (@status::text = '' OR status = @status) AND (@event_type::text = '' OR event_type = @event_type)
ORDER BY id DESC
LIMIT @max_rows::int;

-- name: ScanEnd :one
-- The last delivery that ScanDeliveries examines; no row if it gets to the end before.
SELECT id
FROM deliveries
WHERE endpoint_id = @endpoint_id AND id >= @low::uuid AND id < @before::uuid
ORDER BY id DESC
LIMIT 1 OFFSET @max_examined_less_1::int;

-- name: Payloads :many
-- The bodies of some events, newest first, until together they exceed
-- max_bytes; of those beyond, and of bodies that are no longer kept, nothing is returned. low and high bound the ids, so
-- that only their partitions are read.
SELECT id, body
FROM (
    SELECT id, body, sum(octet_length(body)) OVER (ORDER BY id DESC) AS bytes
    FROM events
    WHERE id = ANY (@ids::uuid[]) AND id BETWEEN @low::uuid AND @high::uuid AND octet_length(body) > 0
) AS e
WHERE bytes <= @max_bytes::bigint;

-- name: Delivery :one
SELECT id, event_id, endpoint_id, event_type, status, reason, attempts, failures, next_attempt_at, leased_until, swept_at,
       response_code, error_message, delivered_at, created_at, updated_at, waits_for, trigger, exhausted_at, attempts_before, replay_id, claim_id
FROM deliveries
WHERE id = @id AND endpoint_id = @endpoint_id;

-- name: ListAttempts :many
-- The latest attempts of a delivery, in their order, at most max_rows. Response
-- bodies are those of the latest, until together they exceed max_bytes.
SELECT n, started_at, finished_at, outcome, response_code, error_class, error_message, duration_ms,
       dns_ms, connect_ms, tls_ms, first_byte_ms, address_class, trigger, request_headers, response_headers,
       (CASE WHEN bytes <= @max_bytes::bigint THEN response_body END)::bytea AS response_body, response_truncated
FROM (
    SELECT n, started_at, finished_at, outcome, response_code, error_class, error_message, duration_ms,
           dns_ms, connect_ms, tls_ms, first_byte_ms, address_class, trigger, request_headers, response_headers,
           response_body, response_truncated,
           sum(octet_length(response_body)) OVER (ORDER BY n DESC) AS bytes
    FROM attempts
    WHERE delivery_id = @delivery_id
    ORDER BY n DESC
    LIMIT @max_rows::int
) AS a
ORDER BY n;

-- name: EndpointState :one
-- How an endpoint fares; no row if all is well.
SELECT circuit, circuit_reason, circuit_until, waits_for, wait_until, failing_since, failures
FROM endpoint_states
WHERE endpoint_id = @endpoint_id;

-- name: SummarizeDeliveries :one
-- What became of an endpoint's newest deliveries from an id on, at most
-- max_examined of them, and the oldest of those if there are more.
SELECT count(*) FILTER (WHERE status = 'success') AS delivered,
       count(*) FILTER (WHERE status = 'failed') AS failed,
       count(*) FILTER (WHERE status = 'pending') AS waiting,
       count(*) AS examined,
       coalesce((array_agg(id ORDER BY id))[1], @low::uuid)::uuid AS oldest
FROM (
    SELECT id, status
    FROM deliveries
    WHERE endpoint_id = @endpoint_id AND id >= @low::uuid
    ORDER BY id DESC
    LIMIT @max_examined::int
) AS d;

-- name: NewestDeliveries :many
-- The ids of an endpoint's newest deliveries from an id on, at most max_rows.
SELECT id
FROM deliveries
WHERE endpoint_id = @endpoint_id AND id >= @low::uuid
ORDER BY id DESC
LIMIT @max_rows::int;

-- name: AttemptDurations :one
-- The median and the 95th percentile, in ms, of the durations of the attempts of
-- some deliveries that ended. low and high bound the ids, so that only their
-- partitions are read. (A join with deliveries may have all attempts read.)
SELECT count(*) AS attempts,
       coalesce(percentile_disc(0.5) WITHIN GROUP (ORDER BY duration_ms), 0)::int AS p50,
       coalesce(percentile_disc(0.95) WITHIN GROUP (ORDER BY duration_ms), 0)::int AS p95
FROM attempts
WHERE delivery_id = ANY (@ids::uuid[]) AND delivery_id BETWEEN @low::uuid AND @high::uuid
  AND outcome IN ('success', 'failure') AND duration_ms IS NOT NULL;
