-- What cardwire doctor asks.

-- name: ServerFacts :one
SELECT current_setting('server_version_num')::int AS version,
       current_setting('synchronous_commit')::text AS synchronous_commit,
       current_setting('fsync')::text AS fsync,
       current_setting('full_page_writes')::text AS full_page_writes,
       clock_timestamp()::timestamptz AS now;

-- name: MissingPartitions :many
-- The daily partitions that are not there, of the days from one to another (UTC, both included).
SELECT (t.parent || '_p' || to_char(d.day, 'YYYYMMDD'))::text AS name
FROM generate_series(@from_day::date, @to_day::date, interval '1 day') AS d (day)
CROSS JOIN (VALUES ('events'), ('deliveries'), ('attempts')) AS t (parent)
WHERE to_regclass(t.parent || '_p' || to_char(d.day, 'YYYYMMDD')) IS NULL
ORDER BY name;

-- name: CountRefused :one
-- Outbox rows that no relay can publish as they are.
SELECT count(*) FROM outbox WHERE refused IS NOT NULL;

-- name: SecretsAfter :many
-- Sealed values of endpoints, in order of their ids.
SELECT id, endpoint_id, ciphertext, signing_key
FROM endpoint_secrets
WHERE id > @after
ORDER BY id
LIMIT @max_rows::int;
