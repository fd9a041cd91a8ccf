-- name: LockCreation :exec
-- Makes creations of one user's endpoints wait for each other, until the transaction ends.
SELECT pg_advisory_xact_lock(hashtext('cardwire endpoints'), hashtext(cast(@user_id::uuid AS text)));

-- name: InsertEndpoint :one
-- Returns no row if the user has max_endpoints already; 0 is no limit. Only
-- after LockCreation does the limit hold: what is counted must not change meanwhile.
INSERT INTO endpoints (id, user_id, url, events, description, created_at, updated_at)
SELECT @id::uuid, @user_id::uuid, @url::text, @events::text[], @description::text, t, t
FROM clock_timestamp() AS t
WHERE @max_endpoints::int = 0
   OR (SELECT count(*) FROM endpoints e WHERE e.user_id = @user_id AND e.deleted_at IS NULL) < @max_endpoints
RETURNING id, user_id, url, events, description, is_active, disabled_reason, created_at, updated_at, deleted_at,
       max_in_flight, rate_limit, retry_schedule, disabled_at;

-- name: InsertEndpointSecret :exec
INSERT INTO endpoint_secrets (id, endpoint_id, ciphertext) VALUES (@id, @endpoint_id, @ciphertext);

-- name: ListEndpoints :many
-- A user's endpoints, newest first.
SELECT id, user_id, url, events, description, is_active, disabled_reason, created_at, updated_at, deleted_at,
       max_in_flight, rate_limit, retry_schedule, disabled_at
FROM endpoints
WHERE user_id = @user_id AND deleted_at IS NULL
ORDER BY id DESC
LIMIT @max_rows::int;

-- name: Endpoint :one
SELECT id, user_id, url, events, description, is_active, disabled_reason, created_at, updated_at, deleted_at,
       max_in_flight, rate_limit, retry_schedule, disabled_at
FROM endpoints
WHERE id = @id AND user_id = @user_id AND deleted_at IS NULL;

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
