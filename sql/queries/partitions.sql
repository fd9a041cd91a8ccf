-- name: EnsurePartitions :one
-- Makes the daily partitions from one day to another (UTC, both included), and returns how many were missing.
SELECT ensure_partitions(@from_day::date, @to_day::date)::int;

-- name: DropPartition :one
-- Drops the oldest of the daily partitions before a day (UTC), of one table, and returns how many that were: 1 or 0.
SELECT drop_partition(@before_day::date)::int;

-- name: DeleteOldCounts :execrows
-- Deletes the counts of the days before a day (UTC).
DELETE FROM delivery_counts WHERE day < @before_day::date;
