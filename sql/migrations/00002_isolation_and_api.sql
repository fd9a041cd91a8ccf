-- +goose Up

-- New columns are nullable or have a constant default, and checks on big tables
-- are NOT VALID until 00003: nothing here reads a big table while it is locked.

-- What an endpoint's owner may set. Null is the deliverer's setting, or no limit.
ALTER TABLE endpoints
    ADD COLUMN max_in_flight  int CHECK (max_in_flight BETWEEN 1 AND 100), -- attempts at once, of each deliverer
    ADD COLUMN rate_limit     int CHECK (rate_limit BETWEEN 1 AND 1000), -- attempts begun per second, of each deliverer
    ADD COLUMN retry_schedule int[] CHECK (cardinality(retry_schedule) BETWEEN 0 AND 20), -- pauses after failures, in ms
    ADD COLUMN disabled_at    timestamptz; -- since when it is not active

-- A secret may come with an ed25519 key pair of the same life: the seed sealed
-- like the secret, the public key as it is shown.
ALTER TABLE endpoint_secrets
    ADD COLUMN signing_key bytea,
    ADD COLUMN public_key  bytea CHECK (octet_length(public_key) = 32),
    ADD CHECK ((signing_key IS NULL) = (public_key IS NULL));

-- How an endpoint fares, written by the deliverers when it changes. No row: all is well.
CREATE TABLE endpoint_states (
    endpoint_id    uuid PRIMARY KEY REFERENCES endpoints ON DELETE CASCADE,
    circuit        text NOT NULL DEFAULT 'closed' CHECK (circuit IN ('closed', 'open', 'half_open')),
    circuit_reason text CHECK (circuit_reason IN ('circuit_open', 'paused')), -- why it is not closed
    circuit_until  timestamptz, -- while it is open
    -- While deliveries of it wait for something else than their schedule: what
    -- for, and when the next of them may go. deliveries.waits_for says the same of each.
    waits_for      text CHECK (waits_for IN ('at_capacity', 'rate_limited', 'circuit_open', 'paused')),
    wait_until     timestamptz,
    failing_since  timestamptz, -- when the first of its failures without a success between came
    failures       int NOT NULL DEFAULT 0 CHECK (failures >= 0), -- how many those are
    ending         boolean NOT NULL DEFAULT false, -- disabled or deleted: what is pending is being ended
    updated_at     timestamptz NOT NULL DEFAULT now(),
    CHECK ((waits_for IS NULL) = (wait_until IS NULL)),
    CHECK ((failing_since IS NULL) = (failures = 0))
) WITH (fillfactor = 70);
CREATE INDEX endpoint_states_wait_until_idx ON endpoint_states (wait_until) WHERE waits_for IS NOT NULL;
CREATE INDEX endpoint_states_ending_idx ON endpoint_states (endpoint_id) WHERE ending;

-- waits_for is why a pending delivery has no message: it is PostgreSQL that
-- knows when it goes on. 'retry_after' and 'schedule' go at next_attempt_at. The
-- others go when their endpoint is ready, see endpoint_states, and have a
-- next_attempt_at in the year 9999: out of the way of what goes by time.
ALTER TABLE deliveries
    ADD COLUMN waits_for    text,
    ADD COLUMN trigger      text NOT NULL DEFAULT 'event', -- what made it pending, last
    ADD COLUMN exhausted_at timestamptz, -- when all its attempts had failed, until one succeeds
    ADD COLUMN attempts_before int NOT NULL DEFAULT 0, -- of attempts, those before it was last made pending again: failures counts since
    ADD CONSTRAINT deliveries_waits_for_check
        CHECK (waits_for IN ('at_capacity', 'rate_limited', 'circuit_open', 'paused', 'retry_after', 'schedule')) NOT VALID,
    ADD CONSTRAINT deliveries_waits_for_pending_check CHECK (waits_for IS NULL OR status = 'pending') NOT VALID,
    ADD CONSTRAINT deliveries_trigger_check CHECK (trigger IN ('event', 'test', 'resend', 'recover', 'replay')) NOT VALID,
    ADD CONSTRAINT deliveries_attempts_before_check CHECK (attempts_before BETWEEN 0 AND attempts) NOT VALID;

ALTER TABLE attempts
    ADD COLUMN trigger         text,
    ADD COLUMN dns_ms          int, -- null: there was none, as on a kept connection
    ADD COLUMN connect_ms      int,
    ADD COLUMN tls_ms          int,
    ADD COLUMN first_byte_ms   int, -- from the request's last byte to the answer's first
    ADD COLUMN address_class   text, -- public, allowed (by ALLOW_CIDRS) or refused
    ADD COLUMN request_headers bytea, -- "Name: value" lines
    ADD CONSTRAINT attempts_trigger_check CHECK (trigger IN ('event', 'test', 'resend', 'recover', 'replay')) NOT VALID;

-- Deliveries of an endpoint by day of their ids, so that the total of a log
-- needs no count of its rows. Kept by a trigger: whoever inserts is counted.
CREATE TABLE delivery_counts (
    endpoint_id uuid NOT NULL,
    day         date NOT NULL,
    n           bigint NOT NULL,
    PRIMARY KEY (endpoint_id, day)
) WITH (fillfactor = 50);
CREATE INDEX delivery_counts_day_idx ON delivery_counts (day); -- retention drops a day

