-- name: LockCreation :exec
-- Makes creations of one user's endpoints wait for each other, until the transaction ends.
SELECT pg_advisory_xact_lock(hashtext('cardwire endpoints'), hashtext(cast(@user_id::uuid AS text)));

-- name: InsertEndpoint :one
-- Returns no row if the user has max_endpoints already; 0 is no limit. Only
-- after LockCreation does the limit hold: what is counted must not change meanwhile.
INSERT INTO endpoints (id, user_id, url, events, filter, description, max_in_flight, rate_limit, retry_schedule, created_at, updated_at)
SELECT @id::uuid, @user_id::uuid, @url::text, @events::text[], sqlc.narg(filter)::json, @description::text,
       sqlc.narg(max_in_flight)::int, sqlc.narg(rate_limit)::int, sqlc.narg(retry_schedule)::int[], t, t
FROM clock_timestamp() AS t
WHERE @max_endpoints::int = 0
   OR (SELECT count(*) FROM endpoints e WHERE e.user_id = @user_id AND e.deleted_at IS NULL) < @max_endpoints
RETURNING id, user_id, url, events, description, is_active, disabled_reason, created_at, updated_at, deleted_at,
       max_in_flight, rate_limit, retry_schedule, disabled_at, filter;

-- name: InsertEndpointSecret :exec
INSERT INTO endpoint_secrets (id, endpoint_id, ciphertext, signing_key, public_key)
VALUES (@id, @endpoint_id, @ciphertext, @signing_key, @public_key);

-- name: AddSigningKey :execrows
-- Gives the current secret of an endpoint a key pair, unless it has one.
UPDATE endpoint_secrets SET signing_key = @signing_key, public_key = @public_key
WHERE endpoint_id = @endpoint_id AND expires_at IS NULL AND public_key IS NULL;

-- name: DropSigningKeys :exec
-- Takes the key pairs from all secrets of an endpoint.
UPDATE endpoint_secrets SET signing_key = NULL, public_key = NULL
WHERE endpoint_id = @endpoint_id AND public_key IS NOT NULL;

-- name: PublicKeys :many
-- The public keys of the current secrets of some endpoints. Those without a key pair are not there.
SELECT endpoint_id, public_key
FROM endpoint_secrets
WHERE endpoint_id = ANY (@endpoint_ids::uuid[]) AND expires_at IS NULL AND public_key IS NOT NULL;

-- name: ListEndpoints :many
-- A user's endpoints, newest first.
SELECT id, user_id, url, events, description, is_active, disabled_reason, created_at, updated_at, deleted_at,
       max_in_flight, rate_limit, retry_schedule, disabled_at, filter
FROM endpoints
WHERE user_id = @user_id AND deleted_at IS NULL
ORDER BY id DESC
LIMIT @max_rows::int;

-- name: Endpoint :one
SELECT id, user_id, url, events, description, is_active, disabled_reason, created_at, updated_at, deleted_at,
       max_in_flight, rate_limit, retry_schedule, disabled_at, filter
FROM endpoints
WHERE id = @id AND user_id = @user_id AND deleted_at IS NULL;

-- name: LockEndpoint :one
-- An endpoint that does not change otherwise until the transaction ends.
SELECT id, user_id, url, events, description, is_active, disabled_reason, created_at, updated_at, deleted_at,
       max_in_flight, rate_limit, retry_schedule, disabled_at, filter
FROM endpoints
WHERE id = @id AND user_id = @user_id AND deleted_at IS NULL
FOR NO KEY UPDATE;

-- name: UpdateEndpoint :one
-- Writes what its owner may change. Only after LockEndpoint. What is disabled by
-- this is so by its owner, from now; what is disabled already stays as it is.
UPDATE endpoints
SET url = @url, events = @events, filter = @filter, description = @description, is_active = @is_active,
    max_in_flight = @max_in_flight, rate_limit = @rate_limit, retry_schedule = @retry_schedule,
    disabled_reason = CASE WHEN NOT @is_active THEN coalesce(disabled_reason, 'owner') END,
    disabled_at = CASE WHEN NOT @is_active THEN coalesce(disabled_at, t) END,
    updated_at = t
FROM clock_timestamp() AS t
WHERE id = @id
RETURNING id, user_id, url, events, description, is_active, disabled_reason, created_at, updated_at, deleted_at,
       max_in_flight, rate_limit, retry_schedule, disabled_at, filter;

-- name: MarkEnding :exec
-- Has the deliverers end what is pending for an endpoint.
INSERT INTO endpoint_states (endpoint_id, ending) VALUES (@endpoint_id, true)
ON CONFLICT (endpoint_id) DO UPDATE SET ending = true, updated_at = now();

