-- name: EnsurePartitions :one
-- Makes the daily partitions from one day to another (UTC, both included), and returns how many were missing.
SELECT ensure_partitions(@from_day::date, @to_day::date)::int;

-- name: DropPartitions :one
-- Drops the daily partitions before a day (UTC), and returns how many.
SELECT drop_partitions(@before_day::date)::int;
