-- name: ClaimDeliveries :many
-- Claims what may be attempted now: pending, due (or early by a little, if it was a
-- delay line that waited, by another clock), and not leased by somebody else. Each claimed delivery gets its next attempt number, an attempt row and
-- a lease. An attempt before it whose lease ran out is closed as interrupted.
-- A delivery whose endpoint is gone, or that we were cut off from too often,
-- ends as failed with the reason. A lease begins when it is written, not when the
-- statement began to wait for that. What is not returned needs no POST by the
-- caller. Of an event with several deliveries, the first has the body; it is null
-- if it is no longer kept. low and high bound the ids of deliveries and events
-- (delivery.Bounds), so that only their partitions are read.
--
-- parked says that these are parked and the caller has locked them: LockParked.
-- claim_id is what UnclaimDeliveries knows the claim by.
--
-- Whatever its statistics say, the planner must go by the primary keys: hence
-- arrays and no joins with the big tables. And only what is pending has a
-- next_attempt_at; to name the status too would offer it deliveries_due_idx.
WITH claimable AS (
    SELECT d.id, d.leased_until IS NOT NULL AS expired,
           e.url, e.user_id, e.max_in_flight, e.rate_limit, e.retry_schedule,
           CASE
               WHEN e.id IS NULL OR e.deleted_at IS NOT NULL THEN 'endpoint_deleted'
               WHEN NOT e.is_active THEN 'endpoint_disabled'
               WHEN d.attempts - d.attempts_before - d.failures >= @max_interruptions::int THEN 'interrupted'
           END AS reason
    FROM deliveries d
    LEFT JOIN endpoints e ON e.id = d.endpoint_id
    WHERE d.id = ANY (@ids::uuid[]) AND d.id BETWEEN @low::uuid AND @high::uuid
      AND (d.next_attempt_at <= now() + make_interval(secs => CASE WHEN d.waits_for IS NULL THEN @early::float8 ELSE 0 END)
           OR @parked::boolean AND d.next_attempt_at > '9000-01-01Z')
      AND (d.leased_until IS NULL OR d.leased_until <= now())
    FOR NO KEY UPDATE OF d SKIP LOCKED
), ended AS (
    UPDATE deliveries d
    SET status = 'failed', reason = (SELECT c.reason FROM claimable c WHERE c.id = d.id),
        next_attempt_at = NULL, leased_until = NULL, claim_id = NULL, waits_for = NULL, updated_at = now()
    WHERE d.id = ANY (ARRAY (SELECT id FROM claimable WHERE reason IS NOT NULL)) AND d.id BETWEEN @low AND @high
), claimed AS (
    UPDATE deliveries d
    SET attempts = d.attempts + 1, leased_until = clock_timestamp() + make_interval(secs => @lease::float8), claim_id = @claim_id::uuid,
        next_attempt_at = CASE WHEN d.next_attempt_at > '9000-01-01Z' THEN now() ELSE d.next_attempt_at END,
        waits_for = CASE WHEN d.next_attempt_at > '9000-01-01Z' THEN NULL ELSE d.waits_for END, updated_at = now()
    WHERE d.id = ANY (ARRAY (SELECT id FROM claimable WHERE reason IS NULL)) AND d.id BETWEEN @low AND @high
    RETURNING d.id, d.event_id, d.endpoint_id, d.event_type, d.attempts, d.failures, d.trigger, d.exhausted_at, d.replay_id
), closed AS (
    UPDATE attempts a
    SET outcome = 'interrupted', finished_at = now()
    WHERE a.delivery_id = ANY (ARRAY (SELECT id FROM claimable WHERE expired)) AND a.delivery_id BETWEEN @low AND @high
      AND a.outcome IS NULL
), started AS (
    INSERT INTO attempts (delivery_id, n, endpoint_id, trigger)
    SELECT id, attempts, endpoint_id, trigger FROM claimed
)
SELECT c.id, c.event_id, c.endpoint_id, c.event_type, c.attempts AS n, c.failures, (c.exhausted_at IS NOT NULL)::boolean AS exhausted, c.replay_id,
       e.url::text AS url, e.user_id::uuid AS user_id, coalesce(e.max_in_flight, 0)::int AS max_in_flight,
       coalesce(e.rate_limit, 0)::int AS rate_limit, e.retry_schedule::int[] AS retry_schedule,
       s.secrets::bytea[] AS secrets, s.signing_keys::bytea[] AS signing_keys,
       (CASE WHEN row_number() OVER (PARTITION BY c.event_id ORDER BY c.id) = 1
             THEN (SELECT v.body FROM events v WHERE v.id = c.event_id AND v.id BETWEEN @low AND @high) END)::bytea AS body
