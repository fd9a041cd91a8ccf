package main

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/cardwire/cardwire/services/internal/replays"
)

// replay measures what live deliveries notice of a replay beside them: at a rate,
// first alone, then while 100,000 old events are replayed to 100 other endpoints
// at the default rate. Then it measures how fast replays go that no rate holds up: one
// that finds nothing to do, and one that makes all deliveries again.
func replay(ctx context.Context, l *lab) error {
	return l.onStack(ctx, nil, func(ctx context.Context, s *stack) error {
		fresh, err := s.register(ctx, 1, 1, func(int) string { return s.well + "/0s/fresh/0" })
		if err != nil {
			return err
		}
		old, err := s.register(ctx, historyOwner, 1, func(i int) string { return fmt.Sprintf("%s/0s/replayed/%d", s.well, i) })
		if err != nil {
			return err
		}
		if _, err := s.pool.Exec(ctx, `UPDATE endpoints SET created_at = now() - make_interval(days => $1)`, 2*historyDays); err != nil {
			return err
		}
		count := l.cfg.count(l.cfg.Rows, 100_000)
		if err := s.fillHistory(ctx, old, count); err != nil {
			return fmt.Errorf("write %d old deliveries: %w", count, err)
		}
		alone, err := s.atRate(ctx, "replay", "live alone", fresh, l.cfg.rate(500))
		if err != nil {
			return err
		}
		id, err := s.replay(ctx, replays.All, replays.DefaultRate)
		if err != nil {
			return err
		}
		beside, err := s.atRate(ctx, "replay", fmt.Sprintf("live beside a replay of %d", count), fresh, l.cfg.rate(500))
		if err != nil {
			return err
		}
		l.compare(beside, alone)
		if err := s.cancel(ctx, id); err != nil {
			return err
		}
		for _, mode := range []string{replays.Failed, replays.All} {
			if err := s.unlimited(ctx, mode); err != nil {
				return fmt.Errorf("replay of mode %s: %w", mode, err)
			}
		}
		return nil
	})
}

// replay starts a replay of all that is old; rate 0 is no limit.
func (s *stack) replay(ctx context.Context, mode string, rate int32) (r replays.Replay, err error) {
	since, until := time.Now().AddDate(0, 0, 1-historyDays), time.Now().Add(-time.Minute)
	err = pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error {
		r, err = replays.Start(ctx, tx, replays.Request{Actor: "cli:bench", Mode: mode, Since: &since, Until: &until, Rate: &rate})
		return err
	})
	return r, err
}

func (s *stack) cancel(ctx context.Context, r replays.Replay) error {
	now, err := replays.Store{DB: s.pool}.Get(ctx, nil, r.ID)
	if err != nil {
		return err
	}
	s.note("replay", "made by it meanwhile", float64(now.Made))
	if now.FinishedAt != nil { // --scale made it small
		return nil
	}
	return pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error {
		_, err := replays.SetState(ctx, tx, nil, r.ID, replays.Cancelled, "cli:bench")
		return err
	})
}

// unlimited measures a replay from when it is asked for until all events are done.
func (s *stack) unlimited(ctx context.Context, mode string) error {
	r, err := s.replay(ctx, mode, 0)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, s.cfg.Limit)
	defer cancel()
	for r.FinishedAt == nil {
		select {
		case <-time.After(poll):
		case <-ctx.Done():
			return fmt.Errorf("%d of its events are done: %w", r.Done, context.Cause(ctx))
		}
		if r, err = (replays.Store{DB: s.pool}).Get(ctx, nil, r.ID); err != nil {
			return err
		}
	}
	took := r.FinishedAt.Sub(r.CreatedAt).Seconds()
	s.note("replay", fmt.Sprintf("events/s without a limit, mode %s, %d made", mode, r.Made), float64(r.Done)/took)
	return nil
}
