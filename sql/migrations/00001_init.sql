-- +goose Up

-- What DevCard has: users, their links and cards. user ids come from tokens,
-- so tables of Cardwire's own do not reference users.
CREATE TABLE users (
    id           uuid PRIMARY KEY,
    username     text NOT NULL CHECK (username ~ '^[a-z0-9][a-z0-9_-]{0,38}$'),
    display_name text NOT NULL,
    bio          text,
    pronouns     text,
    role         text,
    company      text,
    avatar_url   text,
    accent_color text NOT NULL DEFAULT '#6366f1',
    created_at   timestamptz NOT NULL DEFAULT now(),
    updated_at   timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT users_username_key UNIQUE (username)
);

CREATE TABLE links (
    id            uuid PRIMARY KEY,
    user_id       uuid NOT NULL REFERENCES users ON DELETE CASCADE,
    platform      text NOT NULL,
    username      text NOT NULL,
    url           text NOT NULL,
    display_order int  NOT NULL DEFAULT 0
);
CREATE INDEX links_user_id_idx ON links (user_id, display_order);

CREATE TABLE cards (
    id         uuid PRIMARY KEY,
    user_id    uuid NOT NULL REFERENCES users ON DELETE CASCADE,
    title      text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX cards_user_id_idx ON cards (user_id);

CREATE TABLE card_links (
    card_id       uuid NOT NULL REFERENCES cards ON DELETE CASCADE,
    link_id       uuid NOT NULL REFERENCES links ON DELETE CASCADE,
    display_order int  NOT NULL DEFAULT 0,
    PRIMARY KEY (card_id, link_id)
);

CREATE TABLE saved_contacts (
    user_id    uuid NOT NULL, -- who saved
    card_id    uuid NOT NULL REFERENCES cards ON DELETE CASCADE,
    event_id   uuid NOT NULL, -- the contact.saved event
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (user_id, card_id)
);

-- One row per card.viewed event, written from the stream. The key is the
-- event's id, so a redelivered event changes nothing. This is DevCard's data
-- and is kept; it is not partitioned.
CREATE TABLE card_views (
    event_id    uuid PRIMARY KEY,
    owner_id    uuid NOT NULL,
    card_id     uuid, -- null: the profile was viewed
    viewer_id   uuid, -- null: anonymous
    viewer_hash text CHECK (length(viewer_hash) <= 64), -- keyed hash of the viewer's address
    user_agent  text CHECK (length(user_agent) <= 512),
    source      text NOT NULL CHECK (length(source) <= 32),
    viewed_at   timestamptz NOT NULL
);
CREATE INDEX card_views_owner_id_idx ON card_views (owner_id, event_id);

-- An endpoint outlives its deletion as a row, so that its log stays readable
-- for operators until retention takes it; its secrets go at once.
CREATE TABLE endpoints (
    id              uuid PRIMARY KEY,
    user_id         uuid NOT NULL,
    url             text NOT NULL CHECK (octet_length(url) <= 2048),
    events          text[] NOT NULL CHECK (cardinality(events) >= 1),
    description     text NOT NULL DEFAULT '' CHECK (length(description) <= 256),
    is_active       boolean NOT NULL DEFAULT true,
    disabled_reason text CHECK (disabled_reason IN ('gone', 'failing', 'owner')),
    created_at      timestamptz NOT NULL DEFAULT now(),
    updated_at      timestamptz NOT NULL DEFAULT now(),
    deleted_at      timestamptz,
    CHECK (is_active OR disabled_reason IS NOT NULL OR deleted_at IS NOT NULL)
);
CREATE INDEX endpoints_user_id_idx ON endpoints (user_id, id) WHERE deleted_at IS NULL;

-- More than one row per endpoint while a rotated secret is still valid.
CREATE TABLE endpoint_secrets (
    id          uuid PRIMARY KEY, -- UUIDv7
    endpoint_id uuid NOT NULL REFERENCES endpoints ON DELETE CASCADE,
    ciphertext  bytea NOT NULL, -- AEAD, the endpoint id as associated data
    created_at  timestamptz NOT NULL DEFAULT now(),
    expires_at  timestamptz -- null: the current one
);
CREATE INDEX endpoint_secrets_endpoint_id_idx ON endpoint_secrets (endpoint_id, id);

-- The big tables are partitioned by day. Their keys are UUIDv7-shaped: the
-- first 48 bits are the event's time, so an id alone finds its partition,
-- inserts stay at the right edge of each index, and retention drops a table
-- instead of deleting rows. Partitions are made by ensure_partitions.

CREATE TABLE events (
    id          uuid NOT NULL PRIMARY KEY,
    user_id     uuid NOT NULL,
    type        text NOT NULL,
    body        bytea NOT NULL, -- exactly as published: jsonb would reorder keys, text refuse NUL
    occurred_at timestamptz NOT NULL,
    stream_seq  bigint NOT NULL,
    created_at  timestamptz NOT NULL DEFAULT now()
) PARTITION BY RANGE (id);
CREATE INDEX events_user_id_idx ON events (user_id, id);

CREATE TABLE deliveries (
    id              uuid NOT NULL PRIMARY KEY, -- derived from event and endpoint
    event_id        uuid NOT NULL,
    endpoint_id     uuid NOT NULL,
    event_type      text NOT NULL,
    status          text NOT NULL DEFAULT 'pending' CHECK (status IN ('pending', 'success', 'failed')),
    reason          text CHECK (reason IN ('exhausted', 'refused_address', 'endpoint_disabled', 'endpoint_deleted', 'interrupted')),
    attempts        int NOT NULL DEFAULT 0 CHECK (attempts >= 0), -- started, those cut off by us included
    failures        int NOT NULL DEFAULT 0 CHECK (failures >= 0), -- attempts that the receiver failed: these spend the schedule
    next_attempt_at timestamptz DEFAULT now(), -- null once nothing more will be tried
    leased_until    timestamptz, -- somebody is at it until then
    swept_at        timestamptz, -- when the sweeper last published it again
    response_code   int,
    error_message   text,
    delivered_at    timestamptz,
    created_at      timestamptz NOT NULL DEFAULT now(),
    updated_at      timestamptz NOT NULL DEFAULT now(),
    CHECK ((status = 'failed') = (reason IS NOT NULL)),
    CHECK ((status = 'pending') = (next_attempt_at IS NOT NULL)),
    CHECK ((status = 'success') = (delivered_at IS NOT NULL))
) PARTITION BY RANGE (id);
CREATE INDEX deliveries_endpoint_id_idx ON deliveries (endpoint_id, id);
CREATE INDEX deliveries_due_idx ON deliveries (next_attempt_at) WHERE status = 'pending';

CREATE TABLE attempts (
    delivery_id        uuid NOT NULL,
    n                  int NOT NULL CHECK (n >= 1),
    endpoint_id        uuid NOT NULL,
    started_at         timestamptz NOT NULL DEFAULT clock_timestamp(),
    finished_at        timestamptz,
    outcome            text CHECK (outcome IN ('success', 'failure', 'interrupted')), -- null: in flight
    response_code      int,
    error_class        text,
    error_message      text,
    duration_ms        int,
    response_headers   bytea, -- "Name: value" lines
    response_body      bytea,
    response_truncated boolean NOT NULL DEFAULT false,
    PRIMARY KEY (delivery_id, n),
    CHECK ((outcome IS NULL) = (finished_at IS NULL))
) PARTITION BY RANGE (delivery_id);

-- Events written in somebody's own transaction; a relay publishes and deletes them.
CREATE TABLE outbox (
    id         uuid PRIMARY KEY, -- the event's id
    user_id    uuid NOT NULL,
    type       text NOT NULL,
    body       bytea NOT NULL,
    attributes jsonb,
    created_at timestamptz NOT NULL DEFAULT now(),
    refused    text -- why the relay set it aside: it can never be published as it is
);
CREATE INDEX outbox_waiting_idx ON outbox (created_at, id) WHERE refused IS NULL;

-- Messages on EVENTS that are no events, with the reason. The key is derived
-- from the message, so a repeat changes nothing.
CREATE TABLE dead_events (
    id         uuid PRIMARY KEY,
    stream_seq bigint NOT NULL,
    subject    text NOT NULL,
    headers    bytea NOT NULL,
    body       bytea NOT NULL,
    reason     text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX dead_events_created_at_idx ON dead_events (created_at);

-- The smallest UUID of a day.
-- +goose StatementBegin
CREATE FUNCTION day_floor(day date) RETURNS uuid LANGUAGE sql IMMUTABLE STRICT AS $$
    SELECT (lpad(to_hex((extract(epoch FROM day) * 1000)::bigint), 12, '0') || repeat('0', 20))::uuid
$$;
-- +goose StatementEnd

-- ensure_partitions makes what is missing of the daily partitions from one day
-- to another, both included, and returns how many it made. Any number of
-- callers may run it at once. A partition is made apart and then attached,
-- which does not block readers and writers of the others.
-- +goose StatementBegin
CREATE FUNCTION ensure_partitions(from_day date, to_day date) RETURNS int LANGUAGE plpgsql AS $$
DECLARE
    parent text;
    child  text;
    day    date;
    made   int := 0;
BEGIN
    IF to_day - from_day > 400 THEN
        RAISE EXCEPTION 'ensure_partitions: % to % is more than 400 days', from_day, to_day;
    END IF;
    PERFORM pg_advisory_xact_lock(hashtext('cardwire partitions'));
    FOR day IN SELECT d::date FROM generate_series(from_day::timestamp, to_day::timestamp, interval '1 day') AS d LOOP
        FOREACH parent IN ARRAY ARRAY['events', 'deliveries', 'attempts'] LOOP
            child := parent || '_p' || to_char(day, 'YYYYMMDD');
            CONTINUE WHEN to_regclass(child) IS NOT NULL;
            EXECUTE format('CREATE TABLE %I (LIKE %I INCLUDING DEFAULTS INCLUDING CONSTRAINTS INCLUDING INDEXES)', child, parent);
            IF parent = 'deliveries' THEN
                -- Room on each page for the claim's update to stay on it (HOT).
                EXECUTE format('ALTER TABLE %I SET (fillfactor = 70)', child);
            ELSIF parent = 'attempts' THEN
                EXECUTE format('ALTER TABLE %I SET (fillfactor = 80)', child);
            END IF;
            EXECUTE format('ALTER TABLE %I ATTACH PARTITION %I FOR VALUES FROM (%L) TO (%L)',
                parent, child, day_floor(day), day_floor(day + 1));
            made := made + 1;
        END LOOP;
    END LOOP;
    RETURN made;
END
$$;
-- +goose StatementEnd

-- drop_partition drops the oldest of the daily partitions before a day, of one
-- table, and returns how many that were: 1 or 0. Dropping locks the whole table
-- for a moment: the caller sets a short lock_timeout and comes back later if it
-- was refused. One table in a transaction: statements lock these tables in any
-- order, so that whoever wants all three for himself never gets them under load.
-- +goose StatementBegin
CREATE FUNCTION drop_partition(before_day date) RETURNS int LANGUAGE plpgsql AS $$
DECLARE
    child regclass;
BEGIN
    PERFORM pg_advisory_xact_lock(hashtext('cardwire partitions'));
    SELECT i.inhrelid::regclass INTO child
    FROM pg_inherits i
    JOIN pg_class c ON c.oid = i.inhrelid
    WHERE i.inhparent IN ('events'::regclass, 'deliveries'::regclass, 'attempts'::regclass)
      AND c.relname ~ '_p[0-9]{8}$'
      AND to_date(right(c.relname, 8), 'YYYYMMDD') < before_day
    ORDER BY right(c.relname, 8), c.relname
    LIMIT 1;
    IF child IS NULL THEN
        RETURN 0;
    END IF;
    EXECUTE format('DROP TABLE %s', child);
    RETURN 1;
END
$$;
-- +goose StatementEnd