FROM claimed c
JOIN claimable e ON e.id = c.id
CROSS JOIN LATERAL (
    SELECT array_agg(s.ciphertext ORDER BY s.expires_at DESC NULLS FIRST, s.id DESC) AS secrets,
           array_agg(coalesce(s.signing_key, '') ORDER BY s.expires_at DESC NULLS FIRST, s.id DESC) AS signing_keys
    FROM endpoint_secrets s
    WHERE s.endpoint_id = c.endpoint_id AND (s.expires_at IS NULL OR s.expires_at > now())
) s;

-- name: UnclaimDeliveries :exec
-- Undoes claims whose attempts were not begun: they never were. Those are meant too
-- that may not have been made: whoever did not get the answer can't know.
WITH unclaimed AS (
    UPDATE deliveries d SET attempts = d.attempts - 1, leased_until = NULL, claim_id = NULL, updated_at = now()
    FROM (SELECT unnest(@ids::uuid[]) AS id, unnest(@claim_ids::uuid[]) AS claim_id) c
    WHERE d.id = c.id AND d.id = ANY (@ids::uuid[]) AND d.id BETWEEN @low::uuid AND @high::uuid
      AND d.claim_id = c.claim_id AND d.next_attempt_at IS NOT NULL AND d.leased_until IS NOT NULL
    RETURNING d.id, d.attempts + 1 AS n
)
DELETE FROM attempts a
USING unclaimed u
WHERE a.delivery_id = u.id AND a.n = u.n AND a.delivery_id = ANY (@ids::uuid[]) AND a.delivery_id BETWEEN @low AND @high AND a.outcome IS NULL;

-- name: ParkDeliveries :exec
-- Has deliveries wait, without a message, until their endpoint is ready: those
-- that could be claimed now. One whose lease ran out is left to the sweeper, who
-- ends its attempt: parked, it would keep an attempt without an end. Notes for each endpoint why, and for how long as far
-- as is known (in seconds). The year 9999 keeps them out of the way of what goes
-- by time; drivers' times don't know infinity.
WITH parked AS (
    UPDATE deliveries d
    SET waits_for = p.reason, next_attempt_at = '9999-01-01Z', updated_at = now()
    FROM (SELECT unnest(@ids::uuid[]) AS id, unnest(@reasons::text[]) AS reason) p
    WHERE d.id = p.id AND d.id = ANY (@ids::uuid[]) AND d.id BETWEEN @low::uuid AND @high::uuid
      AND d.next_attempt_at <= now() + make_interval(secs => CASE WHEN d.waits_for IS NULL THEN @early::float8 ELSE 0 END)
      AND d.leased_until IS NULL
    RETURNING d.endpoint_id
)
INSERT INTO endpoint_states AS s (endpoint_id, waits_for, wait_until)
SELECT e.id, w.waits_for, now() + make_interval(secs => w.wait)
FROM (SELECT unnest(@endpoint_ids::uuid[]) AS id, unnest(@endpoint_reasons::text[]) AS waits_for, unnest(@waits::float8[]) AS wait) w
JOIN endpoints e ON e.id = w.id
WHERE e.id IN (SELECT endpoint_id FROM parked)
ORDER BY e.id
ON CONFLICT (endpoint_id) DO UPDATE SET waits_for = excluded.waits_for, wait_until = excluded.wait_until, updated_at = now();

