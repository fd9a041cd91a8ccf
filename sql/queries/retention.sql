-- name: HoldBodies :exec
-- Keeps bodies from being cleared until the transaction ends: what is then seen
-- of an event stays. For whoever makes deliveries pending again.
SELECT pg_advisory_xact_lock_shared(hashtext('cardwire bodies'));

-- name: KeptBodies :many
-- Those of some events whose bodies are kept. low and high bound the ids, so
-- that only their partitions are read.
SELECT id FROM events
WHERE id = ANY (@ids::uuid[]) AND id BETWEEN @low::uuid AND @high::uuid AND octet_length(body) > 0;
