-- API keys: the key itself is not kept, only its SHA-256.

-- name: InsertAPIKey :one
-- life is in seconds; null never ends.
INSERT INTO api_keys (id, name, hash, scopes, expires_at)
VALUES (@id, @name, @hash, @scopes, now() + make_interval(secs => sqlc.narg(life)::float8))
RETURNING id, name, hash, scopes, created_at, expires_at, last_used_at, revoked_at;

-- name: ListAPIKeys :many
-- All keys, revoked and expired ones too, newest first.
SELECT id, name, hash, scopes, created_at, expires_at, last_used_at, revoked_at FROM api_keys ORDER BY id DESC;

-- name: APIKeyByHash :one
SELECT id, name, hash, scopes, created_at, expires_at, last_used_at, revoked_at FROM api_keys WHERE hash = @hash;

-- name: APIKeyByID :one
SELECT id, name, hash, scopes, created_at, expires_at, last_used_at, revoked_at FROM api_keys WHERE id = @id;

-- name: APIKeysByName :many
-- The keys of a name, those that are not revoked first.
SELECT id, name, hash, scopes, created_at, expires_at, last_used_at, revoked_at FROM api_keys
WHERE name = @name
ORDER BY revoked_at DESC NULLS FIRST, id DESC;

-- name: RevokeAPIKey :execrows
UPDATE api_keys SET revoked_at = now() WHERE id = @id AND revoked_at IS NULL;

-- name: TouchAPIKey :exec
-- Notes that a key is used now. Replicas that do it at once write once.
UPDATE api_keys SET last_used_at = now()
WHERE id = @id AND (last_used_at IS NULL OR last_used_at <= now() - make_interval(secs => @at_most_every::float8));

-- Sealed columns. The first five bytes of a ciphertext are Tink's prefix, which
-- holds the id of the key that sealed it. prefix is that of the primary key.

-- name: CountSealed :many
-- How many sealed values there are of each prefix, by table and column.
SELECT 'endpoint_secrets.ciphertext'::text AS place, substring(ciphertext FROM 1 FOR 5)::bytea AS prefix, count(*) AS n
FROM endpoint_secrets GROUP BY 2
UNION ALL
SELECT 'endpoint_secrets.signing_key', substring(signing_key FROM 1 FOR 5), count(*)
FROM endpoint_secrets WHERE signing_key IS NOT NULL GROUP BY 2
UNION ALL
SELECT 'idempotency_keys.answer', substring(answer FROM 1 FOR 5), count(*)
FROM idempotency_keys GROUP BY 2
ORDER BY place, prefix;

-- name: SecretsUnderOtherKeys :many
-- The next secrets after an id that are sealed with another key, locked. Those
-- that somebody else has locked are left for another time: nobody waits in a circle.
SELECT id, endpoint_id, ciphertext, signing_key
FROM endpoint_secrets
WHERE id > @after AND (substring(ciphertext FROM 1 FOR 5) <> @prefix::bytea OR substring(signing_key FROM 1 FOR 5) <> @prefix::bytea)
ORDER BY id
LIMIT @max_rows::int
FOR UPDATE SKIP LOCKED;

-- name: ResealSecrets :exec
UPDATE endpoint_secrets e
SET ciphertext = r.ciphertext, signing_key = r.signing_key
FROM (SELECT unnest(@ids::uuid[]) AS id, unnest(@ciphertexts::bytea[]) AS ciphertext, unnest(@signing_keys::bytea[]) AS signing_key) AS r
WHERE e.id = r.id;

-- name: AnswersUnderOtherKeys :many
-- The same for answers.
SELECT user_id, key, answer
FROM idempotency_keys
WHERE (user_id, key) > (@after_user::uuid, @after_key::text) AND substring(answer FROM 1 FOR 5) <> @prefix::bytea
ORDER BY user_id, key
LIMIT @max_rows::int
FOR UPDATE SKIP LOCKED;

-- name: ResealAnswers :exec
UPDATE idempotency_keys i
SET answer = r.answer
FROM (SELECT unnest(@user_ids::uuid[]) AS user_id, unnest(@keys::text[]) AS key, unnest(@answers::bytea[]) AS answer) AS r
WHERE i.user_id = r.user_id AND i.key = r.key;