-- name: LockParked :many
-- The oldest parked deliveries of endpoints, each from an id on and up to a number,
-- that nobody else is about to claim; for ClaimDeliveries in the same transaction.
SELECT p.id, e.id::uuid AS endpoint_id
FROM (SELECT unnest(@endpoint_ids::uuid[]) AS id, unnest(@afters::uuid[]) AS after, unnest(@limits::int[]) AS most) e
CROSS JOIN LATERAL (
    SELECT w.id FROM deliveries w
    WHERE w.endpoint_id = e.id AND w.id > e.after AND w.waits_for IS NOT NULL AND w.next_attempt_at > '9000-01-01Z'
    ORDER BY w.id
    LIMIT e.most
    FOR NO KEY UPDATE SKIP LOCKED
) p;

-- name: LockWaiting :exec
-- Waits for those who are parking deliveries of endpoints, and keeps others from it.
-- Whatever is noted: who parks the first may not have committed the note.
SELECT FROM endpoint_states WHERE endpoint_id = ANY (@endpoint_ids::uuid[]) ORDER BY endpoint_id FOR NO KEY UPDATE;

-- name: ClearWaiting :exec
-- Notes that endpoints have no parked deliveries left, if so. After LockWaiting in
-- the same transaction: a statement does not see what was committed while it waited.
UPDATE endpoint_states s
SET waits_for = NULL, wait_until = NULL, updated_at = now()
WHERE s.endpoint_id = ANY (@endpoint_ids::uuid[]) AND s.waits_for IS NOT NULL
  AND NOT EXISTS (
      SELECT FROM deliveries d
      WHERE d.endpoint_id = s.endpoint_id AND d.waits_for IS NOT NULL AND d.next_attempt_at > '9000-01-01Z');

-- name: StillWaiting :many
-- Which endpoints have parked deliveries, as far as is noted.
SELECT endpoint_id FROM endpoint_states WHERE endpoint_id = ANY (@endpoint_ids::uuid[]) AND waits_for IS NOT NULL;

-- name: ReadyEndpoints :many
-- Endpoints with parked deliveries of which more may go by now.
SELECT endpoint_id
FROM endpoint_states
WHERE waits_for IS NOT NULL AND wait_until <= now()
ORDER BY wait_until
LIMIT @max_rows::int;

-- name: ParkedEndpoints :many
-- All endpoints with parked deliveries, whatever is noted of them.
SELECT DISTINCT endpoint_id
FROM deliveries
WHERE waits_for IS NOT NULL AND next_attempt_at > '9000-01-01Z'
LIMIT @max_rows::int;

