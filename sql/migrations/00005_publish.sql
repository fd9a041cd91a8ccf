-- +goose Up

-- Which event a publisher's own name stands for: an Idempotency-Key of POST
-- /api/events, or source and id of a CloudEvent. Kept for 24 h.
CREATE TABLE event_names (
    name       bytea PRIMARY KEY CHECK (octet_length(name) = 32), -- SHA-256 of what names the event
    event_id   uuid NOT NULL,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE INDEX event_names_created_at_idx ON event_names (created_at);
