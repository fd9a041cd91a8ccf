package main

import (
	"context"
	"fmt"
	"time"

	"github.com/google/uuid"

	"github.com/cardwire/cardwire/events/streams"
)

// quietPoll is the pause between two looks at what waits.
const quietPoll = 100 * time.Millisecond

// awaitQuiet waits until nothing is left to be done, and says what was if that
// takes longer than limit.
func (s *stack) awaitQuiet(ctx context.Context, accepted []uuid.UUID, limit time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	waits := "nothing was looked at"
	for {
		if left, err := s.left(ctx, accepted); ctx.Err() == nil {
			waits = left
			if err != nil {
				waits = err.Error()
			} else if left == "" {
				return nil
			}
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("not quiet after %s: %s", limit, waits)
		case <-time.After(quietPoll):
		}
	}
}

// left says what is to be done yet; empty is nothing.
func (s *stack) left(ctx context.Context, accepted []uuid.UUID) (string, error) {
	var pending, open, outbox, stored, replays int
	err := s.admin.QueryRow(ctx, `SELECT
		(SELECT count(*) FROM deliveries WHERE status = 'pending'), (SELECT count(*) FROM attempts WHERE outcome IS NULL),
		(SELECT count(*) FROM outbox), (SELECT count(*) FROM events WHERE id = ANY ($1)),
		(SELECT count(*) FROM replays WHERE state = 'running') + (SELECT count(*) FROM recoveries WHERE finished_at IS NULL)`, accepted).
		Scan(&pending, &open, &outbox, &stored, &replays)
	if err != nil {
		return "", err
	}
	ahead, err := s.ahead(ctx)
	if err != nil {
		return "", err
	}
	if pending+open+outbox+ahead+replays == 0 && stored >= len(accepted) {
		return "", nil
	}
	return fmt.Sprintf("%d deliveries pending, %d attempts open, %d outbox rows, %d events not fanned out, %d accepted events without a row, %d replays and recoveries",
		pending, open, outbox, ahead, len(accepted)-stored, replays), nil
}

// ahead is how many messages of EVENTS fan-out has not acked yet.
func (s *stack) ahead(ctx context.Context) (int, error) {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	c, err := s.js.Consumer(ctx, streams.Events, streams.FanOut)
	if err != nil {
		return 0, fmt.Errorf("look up fan-out's consumer: %w", err)
	}
	info := c.CachedInfo()
	return int(info.NumPending) + info.NumAckPending, nil
}