-- name: SettleAttempts :many
-- Writes what came of attempts, and what follows for their deliveries. A
-- result that comes after its lease ran out still ends its attempt truthfully,
-- and a success ends the delivery; a failure changes the delivery only if no
-- later attempt has begun. Returns the deliveries that wait for another
-- attempt. wait is in seconds; waits_for is '' if they wait with a message;
-- reason says why there is no other attempt, '' if there is. failures counts
-- this attempt: written twice, after a commit whose answer got lost, a result
-- still counts once. Endpoints with a success are no longer failing.
WITH result AS (
    SELECT unnest(@ids::uuid[]) AS id, unnest(@ns::int[]) AS n, unnest(@outcomes::text[]) AS outcome,
           unnest(@response_codes::int[]) AS response_code, unnest(@error_classes::text[]) AS error_class,
           unnest(@error_messages::text[]) AS error_message, unnest(@durations_ms::int[]) AS duration_ms,
           unnest(@response_headers::bytea[]) AS response_headers, unnest(@response_bodies::bytea[]) AS response_body,
           unnest(@truncated::boolean[]) AS truncated, unnest(@waits::float8[]) AS wait, unnest(@waits_for::text[]) AS waits_for,
           unnest(@reasons::text[]) AS reason, unnest(@failures::int[]) AS failures,
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
    WHERE a.delivery_id = r.id AND a.n = r.n AND a.delivery_id = ANY (@ids::uuid[]) AND a.delivery_id BETWEEN @low::uuid AND @high::uuid
      AND (a.outcome IS NULL OR a.outcome = 'interrupted')
), settled AS (
    UPDATE deliveries d
    SET status = CASE WHEN r.outcome = 'success' THEN 'success' WHEN r.reason <> '' THEN 'failed' ELSE 'pending' END,
        reason = CASE WHEN r.outcome = 'success' THEN NULL ELSE nullif(r.reason, '') END,
        failures = greatest(d.failures, r.failures),
        next_attempt_at = CASE WHEN r.outcome = 'success' OR r.reason <> '' THEN NULL
                               ELSE now() + make_interval(secs => r.wait) END,
        waits_for = CASE WHEN r.outcome = 'success' OR r.reason <> '' THEN NULL ELSE nullif(r.waits_for, '') END,
        leased_until = CASE WHEN d.attempts = r.n THEN NULL ELSE d.leased_until END,
        claim_id = CASE WHEN d.attempts = r.n THEN NULL ELSE d.claim_id END,
        delivered_at = CASE WHEN r.outcome = 'success' THEN now() END,
        exhausted_at = CASE WHEN r.outcome = 'success' THEN NULL WHEN r.reason = 'exhausted' THEN now() ELSE d.exhausted_at END,
        response_code = nullif(r.response_code, 0),
        error_message = nullif(r.error_message, ''),
        updated_at = now()
    FROM result r
    WHERE d.id = r.id AND d.id = ANY (@ids::uuid[]) AND d.id BETWEEN @low AND @high
      AND ((d.status = 'pending' AND d.attempts = r.n) OR (d.status <> 'success' AND r.outcome = 'success'))
    RETURNING d.id, d.next_attempt_at
), recovered AS (
    UPDATE endpoint_states s
    SET failing_since = NULL, failures = 0, updated_at = now()
    WHERE s.endpoint_id = ANY (ARRAY ( -- in the order of LockStates
        SELECT r.endpoint_id FROM endpoint_states r
        WHERE r.endpoint_id = ANY (@answering::uuid[]) AND r.failures > 0
        ORDER BY r.endpoint_id
        FOR NO KEY UPDATE))
)
SELECT id, next_attempt_at::timestamptz AS next_attempt_at FROM settled WHERE next_attempt_at IS NOT NULL;

-- name: LockStates :many
-- Takes the rows of endpoints that a transaction is about to write in several
-- statements, in the order of ids: or else two of them wait for each other. Those
-- that fail get the row that they don't have. Returns those that answer and have one.
WITH known AS (
    SELECT endpoint_id FROM endpoint_states WHERE endpoint_id = ANY (@answering::uuid[])
), locked AS (
    INSERT INTO endpoint_states AS s (endpoint_id)
    SELECT e.id FROM endpoints e
    WHERE e.id = ANY (@failing::uuid[]) OR e.id = ANY (ARRAY (SELECT endpoint_id FROM known))
    ORDER BY e.id
    ON CONFLICT (endpoint_id) DO UPDATE SET updated_at = now() WHERE false -- locks it, and writes nothing
)
SELECT endpoint_id FROM known;

-- name: NoteFailures :exec
-- Notes that endpoints failed a number of attempts, and none succeeded meanwhile.
INSERT INTO endpoint_states AS s (endpoint_id, failing_since, failures)
SELECT e.id, now(), f.failures
FROM (SELECT unnest(@endpoint_ids::uuid[]) AS id, unnest(@failures::int[]) AS failures) f
JOIN endpoints e ON e.id = f.id
ORDER BY e.id
ON CONFLICT (endpoint_id) DO UPDATE
SET failing_since = coalesce(s.failing_since, now()), failures = s.failures + excluded.failures, updated_at = now();

