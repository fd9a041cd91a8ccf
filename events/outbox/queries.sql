-- name: InsertEvent :exec
-- A repeat of an id changes nothing.
INSERT INTO outbox (id, user_id, type, body, attributes)
VALUES (@id, @user_id, @type, @body, @attributes)
ON CONFLICT (id) DO NOTHING;

-- name: TakeWaiting :many
-- The oldest rows that no other relay has taken. They stay locked until the transaction ends.
SELECT id, user_id, type, body, attributes
FROM outbox
WHERE refused IS NULL
ORDER BY created_at, id
LIMIT @max_rows::int
FOR UPDATE SKIP LOCKED;

-- name: DeletePublished :exec
DELETE FROM outbox WHERE id = ANY (@ids::uuid[]);

-- name: MarkRefused :exec
UPDATE outbox SET refused = @reason::text WHERE id = @id;
