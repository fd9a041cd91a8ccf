-- name: ClaimDeliveries :many
-- Claims what may be attempted now: pending, due, and not leased by somebody
-- else. Each claimed delivery gets its next attempt number, an attempt row and
-- a lease. An attempt before it whose lease ran out is closed as interrupted.
-- A delivery whose endpoint is gone, or that we were cut off from too often,
-- ends as failed with the reason. What is not returned needs no POST by the
-- caller. low and high bound the ids, so that only their partitions are read.
--
-- Whatever its statistics say, the planner must go by the primary keys: hence
-- arrays and no joins with the big tables. And only what is pending has a
-- next_attempt_at; to name the status too would offer it deliveries_due_idx.
WITH claimable AS (
    SELECT d.id, d.leased_until IS NOT NULL AS expired, e.url,
           CASE
               WHEN e.id IS NULL OR e.deleted_at IS NOT NULL THEN 'endpoint_deleted'
               WHEN NOT e.is_active THEN 'endpoint_disabled'
               WHEN d.attempts - d.failures >= @max_interruptions::int THEN 'interrupted'
           END AS reason
    FROM deliveries d
    LEFT JOIN endpoints e ON e.id = d.endpoint_id
    WHERE d.id = ANY (@ids::uuid[]) AND d.id BETWEEN @low::uuid AND @high::uuid
      AND d.next_attempt_at <= now() + make_interval(secs => @early::float8)
      AND (d.leased_until IS NULL OR d.leased_until <= now())
    FOR NO KEY UPDATE OF d SKIP LOCKED
), ended AS (
    UPDATE deliveries d
    SET status = 'failed', reason = (SELECT c.reason FROM claimable c WHERE c.id = d.id),
        next_attempt_at = NULL, leased_until = NULL, updated_at = now()
    WHERE d.id = ANY (ARRAY (SELECT id FROM claimable WHERE reason IS NOT NULL)) AND d.id BETWEEN @low AND @high
), claimed AS (
    UPDATE deliveries d
    SET attempts = d.attempts + 1, leased_until = now() + make_interval(secs => @lease::float8), updated_at = now()
    WHERE d.id = ANY (ARRAY (SELECT id FROM claimable WHERE reason IS NULL)) AND d.id BETWEEN @low AND @high
    RETURNING d.id, d.event_id, d.endpoint_id, d.event_type, d.attempts, d.failures, d.trigger
), closed AS (
    UPDATE attempts a
    SET outcome = 'interrupted', finished_at = now()
    WHERE a.delivery_id = ANY (ARRAY (SELECT id FROM claimable WHERE expired)) AND a.delivery_id BETWEEN @low AND @high
      AND a.outcome IS NULL
), started AS (
    INSERT INTO attempts (delivery_id, n, endpoint_id, trigger)
    SELECT id, attempts, endpoint_id, trigger FROM claimed
)
SELECT c.id, c.event_id, c.endpoint_id, c.event_type, c.attempts AS n, c.failures, e.url::text AS url,
       ARRAY (
           SELECT s.ciphertext FROM endpoint_secrets s
           WHERE s.endpoint_id = c.endpoint_id AND (s.expires_at IS NULL OR s.expires_at > now())
           ORDER BY s.expires_at DESC NULLS FIRST, s.id DESC
       )::bytea[] AS secrets
FROM claimed c
JOIN claimable e ON e.id = c.id;

-- name: EventBodies :many
SELECT id, body
FROM events
WHERE id = ANY (@ids::uuid[]) AND id BETWEEN @low::uuid AND @high::uuid;

-- name: SettleAttempts :many
-- Writes what came of attempts, and what follows for their deliveries. A
-- result that comes after its lease ran out still ends its attempt truthfully,
-- and a success ends the delivery; a failure changes the delivery only if no
-- later attempt has begun. Returns the deliveries that wait for another
-- attempt. wait is in seconds; reason says why there is none, '' if there is.
-- failures counts this attempt: written twice, after a commit whose answer got
-- lost, a result still counts once.
WITH result AS (
    SELECT unnest(@ids::uuid[]) AS id, unnest(@ns::int[]) AS n, unnest(@outcomes::text[]) AS outcome,
           unnest(@response_codes::int[]) AS response_code, unnest(@error_classes::text[]) AS error_class,
           unnest(@error_messages::text[]) AS error_message, unnest(@durations_ms::int[]) AS duration_ms,
           unnest(@response_headers::bytea[]) AS response_headers, unnest(@response_bodies::bytea[]) AS response_body,
           unnest(@truncated::boolean[]) AS truncated, unnest(@waits::float8[]) AS wait, unnest(@reasons::text[]) AS reason,
           unnest(@failures::int[]) AS failures,
           -- of durations, -1 is none
           unnest(@dns_ms::int[]) AS dns_ms, unnest(@connect_ms::int[]) AS connect_ms, unnest(@tls_ms::int[]) AS tls_ms,
           unnest(@first_byte_ms::int[]) AS first_byte_ms, unnest(@address_classes::text[]) AS address_class,
           unnest(@request_headers::bytea[]) AS request_headers
), finished AS (
    UPDATE attempts a
    SET outcome = r.outcome, finished_at = now(), response_code = nullif(r.response_code, 0),
        error_class = nullif(r.error_class, ''), error_message = nullif(r.error_message, ''),
        duration_ms = r.duration_ms, response_headers = r.response_headers, response_body = r.response_body,
        response_truncated = r.truncated, dns_ms = nullif(r.dns_ms, -1), connect_ms = nullif(r.connect_ms, -1),
        tls_ms = nullif(r.tls_ms, -1), first_byte_ms = nullif(r.first_byte_ms, -1),
        address_class = nullif(r.address_class, ''), request_headers = r.request_headers
    FROM result r
    WHERE a.delivery_id = r.id AND a.n = r.n AND a.delivery_id = ANY (@ids) AND a.delivery_id BETWEEN @low::uuid AND @high::uuid
      AND (a.outcome IS NULL OR a.outcome = 'interrupted')
), settled AS (
    UPDATE deliveries d
    SET status = CASE WHEN r.outcome = 'success' THEN 'success' WHEN r.reason <> '' THEN 'failed' ELSE 'pending' END,
        reason = CASE WHEN r.outcome = 'success' THEN NULL ELSE nullif(r.reason, '') END,
        failures = greatest(d.failures, r.failures),
        next_attempt_at = CASE WHEN r.outcome = 'success' OR r.reason <> '' THEN NULL
                               ELSE now() + make_interval(secs => r.wait) END,
        leased_until = CASE WHEN d.attempts = r.n THEN NULL ELSE d.leased_until END,
        delivered_at = CASE WHEN r.outcome = 'success' THEN now() END,
        response_code = nullif(r.response_code, 0),
        error_message = nullif(r.error_message, ''),
        updated_at = now()
    FROM result r
    WHERE d.id = r.id AND d.id = ANY (@ids) AND d.id BETWEEN @low AND @high
      AND ((d.status = 'pending' AND d.attempts = r.n) OR (d.status <> 'success' AND r.outcome = 'success'))
    RETURNING d.id, d.next_attempt_at
)
SELECT id, next_attempt_at::timestamptz AS next_attempt_at FROM settled WHERE next_attempt_at IS NOT NULL;

-- name: DisableGoneEndpoints :exec
-- Disables endpoints that answered 410 Gone.
UPDATE endpoints SET is_active = false, disabled_reason = 'gone', updated_at = now()
WHERE id = ANY (@ids::uuid[]) AND is_active;
