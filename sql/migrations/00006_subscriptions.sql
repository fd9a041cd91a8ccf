-- +goose Up

-- What of the events that an endpoint asks for it gets: conditions on fields of
-- their data, as services/internal/subscription reads them; null is all. The text is
-- kept as it was given, but for space between its tokens.
ALTER TABLE endpoints
    ADD COLUMN filter json CHECK (json_typeof(filter) = 'object' AND octet_length(filter::text) <= 4096);

-- The days whose bodies are no longer kept although their rows are. Rows of a day
-- that is not finished may still have theirs.
CREATE TABLE cleared_days (
    day         date PRIMARY KEY,
    begun_at    timestamptz NOT NULL DEFAULT now(),
    finished_at timestamptz
);

-- The days (UTC) that events have partitions of.
-- +goose StatementBegin
CREATE FUNCTION event_days() RETURNS SETOF date LANGUAGE sql STABLE AS $$
    SELECT to_date(right(c.relname, 8), 'YYYYMMDD')
    FROM pg_inherits i
    JOIN pg_class c ON c.oid = i.inhrelid
    WHERE i.inhparent = 'events'::regclass AND c.relname ~ '_p[0-9]{8}$'
$$;
-- +goose StatementEnd
