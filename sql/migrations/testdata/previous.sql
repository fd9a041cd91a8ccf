-- name: APIKeyByHash :sent
SELECT id, name, hash, scopes, created_at, expires_at, last_used_at, revoked_at FROM api_keys WHERE hash = $1

-- name: APIKeyByID :sent
SELECT id, name, hash, scopes, created_at, expires_at, last_used_at, revoked_at FROM api_keys WHERE id = $1

-- name: APIKeysByName :sent
SELECT id, name, hash, scopes, created_at, expires_at, last_used_at, revoked_at FROM api_keys
WHERE name = $1
ORDER BY revoked_at DESC NULLS FIRST, id DESC

-- name: ActiveEndpointSecrets :sent
SELECT id, ciphertext, expires_at
FROM endpoint_secrets
WHERE endpoint_id = $1 AND (expires_at IS NULL OR expires_at > now())
ORDER BY expires_at DESC NULLS FIRST, id DESC

-- name: AddSigningKey :sent
UPDATE endpoint_secrets SET signing_key = $1, public_key = $2
WHERE endpoint_id = $3 AND expires_at IS NULL AND public_key IS NULL

-- name: AdvanceRecovery :sent
UPDATE recoveries
SET at = $1, missing_at = $2, recovered = recovered + $3::bigint,
    next_at = clock_timestamp() + make_interval(secs => $4::float8),
    finished_at = CASE WHEN $5::boolean THEN clock_timestamp() END
WHERE id = $6

-- name: AnswersUnderOtherKeys :sent
SELECT user_id, key, answer
FROM idempotency_keys
WHERE (user_id, key) > ($1::uuid, $2::text) AND substring(answer FROM 1 FOR 5) <> $3::bytea
ORDER BY user_id, key
LIMIT $4::int
FOR UPDATE SKIP LOCKED

-- name: AttemptDurations :sent
SELECT count(*) AS attempts,
       coalesce(percentile_disc(0.5) WITHIN GROUP (ORDER BY duration_ms), 0)::int AS p50,
       coalesce(percentile_disc(0.95) WITHIN GROUP (ORDER BY duration_ms), 0)::int AS p95
FROM attempts
WHERE delivery_id = ANY ($1::uuid[]) AND delivery_id BETWEEN $2::uuid AND $3::uuid
  AND outcome IN ('success', 'failure') AND duration_ms IS NOT NULL

-- name: CardPage :sent
SELECT c.id AS card_id, c.title,
       u.id, u.username, u.display_name, u.bio, u.pronouns, u.role, u.company, u.avatar_url, u.accent_color,
       coalesce((
           SELECT json_agg(json_build_object('id', l.id, 'platform', l.platform, 'username', l.username,
                                             'url', l.url, 'displayOrder', cl.display_order)
                           ORDER BY cl.display_order, l.id)
           FROM card_links cl JOIN links l ON l.id = cl.link_id
           WHERE cl.card_id = c.id
       ), '[]')::json AS links
FROM cards c
JOIN users u ON u.id = c.user_id
WHERE c.id = $1 AND u.username = $2

-- name: ClaimDeliveries :sent
WITH claimable AS (
    SELECT d.id, d.leased_until IS NOT NULL AS expired,
           e.url, e.user_id, e.max_in_flight, e.rate_limit, e.retry_schedule,
           CASE
               WHEN e.id IS NULL OR e.deleted_at IS NOT NULL THEN 'endpoint_deleted'
               WHEN NOT e.is_active THEN 'endpoint_disabled'
               WHEN d.attempts - d.attempts_before - d.failures >= $1::int THEN 'interrupted'
           END AS reason
    FROM deliveries d
    LEFT JOIN endpoints e ON e.id = d.endpoint_id
    WHERE d.id = ANY ($2::uuid[]) AND d.id BETWEEN $3::uuid AND $4::uuid
      AND d.next_attempt_at <= now() + make_interval(secs => $5::float8)
      AND (d.leased_until IS NULL OR d.leased_until <= now())
    FOR NO KEY UPDATE OF d SKIP LOCKED
), ended AS (
    UPDATE deliveries d
    SET status = 'failed', reason = (SELECT c.reason FROM claimable c WHERE c.id = d.id),
        next_attempt_at = NULL, leased_until = NULL, waits_for = NULL, updated_at = now()
    WHERE d.id = ANY (ARRAY (SELECT id FROM claimable WHERE reason IS NOT NULL)) AND d.id BETWEEN $3 AND $4
), claimed AS (
    UPDATE deliveries d
    SET attempts = d.attempts + 1, leased_until = now() + make_interval(secs => $6::float8), updated_at = now()
    WHERE d.id = ANY (ARRAY (SELECT id FROM claimable WHERE reason IS NULL)) AND d.id BETWEEN $3 AND $4
    RETURNING d.id, d.event_id, d.endpoint_id, d.event_type, d.attempts, d.failures, d.trigger, d.exhausted_at
), closed AS (
    UPDATE attempts a
    SET outcome = 'interrupted', finished_at = now()
    WHERE a.delivery_id = ANY (ARRAY (SELECT id FROM claimable WHERE expired)) AND a.delivery_id BETWEEN $3 AND $4
      AND a.outcome IS NULL
), started AS (
    INSERT INTO attempts (delivery_id, n, endpoint_id, trigger)
    SELECT id, attempts, endpoint_id, trigger FROM claimed
)
SELECT c.id, c.event_id, c.endpoint_id, c.event_type, c.attempts AS n, c.failures, (c.exhausted_at IS NOT NULL)::boolean AS exhausted,
       e.url::text AS url, e.user_id::uuid AS user_id, coalesce(e.max_in_flight, 0)::int AS max_in_flight,
       coalesce(e.rate_limit, 0)::int AS rate_limit, e.retry_schedule::int[] AS retry_schedule,
       s.secrets::bytea[] AS secrets, s.signing_keys::bytea[] AS signing_keys