-- The day of an id: its first 48 bits are milliseconds.
-- +goose StatementBegin
CREATE FUNCTION id_day(id uuid) RETURNS date LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE AS $$
    SELECT date '1970-01-01' + (('x' || translate(left(id::text, 13), '-', ''))::bit(48)::bigint / 86400000)::int
$$;
-- +goose StatementEnd

-- +goose StatementBegin
CREATE FUNCTION count_deliveries() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO delivery_counts AS c (endpoint_id, day, n)
    SELECT endpoint_id, id_day(id) AS day, count(*) FROM inserted
    GROUP BY endpoint_id, day
    ORDER BY endpoint_id, day -- two fan-outs with the same endpoints must not wait for each other in a circle
    ON CONFLICT (endpoint_id, day) DO UPDATE SET n = c.n + excluded.n;
    RETURN NULL;
END
$$;
-- +goose StatementEnd

-- A fresh UUIDv7.
-- +goose StatementBegin
CREATE FUNCTION new_id() RETURNS uuid LANGUAGE sql VOLATILE AS $$
    SELECT (lpad(to_hex((extract(epoch FROM clock_timestamp()) * 1000)::bigint), 12, '0')
            || '7' || substr(translate(gen_random_uuid()::text, '-', ''), 14))::uuid
$$;
-- +goose StatementEnd

-- Who did what to which endpoint. The endpoint may be gone.
CREATE TABLE audit_log (
    id          uuid PRIMARY KEY, -- UUIDv7
    user_id     uuid NOT NULL, -- the endpoint's owner
    endpoint_id uuid NOT NULL,
    actor       text NOT NULL CHECK (length(actor) <= 128), -- 'user:<id>', 'key:<id>' or 'deliverer'
    action      text NOT NULL CHECK (action ~ '^[a-z]+(\.[a-z_]+)+$' AND length(action) <= 64),
    details     jsonb NOT NULL DEFAULT '{}', -- what changed; never a secret
    created_at  timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE INDEX audit_log_user_id_idx ON audit_log (user_id, id);

-- Keys of services and operators. The key itself is not kept.
CREATE TABLE api_keys (
    id           uuid PRIMARY KEY, -- UUIDv7
    name         text NOT NULL CHECK (length(name) BETWEEN 1 AND 64),
    hash         bytea NOT NULL UNIQUE CHECK (octet_length(hash) = 32), -- SHA-256
    scopes       text[] NOT NULL CHECK (cardinality(scopes) >= 1 AND scopes <@ ARRAY['events:publish', 'operator']),
    created_at   timestamptz NOT NULL DEFAULT now(),
    expires_at   timestamptz, -- null: never
    last_used_at timestamptz, -- to within a minute
    revoked_at   timestamptz
);

-- What a POST with an Idempotency-Key was answered, for 24 h.
CREATE TABLE idempotency_keys (
    user_id      uuid NOT NULL,
    key          text NOT NULL CHECK (length(key) BETWEEN 1 AND 255),
    request_hash bytea NOT NULL CHECK (octet_length(request_hash) = 32), -- SHA-256 of operation, path and body
    status       int NOT NULL,
    answer       bytea NOT NULL, -- sealed like a secret, as it may hold one
    created_at   timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (user_id, key)
);
CREATE INDEX idempotency_keys_created_at_idx ON idempotency_keys (created_at);

-- The first day that events are kept of, null if there is none.
-- +goose StatementBegin
CREATE FUNCTION oldest_day() RETURNS date LANGUAGE sql STABLE AS $$
    SELECT min(to_date(right(c.relname, 8), 'YYYYMMDD'))
    FROM pg_inherits i
    JOIN pg_class c ON c.oid = i.inhrelid
    WHERE i.inhparent = 'events'::regclass AND c.relname ~ '_p[0-9]{8}$'
$$;
-- +goose StatementEnd

-- Deliveries of an endpoint that are made pending again, in batches.
CREATE TABLE recoveries (
    id          uuid PRIMARY KEY, -- UUIDv7
    endpoint_id uuid NOT NULL REFERENCES endpoints ON DELETE CASCADE,
    since       timestamptz NOT NULL, -- of the events' times
    until       timestamptz NOT NULL,
    missing     boolean NOT NULL DEFAULT false, -- also events that were never fanned out to it
    at          uuid NOT NULL, -- all deliveries up to this id are done
    missing_at  uuid NOT NULL, -- all events up to this id are done, once the deliveries are
    next_at     timestamptz NOT NULL DEFAULT clock_timestamp(), -- when the next batch of any recovery may begin
    recovered   bigint NOT NULL DEFAULT 0,
    created_at  timestamptz NOT NULL DEFAULT clock_timestamp(),
    finished_at timestamptz,
    CHECK (since < until)
);
CREATE INDEX recoveries_endpoint_id_idx ON recoveries (endpoint_id, id);
CREATE INDEX recoveries_unfinished_idx ON recoveries (id) WHERE finished_at IS NULL;
