-- name: ClaimIdempotencyKey :one
-- Takes a key for a request, if it is free: never used, or more than max_age (in
-- seconds) ago. Whoever claims it meanwhile waits until this transaction ends. No
-- row: it is taken, and stays as it is until this transaction ends.
INSERT INTO idempotency_keys AS i (user_id, key, request_hash, status, answer)
VALUES (@user_id, @key, @request_hash, 0, '')
ON CONFLICT (user_id, key) DO UPDATE
SET request_hash = excluded.request_hash, status = 0, answer = '', created_at = clock_timestamp()
WHERE i.created_at <= clock_timestamp() - make_interval(secs => @max_age::float8)
RETURNING key;

-- name: KeptAnswer :one
-- What a key was used for, and what that was answered.
SELECT request_hash, status, answer
FROM idempotency_keys
WHERE user_id = @user_id AND key = @key;

-- name: KeepAnswer :exec
-- Keeps the answer with a key that this transaction has claimed.
UPDATE idempotency_keys SET status = @status, answer = @answer
WHERE user_id = @user_id AND key = @key;

-- name: ForgetOldKeys :execrows
-- Deletes some of the keys that are older than max_age, in seconds.
DELETE FROM idempotency_keys i
USING (
    SELECT o.user_id, o.key FROM idempotency_keys o
    WHERE o.created_at <= clock_timestamp() - make_interval(secs => @max_age::float8)
    ORDER BY o.created_at
    LIMIT @max_rows::int
    FOR UPDATE SKIP LOCKED
) AS old
WHERE i.user_id = old.user_id AND i.key = old.key;