FROM claimed c
JOIN claimable e ON e.id = c.id
CROSS JOIN LATERAL (
    SELECT array_agg(s.ciphertext ORDER BY s.expires_at DESC NULLS FIRST, s.id DESC) AS secrets,
           array_agg(coalesce(s.signing_key, '') ORDER BY s.expires_at DESC NULLS FIRST, s.id DESC) AS signing_keys
    FROM endpoint_secrets s
    WHERE s.endpoint_id = c.endpoint_id AND (s.expires_at IS NULL OR s.expires_at > now())
) s

-- name: ClearWaiting :sent
UPDATE endpoint_states s
SET waits_for = NULL, wait_until = NULL, updated_at = now()
WHERE s.endpoint_id = ANY ($1::uuid[]) AND s.waits_for IS NOT NULL
  AND NOT EXISTS (
      SELECT FROM deliveries d
      WHERE d.endpoint_id = s.endpoint_id AND d.waits_for IS NOT NULL AND d.next_attempt_at > '9000-01-01Z')

-- name: CountSealed :sent
SELECT 'endpoint_secrets.ciphertext'::text AS place, substring(ciphertext FROM 1 FOR 5)::bytea AS prefix, count(*) AS n
FROM endpoint_secrets GROUP BY 2
UNION ALL
SELECT 'endpoint_secrets.signing_key', substring(signing_key FROM 1 FOR 5), count(*)
FROM endpoint_secrets WHERE signing_key IS NOT NULL GROUP BY 2
UNION ALL
SELECT 'idempotency_keys.answer', substring(answer FROM 1 FOR 5), count(*)
FROM idempotency_keys GROUP BY 2
ORDER BY place, prefix

-- name: DeleteEndpointSecrets :sent
DELETE FROM endpoint_secrets WHERE endpoint_id = $1

-- name: DeleteOldCounts :sent
DELETE FROM delivery_counts WHERE day < $1::date

-- name: DeletePublished :sent
DELETE FROM outbox WHERE id = ANY ($1::uuid[])

-- name: Delivery :sent
SELECT id, event_id, endpoint_id, event_type, status, reason, attempts, failures, next_attempt_at, leased_until, swept_at,
       response_code, error_message, delivered_at, created_at, updated_at, waits_for, trigger, exhausted_at, attempts_before
FROM deliveries
WHERE id = $1 AND endpoint_id = $2

-- name: DisableEndpoints :sent
WITH disabled AS (
    UPDATE endpoints e
    SET is_active = false, disabled_reason = $1::text, disabled_at = now(), updated_at = now()
    WHERE e.id = ANY ($2::uuid[]) AND e.is_active AND e.deleted_at IS NULL
      AND ($1 <> 'failing' OR EXISTS (
          SELECT FROM endpoint_states s
          WHERE s.endpoint_id = e.id AND s.failures >= $3::int
            AND s.failing_since <= now() - make_interval(secs => $4::float8)))
    RETURNING e.id, e.user_id
), ending AS (
    INSERT INTO endpoint_states (endpoint_id, ending)
    SELECT id, true FROM disabled ORDER BY id
    ON CONFLICT (endpoint_id) DO UPDATE SET ending = true, updated_at = now()
)
INSERT INTO audit_log (id, user_id, endpoint_id, actor, action, details)
SELECT new_id(), user_id, id, 'deliverer', 'endpoint.disabled', jsonb_build_object('reason', $1)
FROM disabled
RETURNING endpoint_id, user_id

-- name: DropPartition :sent
SELECT drop_partition($1::date)::int

-- name: DropSigningKeys :sent
UPDATE endpoint_secrets SET signing_key = NULL, public_key = NULL
WHERE endpoint_id = $1 AND public_key IS NOT NULL

-- name: EndDeliveries :sent
UPDATE deliveries d
SET status = 'failed', reason = $1::text, next_attempt_at = NULL, waits_for = NULL, leased_until = NULL, updated_at = now()
WHERE d.id = ANY (ARRAY (
    SELECT w.id FROM deliveries w
    WHERE w.endpoint_id = $2 AND w.id > $3::uuid AND w.next_attempt_at IS NOT NULL AND w.leased_until IS NULL
    ORDER BY w.id
    LIMIT $4::int
    FOR NO KEY UPDATE SKIP LOCKED
))
RETURNING d.id

-- name: Ended :sent
UPDATE endpoint_states SET ending = false, waits_for = NULL, wait_until = NULL, updated_at = now()
WHERE endpoint_id = $1 AND ending

