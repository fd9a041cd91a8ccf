-- +goose NO TRANSACTION
-- +goose Up

-- Events of a range that are delivered once more, in batches. A batch commits
-- its deliveries together with at and the counts; meanwhile it has the row
-- locked, so that one process works on it at a time and one that dies leaves
-- nothing half done.
CREATE TABLE IF NOT EXISTS replays (
    id          uuid PRIMARY KEY, -- UUIDv7
    actor       text NOT NULL CHECK (length(actor) <= 128), -- who asked for it: 'user:<id>', 'key:<id>' or 'cli:<name>'
    endpoint_id uuid REFERENCES endpoints ON DELETE CASCADE, -- null: every endpoint that matches
    user_id     uuid, -- whose events; null: everybody's
    mode        text NOT NULL CHECK (mode IN ('failed', 'missing', 'all')),
    types       text[] NOT NULL DEFAULT '{}', -- of events; empty: all
    since       timestamptz, -- a range of the events' times: since is in it, until is not
    until       timestamptz,
    from_seq    bigint, -- or of their sequence numbers in EVENTS: both are in it
    to_seq      bigint,
    rate        int CHECK (rate BETWEEN 1 AND 20000), -- deliveries per second; null: no limit
    start_id    uuid NOT NULL, -- the events of the range have ids from this one
    end_id      uuid NOT NULL, -- to before this one
    at          uuid NOT NULL, -- all events up to this id are done
    total       bigint CHECK (total >= 0), -- events of the range when it was asked for; null: too many to count
    done        bigint NOT NULL DEFAULT 0 CHECK (done >= 0), -- events examined
    made        bigint NOT NULL DEFAULT 0 CHECK (made >= 0), -- deliveries made
    skipped     bigint NOT NULL DEFAULT 0 CHECK (skipped >= 0), -- pairs of event and endpoint that the mode leaves out
    state       text NOT NULL DEFAULT 'running' CHECK (state IN ('running', 'paused', 'cancelled', 'finished')),
    reason      text CHECK (reason IN ('endpoint_disabled', 'endpoint_deleted')), -- why it was paused or cancelled, if nobody asked for that
    next_at     timestamptz NOT NULL DEFAULT clock_timestamp(), -- when its next batch may begin: this keeps the rate
    created_at  timestamptz NOT NULL DEFAULT clock_timestamp(),
    updated_at  timestamptz NOT NULL DEFAULT clock_timestamp(),
    finished_at timestamptz, -- or cancelled
    CHECK (endpoint_id IS NULL OR user_id IS NOT NULL),
    CHECK ((since IS NULL) = (until IS NULL) AND (from_seq IS NULL) = (to_seq IS NULL) AND (since IS NULL) <> (from_seq IS NULL)),
    CHECK (since < until), CHECK (from_seq <= to_seq),
    CHECK ((state IN ('cancelled', 'finished')) = (finished_at IS NOT NULL))
) WITH (fillfactor = 50);
CREATE INDEX IF NOT EXISTS replays_user_id_idx ON replays (user_id, id);
CREATE INDEX IF NOT EXISTS replays_unfinished_idx ON replays (next_at) WHERE finished_at IS NULL;

-- The replay that made a delivery; null: none did. It is sent as webhook-replay.
ALTER TABLE deliveries ADD COLUMN IF NOT EXISTS replay_id uuid;

-- Finds a range of sequence numbers. Events come in about the order of these, so
-- a summary of each 64 pages is enough, and costs inserts next to nothing. New
-- partitions get it from their parent; those that are there one by one, as in 00004.
CREATE INDEX IF NOT EXISTS events_stream_seq_idx ON ONLY events USING brin (stream_seq) WITH (pages_per_range = 64, autosummarize = on);

-- +goose StatementBegin
DO $$
DECLARE
    child regclass;
    name  text;
BEGIN
    LOOP
        SELECT i.inhrelid::regclass INTO child
        FROM pg_inherits i
        WHERE i.inhparent = 'events'::regclass AND NOT EXISTS (
            SELECT FROM pg_index x JOIN pg_inherits xi ON xi.inhrelid = x.indexrelid
            WHERE x.indrelid = i.inhrelid AND xi.inhparent = 'events_stream_seq_idx'::regclass)
        LIMIT 1;
        EXIT WHEN child IS NULL;
        name := child || '_stream_seq_idx';
        EXECUTE format('CREATE INDEX IF NOT EXISTS %I ON %s USING brin (stream_seq) WITH (pages_per_range = 64, autosummarize = on)', name, child);
        EXECUTE format('ALTER INDEX events_stream_seq_idx ATTACH PARTITION %I', name);
        COMMIT;
    END LOOP;
END
$$;
-- +goose StatementEnd
