-- Publishing over HTTP.

-- name: NameEvents :many
-- Gives each name the event id beside it, unless it has one; returns the names that
-- had none. Names must be sorted, each there once: callers at once would else wait in a circle.
INSERT INTO event_names (name, event_id)
SELECT unnest(@names::bytea[]), unnest(@event_ids::uuid[])
ON CONFLICT (name) DO NOTHING
RETURNING name;

-- name: NamedEvents :many
SELECT name, event_id FROM event_names WHERE name = ANY (@names::bytea[]);

-- name: PruneEventNames :execrows
-- Forgets some names that are older than 24 h.
DELETE FROM event_names
WHERE ctid = ANY (ARRAY(
    SELECT n.ctid FROM event_names n
    WHERE n.created_at < now() - interval '24 hours'
    LIMIT @max_rows::int
    FOR UPDATE SKIP LOCKED));