-- name: EndingEndpoints :sent
SELECT s.endpoint_id, (e.deleted_at IS NOT NULL)::boolean AS deleted
FROM endpoint_states s
JOIN endpoints e ON e.id = s.endpoint_id
WHERE s.ending AND (NOT e.is_active OR e.deleted_at IS NOT NULL)
LIMIT $1::int

-- name: Endpoint :sent
SELECT id, user_id, url, events, description, is_active, disabled_reason, created_at, updated_at, deleted_at,
       max_in_flight, rate_limit, retry_schedule, disabled_at
FROM endpoints
WHERE id = $1 AND user_id = $2 AND deleted_at IS NULL

-- name: EndpointState :sent
SELECT circuit, circuit_reason, circuit_until, waits_for, wait_until, failing_since, failures
FROM endpoint_states
WHERE endpoint_id = $1

-- name: EndpointsAtPath :sent
SELECT id FROM endpoints
WHERE deleted_at IS NULL AND strpos(url, $1) > 0
ORDER BY id DESC
LIMIT $2::int

-- name: EnsurePartitions :sent
SELECT ensure_partitions($1::date, $2::date)::int

-- name: EventBodies :sent
SELECT id, body
FROM events
WHERE id = ANY ($1::uuid[]) AND id BETWEEN $2::uuid AND $3::uuid

-- name: ExamineDeliveries :sent
SELECT id, (status = 'failed')::boolean AS failed
FROM deliveries
WHERE endpoint_id = $1 AND id > $2::uuid AND id < $3::uuid
ORDER BY id
LIMIT $4::int

-- name: ExamineEvents :sent
SELECT id, type, (type = ANY ($1::text[]))::boolean AS wanted
FROM events
WHERE user_id = $2 AND id > $3::uuid AND id < $4::uuid
ORDER BY id
LIMIT $5::int

-- name: ExpireEndpointSecrets :sent
UPDATE endpoint_secrets
SET expires_at = least(expires_at, clock_timestamp() + make_interval(secs => $1::float8))
WHERE endpoint_id = $2

-- name: HoldEndpoint :sent
SELECT id, is_active, events
FROM endpoints
WHERE id = $1 AND user_id = $2 AND deleted_at IS NULL
FOR NO KEY UPDATE

-- name: IdempotentAnswer :sent
SELECT request_hash, status, answer
FROM idempotency_keys
WHERE user_id = $1 AND key = $2 AND created_at > clock_timestamp() - interval '24 hours'

-- name: InsertAPIKey :sent
INSERT INTO api_keys (id, name, hash, scopes, expires_at)
VALUES ($1, $2, $3, $4, now() + make_interval(secs => $5::float8))
RETURNING id, name, hash, scopes, created_at, expires_at, last_used_at, revoked_at

-- name: InsertCardViews :sent
INSERT INTO card_views (event_id, owner_id, card_id, viewer_id, viewer_hash, user_agent, source, viewed_at)
SELECT v.event_id, v.owner_id,
       nullif(v.card_id, '00000000-0000-0000-0000-000000000000'),
       nullif(v.viewer_id, '00000000-0000-0000-0000-000000000000'),
       nullif(v.viewer_hash, ''), nullif(v.user_agent, ''), v.source, v.viewed_at
FROM (
    SELECT unnest($1::uuid[]) AS event_id, unnest($2::uuid[]) AS owner_id,
           unnest($3::uuid[]) AS card_id, unnest($4::uuid[]) AS viewer_id,
           unnest($5::text[]) AS viewer_hash, unnest($6::text[]) AS user_agent,
           unnest($7::text[]) AS source, unnest($8::timestamptz[]) AS viewed_at
) v
ORDER BY v.event_id
ON CONFLICT (event_id) DO NOTHING

-- name: InsertDeadEvents :sent
INSERT INTO dead_events (id, stream_seq, subject, headers, body, reason)
SELECT unnest($1::uuid[]), unnest($2::bigint[]), unnest($3::text[]), unnest($4::bytea[]),
       unnest($5::bytea[]), unnest($6::text[])
ON CONFLICT (id) DO NOTHING

-- name: InsertDeliveries :sent
INSERT INTO deliveries (id, event_id, endpoint_id, event_type, trigger)
SELECT unnest($1::uuid[]), unnest($2::uuid[]), unnest($3::uuid[]), unnest($4::text[]), unnest($5::text[])
ON CONFLICT (id) DO NOTHING

-- name: InsertEndpoint :sent
INSERT INTO endpoints (id, user_id, url, events, description, max_in_flight, rate_limit, retry_schedule, created_at, updated_at)
SELECT $1::uuid, $2::uuid, $3::text, $4::text[], $5::text,
       $6::int, $7::int, $8::int[], t, t
FROM clock_timestamp() AS t
WHERE $9::int = 0
   OR (SELECT count(*) FROM endpoints e WHERE e.user_id = $2 AND e.deleted_at IS NULL) < $9
RETURNING id, user_id, url, events, description, is_active, disabled_reason, created_at, updated_at, deleted_at,
       max_in_flight, rate_limit, retry_schedule, disabled_at

-- name: InsertEndpointSecret :sent
INSERT INTO endpoint_secrets (id, endpoint_id, ciphertext, signing_key, public_key)
VALUES ($1, $2, $3, $4, $5)

-- name: InsertEvent :sent
INSERT INTO outbox (id, user_id, type, body, attributes)
VALUES ($1, $2, $3, $4, $5)
ON CONFLICT (id) DO NOTHING

