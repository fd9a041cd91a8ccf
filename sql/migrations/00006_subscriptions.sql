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
