-- +goose NO TRANSACTION
-- +goose Up

-- What waits without a message, by endpoint and by time. New partitions get
-- these indexes from their parent. Those that are there get them one by one, each
-- in a transaction of its own that holds up writers of that day alone. What was
-- interrupted is gone on with.
CREATE INDEX IF NOT EXISTS deliveries_waiting_endpoint_idx ON ONLY deliveries (endpoint_id, id) WHERE waits_for IS NOT NULL;
CREATE INDEX IF NOT EXISTS deliveries_waiting_time_idx ON ONLY deliveries (next_attempt_at) WHERE waits_for IS NOT NULL;

-- +goose StatementBegin
DO $$
DECLARE
    parent text;
    keys   text;
    child  regclass;
    name   text;
BEGIN
    FOR parent, keys IN VALUES ('deliveries_waiting_endpoint_idx', 'endpoint_id, id'), ('deliveries_waiting_time_idx', 'next_attempt_at') LOOP
        LOOP
            SELECT i.inhrelid::regclass INTO child
            FROM pg_inherits i
            WHERE i.inhparent = 'deliveries'::regclass AND NOT EXISTS (
                SELECT FROM pg_index x JOIN pg_inherits xi ON xi.inhrelid = x.indexrelid
                WHERE x.indrelid = i.inhrelid AND xi.inhparent = parent::regclass)
            LIMIT 1;
            EXIT WHEN child IS NULL;
            name := replace(parent, 'deliveries', child::text);
            EXECUTE format('CREATE INDEX IF NOT EXISTS %I ON %s (%s) WHERE waits_for IS NOT NULL', name, child, keys);
            EXECUTE format('ALTER INDEX %I ATTACH PARTITION %I', parent, name);
            COMMIT;
        END LOOP;
    END LOOP;
END
$$;
-- +goose StatementEnd