-- name: InsertEvents :sent
INSERT INTO events (id, user_id, type, body, occurred_at, stream_seq)
SELECT unnest($1::uuid[]), unnest($2::uuid[]), unnest($3::text[]), unnest($4::bytea[]),
       unnest($5::timestamptz[]), unnest($6::bigint[])
ON CONFLICT (id) DO NOTHING
RETURNING id

-- name: InsertMissing :sent
INSERT INTO deliveries (id, event_id, endpoint_id, event_type, trigger)
SELECT unnest($1::uuid[]), unnest($2::uuid[]), $3::uuid, unnest($4::text[]), $5::text
ON CONFLICT (id) DO NOTHING
RETURNING id, event_id

-- name: InsertRecovery :sent
INSERT INTO recoveries (id, endpoint_id, since, until, missing, at, missing_at)
VALUES ($1, $2, $3, $4, $5, $6, $6)
RETURNING id, endpoint_id, since, until, missing, at, missing_at, next_at, recovered, created_at, finished_at

-- name: InsertSavedContact :sent
INSERT INTO saved_contacts (user_id, card_id, event_id)
VALUES ($1, $2, $3)
ON CONFLICT (user_id, card_id) DO NOTHING
RETURNING created_at

-- name: ListAPIKeys :sent
SELECT id, name, hash, scopes, created_at, expires_at, last_used_at, revoked_at FROM api_keys ORDER BY id DESC

-- name: ListAttempts :sent
SELECT n, started_at, finished_at, outcome, response_code, error_class, error_message, duration_ms,
       dns_ms, connect_ms, tls_ms, first_byte_ms, address_class, trigger, request_headers, response_headers,
       (CASE WHEN bytes <= $1::bigint THEN response_body END)::bytea AS response_body, response_truncated
FROM (
    SELECT n, started_at, finished_at, outcome, response_code, error_class, error_message, duration_ms,
           dns_ms, connect_ms, tls_ms, first_byte_ms, address_class, trigger, request_headers, response_headers,
           response_body, response_truncated,
           sum(octet_length(response_body)) OVER (ORDER BY n DESC) AS bytes
    FROM attempts
    WHERE delivery_id = $2
    ORDER BY n DESC
    LIMIT $3::int
) AS a
ORDER BY n

-- name: ListAudit :sent
SELECT id, user_id, endpoint_id, actor, action, details, created_at
FROM audit_log
WHERE user_id = $1 AND id < $2::uuid
  AND ($3::uuid IS NULL OR endpoint_id = $3)
ORDER BY id DESC
LIMIT $4::int

-- name: ListDeliveries :sent
SELECT id, event_id, endpoint_id, event_type, status, reason, attempts, failures, next_attempt_at, leased_until, swept_at,
       response_code, error_message, delivered_at, created_at, updated_at, waits_for, trigger, exhausted_at, attempts_before
FROM deliveries
WHERE endpoint_id = $1
ORDER BY id DESC
LIMIT $3::int OFFSET $2::int

-- name: ListEndpoints :sent
SELECT id, user_id, url, events, description, is_active, disabled_reason, created_at, updated_at, deleted_at,
       max_in_flight, rate_limit, retry_schedule, disabled_at
FROM endpoints
WHERE user_id = $1 AND deleted_at IS NULL
ORDER BY id DESC
LIMIT $2::int

-- name: ListRecoveries :sent
SELECT id, endpoint_id, since, until, missing, at, missing_at, next_at, recovered, created_at, finished_at
FROM recoveries
WHERE endpoint_id = $1
ORDER BY id DESC
LIMIT $2::int

-- name: LockCardOwner :sent
SELECT u.id, u.username
FROM cards c
JOIN users u ON u.id = c.user_id
WHERE c.id = $1
FOR KEY SHARE OF c

-- name: LockCreation :sent
SELECT pg_advisory_xact_lock(hashtext('cardwire endpoints'), hashtext(cast($1::uuid AS text)))

-- name: LockDelivery :sent
SELECT d.id, d.event_id, d.leased_until,
       EXISTS (SELECT FROM events e WHERE e.id = d.event_id)::boolean AS has_event
FROM deliveries d
WHERE d.id = $1 AND d.endpoint_id = $2
FOR NO KEY UPDATE OF d

-- name: LockEndpoint :sent
SELECT id, user_id, url, events, description, is_active, disabled_reason, created_at, updated_at, deleted_at,
       max_in_flight, rate_limit, retry_schedule, disabled_at
FROM endpoints
WHERE id = $1 AND user_id = $2 AND deleted_at IS NULL
FOR NO KEY UPDATE

-- name: LockIdempotencyKey :sent
SELECT pg_advisory_xact_lock(hashtext('cardwire idempotency'), hashtext(cast($1::uuid AS text) || $2::text))

-- name: LockRecoveries :sent
SELECT pg_try_advisory_xact_lock(hashtext('cardwire recoveries'))

-- name: MarkEnding :sent
INSERT INTO endpoint_states (endpoint_id, ending) VALUES ($1, true)
ON CONFLICT (endpoint_id) DO UPDATE SET ending = true, updated_at = now()

