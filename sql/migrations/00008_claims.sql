-- +goose NO TRANSACTION
-- +goose Up

-- What a lease is known by to whoever claimed it and may not have got the answer.
-- Null: nobody is at it, or a deliverer of the version before.
ALTER TABLE deliveries ADD COLUMN IF NOT EXISTS claim_id uuid;
