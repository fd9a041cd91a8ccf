package main

import (
	"context"
	"fmt"
	"time"

	"github.com/google/uuid"
)

const (
	historyDays  = 10      // over which old deliveries are spread, today included
	historyOwner = 100     // endpoints that they belong to; the one measured is one of them
	historyChunk = 100_000 // rows of a transaction
)

// history is one with old deliveries in the tables, each with its event and an
// attempt, and the tables vacuumed as they would be by now.
func history(ctx context.Context, l *lab) error {
	f := theOne("history")
	rows := l.cfg.count(l.cfg.Rows, 1_000_000)
	return l.onStack(ctx, nil, func(ctx context.Context, s *stack) error {
		eps, err := s.register(ctx, historyOwner, 1, func(int) string { return s.well + "/0s/history/0" })
		if err != nil {
			return err
		}
		begun := time.Now()
		if err := s.fillHistory(ctx, eps, rows); err != nil {
			return fmt.Errorf("write %d old deliveries: %w", rows, err)
		}
		s.say("history: %d old deliveries written in %.0f s", rows, time.Since(begun).Seconds())
		t := f.trial(l.cfg, eps[:1])
		t.name = fmt.Sprintf("%d old", rows)
		_, err = s.try(ctx, t)
		return err
	})
}

func (s *stack) fillHistory(ctx context.Context, eps []endpoint, rows int) error {
	if _, err := s.pool.Exec(ctx, `SELECT ensure_partitions((now() - make_interval(days => $1))::date, now()::date)`, historyDays); err != nil {
		return err
	}
	var ids, users []uuid.UUID
	for _, e := range eps {
		ids, users = append(ids, e.id), append(users, e.user)
	}
	span := (historyDays - 1) * 24 * time.Hour
	for from := 0; from < rows; from += historyChunk {
		to := min(from+historyChunk, rows)
		_, err := s.pool.Exec(ctx, insertOld, from, to-1, span.Seconds(), float64(rows), ids, users, eventType)
		if err != nil {
			return err
		}
	}
	_, err := s.pool.Exec(ctx, `VACUUM (ANALYZE) events, deliveries, attempts, delivery_counts`)
	return err
}

// insertOld writes deliveries number $1 to $2 of $4, the oldest first. They are
// spread over $3 seconds until a minute ago. An id is the 48 bits of its time,
// then random bits in the form of a UUIDv7.
const insertOld = `
WITH timed AS (
	SELECT n, 1 + n % cardinality($5::uuid[]) AS owner,
	       now() - make_interval(secs => 60 + $3::float8 * (1 - n / $4::float8)) AS at
	FROM generate_series($1::int, $2::int) AS n
), old AS MATERIALIZED (
	SELECT n, at, ($5::uuid[])[owner] AS endpoint_id, ($6::uuid[])[owner] AS user_id,
	       (lpad(to_hex((extract(epoch FROM at) * 1000)::bigint), 12, '0') || '7' || substr(replace(gen_random_uuid()::text, '-', ''), 14))::uuid AS id
	FROM timed
), e AS (
	INSERT INTO events (id, user_id, type, body, occurred_at, stream_seq, created_at)
	SELECT id, user_id, $7, convert_to('{"type":"' || $7 || '","timestamp":"2026-01-01T00:00:00Z","data":{"n":' || n || '}}', 'UTF8'), at, 0, at FROM old
), d AS (
	INSERT INTO deliveries (id, event_id, endpoint_id, event_type, status, attempts, next_attempt_at, response_code, delivered_at, created_at, updated_at)
	SELECT id, id, endpoint_id, $7, 'success', 1, NULL, 204, at, at, at FROM old
)
INSERT INTO attempts (delivery_id, n, endpoint_id, started_at, finished_at, outcome, response_code, duration_ms, response_headers)
SELECT id, 1, endpoint_id, at, at, 'success', 204, 2, convert_to(E'Date: Thu, 01 Jan 2026 00:00:00 GMT\n', 'UTF8') FROM old`