-- name: MarkEndpointDeleted :sent
UPDATE endpoints SET deleted_at = clock_timestamp(), updated_at = clock_timestamp()
WHERE id = $1 AND user_id = $2 AND deleted_at IS NULL
RETURNING id

-- name: MarkRefused :sent
UPDATE outbox SET refused = $1::text WHERE id = $2

-- name: MatchEndpoints :sent
SELECT id, user_id, events, created_at
FROM endpoints
WHERE user_id = ANY ($1::uuid[]) AND is_active AND deleted_at IS NULL
ORDER BY user_id, id

-- name: MoveEndpoint :sent
UPDATE endpoints SET url = $1, updated_at = now()
WHERE id = $2 AND url = $3 AND deleted_at IS NULL

-- name: NewestDeliveries :sent
SELECT id
FROM deliveries
WHERE endpoint_id = $1 AND id >= $2::uuid
ORDER BY id DESC
LIMIT $3::int

-- name: NoteFailures :sent
INSERT INTO endpoint_states AS s (endpoint_id, failing_since, failures)
SELECT e.id, now(), f.failures
FROM (SELECT unnest($1::uuid[]) AS id, unnest($2::int[]) AS failures) f
JOIN endpoints e ON e.id = f.id
ORDER BY e.id
ON CONFLICT (endpoint_id) DO UPDATE
SET failing_since = coalesce(s.failing_since, now()), failures = s.failures + excluded.failures, updated_at = now()

-- name: Now :sent
SELECT clock_timestamp()::timestamptz AS now

-- name: OldestKept :sent
SELECT coalesce(oldest_day(), (now() AT TIME ZONE 'UTC')::date)::date

-- name: OpenCircuits :sent
SELECT endpoint_id, coalesce(circuit_reason, 'circuit_open')::text AS reason,
       greatest(extract(epoch FROM circuit_until - now()), 0)::float8 AS wait
FROM endpoint_states
WHERE circuit = 'open' AND circuit_until IS NOT NULL
LIMIT $1::int

-- name: ParkDeliveries :sent
WITH parked AS (
    UPDATE deliveries d
    SET waits_for = p.reason, next_attempt_at = '9999-01-01Z', leased_until = NULL, updated_at = now()
    FROM (SELECT unnest($4::uuid[]) AS id, unnest($8::text[]) AS reason) p
    WHERE d.id = p.id AND d.id = ANY ($4::uuid[]) AND d.id BETWEEN $5::uuid AND $6::uuid
      AND d.next_attempt_at <= now() + make_interval(secs => $7::float8)
      AND (d.leased_until IS NULL OR d.leased_until <= now())
    RETURNING d.endpoint_id
)
INSERT INTO endpoint_states AS s (endpoint_id, waits_for, wait_until)
SELECT e.id, w.waits_for, now() + make_interval(secs => w.wait)
FROM (SELECT unnest($1::uuid[]) AS id, unnest($2::text[]) AS waits_for, unnest($3::float8[]) AS wait) w
JOIN endpoints e ON e.id = w.id
WHERE e.id IN (SELECT endpoint_id FROM parked)
ORDER BY e.id
ON CONFLICT (endpoint_id) DO UPDATE SET waits_for = excluded.waits_for, wait_until = excluded.wait_until, updated_at = now()

-- name: ParkedEndpoints :sent
SELECT DISTINCT endpoint_id
FROM deliveries
WHERE waits_for IS NOT NULL AND next_attempt_at > '9000-01-01Z'
LIMIT $1::int

-- name: Payloads :sent
SELECT id, body
FROM (
    SELECT id, body, sum(octet_length(body)) OVER (ORDER BY id DESC) AS bytes
    FROM events
    WHERE id = ANY ($1::uuid[]) AND id BETWEEN $2::uuid AND $3::uuid
) AS e
WHERE bytes <= $4::bigint

-- name: PendingDeliveries :sent
SELECT id
FROM deliveries
WHERE id = ANY ($1::uuid[]) AND id BETWEEN $2::uuid AND $3::uuid AND next_attempt_at IS NOT NULL

-- name: ProfilePage :sent
SELECT u.id, u.username, u.display_name, u.bio, u.pronouns, u.role, u.company, u.avatar_url, u.accent_color,
       coalesce((
           SELECT json_agg(json_build_object('id', l.id, 'platform', l.platform, 'username', l.username,
                                             'url', l.url, 'displayOrder', l.display_order)
                           ORDER BY l.display_order, l.id)
           FROM links l WHERE l.user_id = u.id
       ), '[]')::json AS links
FROM users u
WHERE u.username = $1

-- name: PruneEndpointSecrets :sent
DELETE FROM endpoint_secrets e
WHERE e.endpoint_id = $1 AND e.expires_at IS NOT NULL
  AND (e.expires_at <= clock_timestamp() OR e.id NOT IN (
      SELECT s.id FROM endpoint_secrets s
      WHERE s.endpoint_id = $1 AND s.expires_at IS NOT NULL
      ORDER BY s.id DESC
      LIMIT $2::int))

-- name: PruneIdempotencyKeys :sent
DELETE FROM idempotency_keys
WHERE ctid = ANY (ARRAY (
    SELECT i.ctid FROM idempotency_keys i
    WHERE i.created_at <= clock_timestamp() - interval '24 hours'
    ORDER BY i.created_at
    LIMIT $1::int
    FOR UPDATE SKIP LOCKED))