-- name: ResetEndpointState :exec
-- Forgets how an endpoint fared: it is another one now, or its owner says that
-- it is well. What waits for it may go at once. Enabled, nothing of it is to be ended.
UPDATE endpoint_states
SET circuit = 'closed', circuit_reason = NULL, circuit_until = NULL, failing_since = NULL, failures = 0, ending = ending AND NOT @enabled::boolean,
    wait_until = CASE WHEN waits_for IS NOT NULL THEN now() END, updated_at = now()
WHERE endpoint_id = @endpoint_id;

-- name: MarkEndpointDeleted :one
-- The row stays for the log. Its secrets go by DeleteEndpointSecrets, in a
-- statement after this one: only then are those of a rotation that was first seen.
UPDATE endpoints SET deleted_at = clock_timestamp(), updated_at = clock_timestamp()
WHERE id = @id AND user_id = @user_id AND deleted_at IS NULL
RETURNING id;

-- name: DeleteEndpointSecrets :exec
DELETE FROM endpoint_secrets WHERE endpoint_id = @endpoint_id;

-- name: TouchEndpoint :one
-- Notes that an endpoint was changed, and keeps it from changing otherwise until the transaction ends.
UPDATE endpoints SET updated_at = clock_timestamp()
WHERE id = @id AND user_id = @user_id AND deleted_at IS NULL
RETURNING id;

-- name: ExpireEndpointSecrets :exec
-- Ends all secrets of an endpoint after overlap (in seconds), if they don't end before that.
UPDATE endpoint_secrets
SET expires_at = least(expires_at, clock_timestamp() + make_interval(secs => @overlap::float8))
WHERE endpoint_id = @endpoint_id;

-- name: PruneEndpointSecrets :exec
-- Deletes the secrets of an endpoint that have expired, and of those that have
-- not, all but the current one and the next keep.
DELETE FROM endpoint_secrets e
WHERE e.endpoint_id = @endpoint_id AND e.expires_at IS NOT NULL
  AND (e.expires_at <= clock_timestamp() OR e.id NOT IN (
      SELECT s.id FROM endpoint_secrets s
      WHERE s.endpoint_id = @endpoint_id AND s.expires_at IS NOT NULL
      ORDER BY s.id DESC
      LIMIT @keep::int));

-- name: ActiveEndpointSecrets :many
-- The secrets that an endpoint's deliveries are signed with now, the current one first.
SELECT id, ciphertext, expires_at
FROM endpoint_secrets
WHERE endpoint_id = @endpoint_id AND (expires_at IS NULL OR expires_at > now())
ORDER BY expires_at DESC NULLS FIRST, id DESC;

-- name: ListAudit :many
-- What was done to a user's endpoints, or to one of them, newest first, before a record.
SELECT id, user_id, endpoint_id, actor, action, details, created_at
FROM audit_log
WHERE user_id = @user_id AND id < @before::uuid
  AND (sqlc.narg(endpoint_id)::uuid IS NULL OR endpoint_id = sqlc.narg(endpoint_id))
ORDER BY id DESC
LIMIT @max_rows::int;

-- name: LockIdempotencyKey :exec
-- Makes requests of one user with one key wait for each other, until the transaction ends.
SELECT pg_advisory_xact_lock(hashtext('cardwire idempotency'), hashtext(cast(@user_id::uuid AS text) || @key::text));

-- name: IdempotentAnswer :one
-- What a key was answered within the last 24 h.
SELECT request_hash, status, answer
FROM idempotency_keys
WHERE user_id = @user_id AND key = @key AND created_at > clock_timestamp() - interval '24 hours';

-- name: SaveIdempotentAnswer :exec
-- Keeps what a key was answered. Only after LockIdempotencyKey, and if IdempotentAnswer has none.
INSERT INTO idempotency_keys (user_id, key, request_hash, status, answer)
VALUES (@user_id, @key, @request_hash, @status, @answer)
ON CONFLICT (user_id, key) DO UPDATE
SET request_hash = excluded.request_hash, status = excluded.status, answer = excluded.answer, created_at = clock_timestamp();

-- name: PruneIdempotencyKeys :execrows
-- Deletes some of the answers that are no longer valid.
DELETE FROM idempotency_keys
WHERE ctid = ANY (ARRAY (
    SELECT i.ctid FROM idempotency_keys i
    WHERE i.created_at <= clock_timestamp() - interval '24 hours'
    ORDER BY i.created_at
    LIMIT @max_rows::int
    FOR UPDATE SKIP LOCKED));
