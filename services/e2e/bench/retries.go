package main

import (
	"context"
	"fmt"
	"time"
)

// retries measures what fresh deliveries notice of others that wait for their
// retries: first while none do, then while so many do, which failed once and
// have an hour to wait.
func retries(ctx context.Context, l *lab) error {
	return l.onStack(ctx, []string{"RETRY_SCHEDULE=1h"}, func(ctx context.Context, s *stack) error {
		fresh, err := s.register(ctx, 1, 1, func(int) string { return s.well + "/0s/fresh/0" })
		if err != nil {
			return err
		}
		none, err := s.atRate(ctx, "retries", "none waiting", fresh, l.cfg.rate(500))
		if err != nil {
			return err
		}
		waiting := l.cfg.count(l.cfg.Waiting, 200_000)
		if err := s.fillRetries(ctx, waiting); err != nil {
			return fmt.Errorf("let %d deliveries wait: %w", waiting, err)
		}
		many, err := s.atRate(ctx, "retries", fmt.Sprintf("%d waiting", waiting), fresh, l.cfg.rate(500))
		if err != nil {
			return err
		}
		l.compare(many, none)
		return nil
	})
}

// fillRetries publishes events to endpoints that fail, and waits until all of
// their deliveries wait for something else than an attempt.
func (s *stack) fillRetries(ctx context.Context, count int) error {
	const endpoints = 100
	failing, err := s.register(ctx, endpoints, 1, func(i int) string { return fmt.Sprintf("%s/fail/failing/%d", s.fails, i) })
	if err != nil {
		return err
	}
	if err := s.flood(ctx, newLoad(count, minBytes, owners(failing))); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, s.cfg.Limit)
	defer cancel()
	for n := 0; n < count; {
		select {
		case <-time.After(memoryInterval):
		case <-ctx.Done():
			return fmt.Errorf("%d wait: %w", n, context.Cause(ctx))
		}
		err := s.pool.QueryRow(ctx, `SELECT count(*) FROM deliveries
			WHERE status = 'pending' AND next_attempt_at > now() AND leased_until IS NULL`).Scan(&n)
		if err != nil {
			return err
		}
	}
	return nil
}