-- name: PublicKeys :sent
SELECT endpoint_id, public_key
FROM endpoint_secrets
WHERE endpoint_id = ANY ($1::uuid[]) AND expires_at IS NULL AND public_key IS NOT NULL

-- name: ReadyEndpoints :sent
SELECT endpoint_id
FROM endpoint_states
WHERE waits_for IS NOT NULL AND wait_until <= now()
ORDER BY wait_until
LIMIT $1::int

-- name: RecordAudit :sent
INSERT INTO audit_log (id, user_id, endpoint_id, actor, action, details)
VALUES (new_id(), $1, $2, $3, $4, $5)

-- name: Recovery :sent
SELECT id, endpoint_id, since, until, missing, at, missing_at, next_at, recovered, created_at, finished_at
FROM recoveries
WHERE id = $1 AND endpoint_id = $2

-- name: ReleaseDeliveries :sent
UPDATE deliveries d
SET waits_for = NULL, next_attempt_at = now(), swept_at = now(), updated_at = now()
WHERE d.id = ANY (ARRAY (
    SELECT p.id
    FROM (SELECT unnest($1::uuid[]) AS id, unnest($2::int[]) AS most) e
    CROSS JOIN LATERAL (
        SELECT w.id FROM deliveries w
        WHERE w.endpoint_id = e.id AND w.waits_for IS NOT NULL AND w.next_attempt_at > '9000-01-01Z'
        ORDER BY w.id
        LIMIT e.most
        FOR NO KEY UPDATE SKIP LOCKED
    ) p
))
RETURNING d.id, d.event_id, d.endpoint_id

-- name: RenewDeliveries :sent
UPDATE deliveries
SET failures = CASE WHEN status = 'pending' THEN failures ELSE 0 END,
    attempts_before = CASE WHEN status = 'pending' THEN attempts_before ELSE attempts END,
    response_code = CASE WHEN status = 'pending' THEN response_code END,
    error_message = CASE WHEN status = 'pending' THEN error_message END,
    status = 'pending', reason = NULL, delivered_at = NULL, next_attempt_at = now(), waits_for = NULL,
    trigger = $1::text, updated_at = now()
WHERE id = ANY ($2::uuid[]) AND id BETWEEN $3::uuid AND $4::uuid
  AND leased_until IS NULL AND (NOT $5::boolean OR status = 'failed')
RETURNING id, event_id

-- name: ResealAnswers :sent
UPDATE idempotency_keys i
SET answer = r.answer
FROM (SELECT unnest($1::uuid[]) AS user_id, unnest($2::text[]) AS key, unnest($3::bytea[]) AS answer) AS r
WHERE i.user_id = r.user_id AND i.key = r.key

-- name: ResealSecrets :sent
UPDATE endpoint_secrets e
SET ciphertext = r.ciphertext, signing_key = r.signing_key
FROM (SELECT unnest($1::uuid[]) AS id, unnest($2::bytea[]) AS ciphertext, unnest($3::bytea[]) AS signing_key) AS r
WHERE e.id = r.id

-- name: ResetEndpointState :sent
UPDATE endpoint_states
SET circuit = 'closed', circuit_reason = NULL, circuit_until = NULL, failing_since = NULL, failures = 0, ending = ending AND NOT $1::boolean,
    wait_until = CASE WHEN waits_for IS NOT NULL THEN now() END, updated_at = now()
WHERE endpoint_id = $2

-- name: RevokeAPIKey :sent
UPDATE api_keys SET revoked_at = now() WHERE id = $1 AND revoked_at IS NULL

-- name: SaveCircuits :sent
INSERT INTO endpoint_states AS s (endpoint_id, circuit, circuit_reason, circuit_until)
SELECT e.id, c.circuit, nullif(c.reason, ''), CASE WHEN c.circuit = 'open' THEN now() + make_interval(secs => c.wait) END
FROM (SELECT unnest($1::uuid[]) AS id, unnest($2::text[]) AS circuit,
             unnest($3::text[]) AS reason, unnest($4::float8[]) AS wait) c
JOIN endpoints e ON e.id = c.id
ORDER BY e.id
ON CONFLICT (endpoint_id) DO UPDATE
SET circuit = excluded.circuit, circuit_reason = excluded.circuit_reason, circuit_until = excluded.circuit_until, updated_at = now()

-- name: SaveIdempotentAnswer :sent
INSERT INTO idempotency_keys (user_id, key, request_hash, status, answer)
VALUES ($1, $2, $3, $4, $5)
ON CONFLICT (user_id, key) DO UPDATE
SET request_hash = excluded.request_hash, status = excluded.status, answer = excluded.answer, created_at = clock_timestamp()

-- name: SavedAt :sent
SELECT created_at FROM saved_contacts WHERE user_id = $1 AND card_id = $2

-- name: ScanDeliveries :sent
SELECT id, event_id, endpoint_id, event_type, status, reason, attempts, failures, next_attempt_at, leased_until, swept_at,
       response_code, error_message, delivered_at, created_at, updated_at, waits_for, trigger, exhausted_at, attempts_before