-- name: DisableEndpoints :many
-- Disables those of some endpoints that are active, and has what they have
-- pending ended: with reason 'gone' all of them, with reason 'failing' those
-- that failed min_failures times or more, and for as long as after (in seconds).
WITH disabled AS (
    UPDATE endpoints e
    SET is_active = false, disabled_reason = @reason::text, disabled_at = now(), updated_at = now()
    WHERE e.id = ANY (@ids::uuid[]) AND e.is_active AND e.deleted_at IS NULL
      AND (@reason <> 'failing' OR EXISTS (
          SELECT FROM endpoint_states s
          WHERE s.endpoint_id = e.id AND s.failures >= @min_failures::int
            AND s.failing_since <= now() - make_interval(secs => @after::float8)))
    RETURNING e.id, e.user_id
), ending AS (
    INSERT INTO endpoint_states (endpoint_id, ending)
    SELECT id, true FROM disabled ORDER BY id
    ON CONFLICT (endpoint_id) DO UPDATE SET ending = true, updated_at = now()
)
INSERT INTO audit_log (id, user_id, endpoint_id, actor, action, details)
SELECT new_id(), user_id, id, 'deliverer', 'endpoint.disabled', jsonb_build_object('reason', @reason)
FROM disabled
RETURNING endpoint_id, user_id;

-- name: EndingEndpoints :many
-- Endpoints that were disabled or deleted and may have something pending.
SELECT s.endpoint_id, (e.deleted_at IS NOT NULL)::boolean AS deleted
FROM endpoint_states s
JOIN endpoints e ON e.id = s.endpoint_id
WHERE s.ending AND (NOT e.is_active OR e.deleted_at IS NOT NULL)
LIMIT @max_rows::int;

-- name: EndDeliveries :many
-- Ends what an endpoint has pending and nobody is at, oldest first from an id on,
-- up to a number.
UPDATE deliveries d
SET status = 'failed', reason = @reason::text, next_attempt_at = NULL, waits_for = NULL, leased_until = NULL, claim_id = NULL, updated_at = now()
WHERE d.id = ANY (ARRAY (
    SELECT w.id FROM deliveries w
    WHERE w.endpoint_id = @endpoint_id AND w.id > @after_id::uuid AND w.next_attempt_at IS NOT NULL AND w.leased_until IS NULL
    ORDER BY w.id
    LIMIT @max_rows::int
    FOR NO KEY UPDATE SKIP LOCKED
))
RETURNING d.id;

-- name: Ended :exec
-- Notes that an endpoint that is not active has nothing pending any more.
UPDATE endpoint_states SET ending = false, waits_for = NULL, wait_until = NULL, updated_at = now()
WHERE endpoint_id = @endpoint_id AND ending;

-- name: SaveCircuits :exec
-- Notes the states of circuits, for the API and for who starts anew. until is
-- in seconds from now. What waits for an endpoint whose circuit has closed may go
-- at once: all deliverers are told, those too whose circuit of it is open.
INSERT INTO endpoint_states AS s (endpoint_id, circuit, circuit_reason, circuit_until)
SELECT e.id, c.circuit, nullif(c.reason, ''), CASE WHEN c.circuit = 'open' THEN now() + make_interval(secs => c.wait) END
FROM (SELECT unnest(@endpoint_ids::uuid[]) AS id, unnest(@circuits::text[]) AS circuit,
             unnest(@reasons::text[]) AS reason, unnest(@waits::float8[]) AS wait) c
JOIN endpoints e ON e.id = c.id
ORDER BY e.id
ON CONFLICT (endpoint_id) DO UPDATE
SET circuit = excluded.circuit, circuit_reason = excluded.circuit_reason, circuit_until = excluded.circuit_until,
    wait_until = CASE WHEN excluded.circuit = 'closed' AND s.waits_for IS NOT NULL THEN least(s.wait_until, now()) ELSE s.wait_until END, updated_at = now();

-- name: ClosedCircuits :many
-- Which of some circuits are noted as closed: another deliverer saw a success, or
-- the owner says that the endpoint is well.
SELECT endpoint_id FROM endpoint_states WHERE endpoint_id = ANY (@endpoint_ids::uuid[]) AND circuit = 'closed';

-- name: OpenCircuits :many
-- Circuits that were open when they were last noted. wait is in seconds from now.
SELECT endpoint_id, coalesce(circuit_reason, 'circuit_open')::text AS reason,
       greatest(extract(epoch FROM circuit_until - now()), 0)::float8 AS wait
FROM endpoint_states
WHERE circuit = 'open' AND circuit_until IS NOT NULL
LIMIT @max_rows::int;