FROM (
    SELECT id, event_id, endpoint_id, event_type, status, reason, attempts, failures, next_attempt_at, leased_until, swept_at,
       response_code, error_message, delivered_at, created_at, updated_at, waits_for, trigger, exhausted_at, attempts_before
    FROM deliveries e
    WHERE e.endpoint_id = $1 AND e.id >= $2::uuid AND e.id < $3::uuid
    ORDER BY e.id DESC
    LIMIT $4::int
) AS d
WHERE ($5::text = '' OR status = $5) AND ($6::text = '' OR event_type = $6)
ORDER BY id DESC
LIMIT $7::int

-- name: ScanEnd :sent
SELECT id
FROM deliveries
WHERE endpoint_id = $1 AND id >= $2::uuid AND id < $3::uuid
ORDER BY id DESC
LIMIT 1 OFFSET $4::int

-- name: SecretsUnderOtherKeys :sent
SELECT id, endpoint_id, ciphertext, signing_key
FROM endpoint_secrets
WHERE id > $1 AND (substring(ciphertext FROM 1 FOR 5) <> $2::bytea OR substring(signing_key FROM 1 FOR 5) <> $2::bytea)
ORDER BY id
LIMIT $3::int
FOR UPDATE SKIP LOCKED

-- name: SeedCard :sent
INSERT INTO cards (id, user_id, title) VALUES ($1, $2, $3)

-- name: SeedCardLink :sent
INSERT INTO card_links (card_id, link_id, display_order) VALUES ($1, $2, $3)

-- name: SeedLink :sent
INSERT INTO links (id, user_id, platform, username, url, display_order)
VALUES ($1, $2, $3, $4, $5, $6)

-- name: SeedUser :sent
INSERT INTO users (id, username, display_name, bio, pronouns, role, company, accent_color)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
ON CONFLICT DO NOTHING

-- name: SeededEndpoint :sent
SELECT url, (deleted_at IS NOT NULL)::boolean AS deleted FROM endpoints WHERE id = $1

-- name: SettleAttempts :sent
WITH result AS (
    SELECT unnest($1::uuid[]) AS id, unnest($2::int[]) AS n, unnest($3::text[]) AS outcome,
           unnest($4::int[]) AS response_code, unnest($5::text[]) AS error_class,
           unnest($6::text[]) AS error_message, unnest($7::int[]) AS duration_ms,
           unnest($8::bytea[]) AS response_headers, unnest($9::bytea[]) AS response_body,
           unnest($10::boolean[]) AS truncated, unnest($11::float8[]) AS wait, unnest($12::text[]) AS waits_for,
           unnest($13::text[]) AS reason, unnest($14::int[]) AS failures,
           -- of durations, -1 is none
           unnest($15::int[]) AS dns_ms, unnest($16::int[]) AS connect_ms, unnest($17::int[]) AS tls_ms,
           unnest($18::int[]) AS first_byte_ms, unnest($19::text[]) AS address_class,
           unnest($20::bytea[]) AS request_headers
), finished AS (
    UPDATE attempts a
    SET outcome = r.outcome, finished_at = now(), response_code = nullif(r.response_code, 0),
        error_class = nullif(r.error_class, ''), error_message = nullif(r.error_message, ''),
        duration_ms = r.duration_ms, response_headers = r.response_headers, response_body = r.response_body,
        response_truncated = r.truncated, dns_ms = nullif(r.dns_ms, -1), connect_ms = nullif(r.connect_ms, -1),
        tls_ms = nullif(r.tls_ms, -1), first_byte_ms = nullif(r.first_byte_ms, -1),
        address_class = nullif(r.address_class, ''), request_headers = r.request_headers
    FROM result r
    WHERE a.delivery_id = r.id AND a.n = r.n AND a.delivery_id = ANY ($1::uuid[]) AND a.delivery_id BETWEEN $21::uuid AND $22::uuid
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
        delivered_at = CASE WHEN r.outcome = 'success' THEN now() END,
        exhausted_at = CASE WHEN r.outcome = 'success' THEN NULL WHEN r.reason = 'exhausted' THEN now() ELSE d.exhausted_at END,
        response_code = nullif(r.response_code, 0),
        error_message = nullif(r.error_message, ''),
        updated_at = now()
    FROM result r
    WHERE d.id = r.id AND d.id = ANY ($1::uuid[]) AND d.id BETWEEN $21 AND $22
      AND ((d.status = 'pending' AND d.attempts = r.n) OR (d.status <> 'success' AND r.outcome = 'success'))
    RETURNING d.id, d.next_attempt_at
), recovered AS (
    UPDATE endpoint_states s
    SET failing_since = NULL, failures = 0, updated_at = now()
    WHERE s.endpoint_id = ANY ($23::uuid[]) AND s.failures > 0
)
SELECT id, next_attempt_at::timestamptz AS next_attempt_at FROM settled WHERE next_attempt_at IS NOT NULL

-- name: StoredEvents :sent
SELECT id, user_id, type, body
FROM events
WHERE id = ANY ($1::uuid[]) AND id BETWEEN $2::uuid AND $3::uuid

-- name: SummarizeDeliveries :sent
SELECT count(*) FILTER (WHERE status = 'success') AS delivered,
       count(*) FILTER (WHERE status = 'failed') AS failed,
       count(*) FILTER (WHERE status = 'pending') AS waiting,
       count(*) AS examined,
       coalesce((array_agg(id ORDER BY id))[1], $1::uuid)::uuid AS oldest
FROM (
    SELECT id, status
    FROM deliveries
    WHERE endpoint_id = $2 AND id >= $1::uuid
    ORDER BY id DESC
    LIMIT $3::int
) AS d

-- name: TakeDueDeliveries :sent
WITH due AS (
    SELECT id FROM deliveries
    WHERE status = 'pending' AND next_attempt_at < $1::timestamptz
      AND (leased_until IS NULL OR leased_until <= now())
      AND (swept_at IS NULL OR swept_at < $1) AND waits_for IS NULL
    ORDER BY next_attempt_at
    LIMIT $2::int
    FOR NO KEY UPDATE SKIP LOCKED
)
UPDATE deliveries d SET swept_at = now()
WHERE d.id = ANY (ARRAY (SELECT id FROM due))
RETURNING d.id, d.event_id, d.endpoint_id

-- name: TakeExpiredLeases :sent
WITH expired AS (
    SELECT id FROM deliveries
    WHERE status = 'pending' AND next_attempt_at <= now() AND leased_until <= now()
    ORDER BY next_attempt_at
    LIMIT $1::int
    FOR NO KEY UPDATE SKIP LOCKED
), freed AS (
    UPDATE deliveries d SET leased_until = NULL, swept_at = now(), updated_at = now()
    WHERE d.id = ANY (ARRAY (SELECT id FROM expired))
    RETURNING d.id, d.event_id, d.endpoint_id
), closed AS (
    UPDATE attempts a SET outcome = 'interrupted', finished_at = now()
    WHERE a.delivery_id = ANY (ARRAY (SELECT id FROM freed)) AND a.outcome IS NULL
)
SELECT id, event_id, endpoint_id FROM freed

-- name: TakeRecovery :sent
SELECT r.id, r.endpoint_id, r.until, r.missing, r.at, r.missing_at, e.user_id, e.events,
       (e.is_active AND e.deleted_at IS NULL)::boolean AS active
FROM recoveries r
JOIN endpoints e ON e.id = r.endpoint_id
WHERE r.finished_at IS NULL
  AND NOT EXISTS (SELECT FROM recoveries p WHERE p.finished_at IS NULL AND p.next_at > now())
ORDER BY r.next_at, r.id
LIMIT 1
FOR NO KEY UPDATE OF r SKIP LOCKED

-- name: TakeTimedDeliveries :sent
UPDATE deliveries d SET waits_for = NULL, swept_at = now()
WHERE d.id = ANY (ARRAY (
    SELECT id FROM deliveries
    WHERE waits_for IS NOT NULL AND next_attempt_at <= now()
    ORDER BY next_attempt_at
    LIMIT $1::int
    FOR NO KEY UPDATE SKIP LOCKED
))
RETURNING d.id, d.event_id, d.endpoint_id

-- name: TakeWaiting :sent
SELECT id, user_id, type, body, attributes
FROM outbox
WHERE refused IS NULL
ORDER BY created_at, id
LIMIT $1::int
FOR UPDATE SKIP LOCKED

-- name: TotalDeliveries :sent
SELECT coalesce(sum(n), 0)::bigint FROM delivery_counts WHERE endpoint_id = $1

-- name: TouchAPIKey :sent
UPDATE api_keys SET last_used_at = now()
WHERE id = $1 AND (last_used_at IS NULL OR last_used_at <= now() - make_interval(secs => $2::float8))

-- name: TouchEndpoint :sent
UPDATE endpoints SET updated_at = clock_timestamp()
WHERE id = $1 AND user_id = $2 AND deleted_at IS NULL
RETURNING id

-- name: UnclaimDeliveries :sent
WITH unclaimed AS (
    UPDATE deliveries d SET attempts = d.attempts - 1, leased_until = NULL, updated_at = now()
    FROM (SELECT unnest($1::uuid[]) AS id, unnest($4::int[]) AS n) c
    WHERE d.id = c.id AND d.id = ANY ($1::uuid[]) AND d.id BETWEEN $2::uuid AND $3::uuid
      AND d.attempts = c.n AND d.next_attempt_at IS NOT NULL AND d.leased_until IS NOT NULL
    RETURNING d.id, c.n
)
DELETE FROM attempts a
USING unclaimed u
WHERE a.delivery_id = u.id AND a.n = u.n AND a.delivery_id = ANY ($1::uuid[]) AND a.delivery_id BETWEEN $2 AND $3 AND a.outcome IS NULL

-- name: UnfinishedRecovery :sent
SELECT id FROM recoveries WHERE endpoint_id = $1 AND finished_at IS NULL LIMIT 1

-- name: UpdateEndpoint :sent
UPDATE endpoints
SET url = $1, events = $2, description = $3, is_active = $4,
    max_in_flight = $5, rate_limit = $6, retry_schedule = $7,
    disabled_reason = CASE WHEN NOT $4 THEN coalesce(disabled_reason, 'owner') END,
    disabled_at = CASE WHEN NOT $4 THEN coalesce(disabled_at, t) END,
    updated_at = t
FROM clock_timestamp() AS t
WHERE id = $8
RETURNING id, user_id, url, events, description, is_active, disabled_reason, created_at, updated_at, deleted_at,
       max_in_flight, rate_limit, retry_schedule, disabled_at

-- name: UserID :sent
SELECT id FROM users WHERE username = $1

