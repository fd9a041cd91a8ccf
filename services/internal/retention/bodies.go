package retention

import (
	"context"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/cardwire/cardwire/events"
	"github.com/cardwire/cardwire/services/internal/delivery"
	"github.com/cardwire/cardwire/services/internal/retry"
	"github.com/cardwire/cardwire/sql/db"
)

// clearBodies clears the bodies of the days that lie wholly before BODY_RETENTION,
// and are not to be dropped anyway. A day with something pending is looked at again
// the next time; a day that is finished is not.
func (c *Cleaner) clearBodies(ctx context.Context) error {
	if c.cfg.Bodies == 0 || c.cfg.Bodies >= c.cfg.Rows {
		return nil
	}
	today := c.now().UTC()
	if err := c.q.ForgetCleared(ctx, today.Add(-c.cfg.Rows).Truncate(day)); err != nil {
		return fmt.Errorf("forget cleared days: %w", err)
	}
	days, err := c.q.DaysToClear(ctx, today.Add(-c.cfg.Bodies).Truncate(day))
	if err != nil {
		return fmt.Errorf("list days to clear: %w", err)
	}
	for _, d := range days {
		if err := c.clearDay(ctx, d); err != nil {
			return fmt.Errorf("clear bodies of %s: %w", d.Format(time.DateOnly), err)
		}
	}
	return nil
}

// clearDay first says that the day is being cleared, so that nobody promises to
// send it again, and then goes through it in batches.
func (c *Cleaner) clearDay(ctx context.Context, d time.Time) error {
	if err := c.q.BeginClearing(ctx, d); err != nil {
		return err
	}
	low, high := delivery.Floor(d), delivery.Floor(d.Add(day))
	cleared, left, err := c.pages(ctx, low, high, c.events)
	if err != nil {
		return fmt.Errorf("events: %w", err)
	}
	attempts, _, err := c.pages(ctx, low, high, c.attempts)
	if err != nil {
		return fmt.Errorf("attempts: %w", err)
	}
	if left == 0 {
		if err := c.q.FinishClearing(ctx, d); err != nil {
			return err
		}
	}
	c.log.Info().Str("day", d.Format(time.DateOnly)).Int64("events", cleared).Int64("attempts", attempts).Int64("pending", left).Msg("bodies cleared")
	return nil
}

// A page is what came of a batch: up to where it went, how many rows it cleared,
// and how many it left.
type page struct {
	last          uuid.UUID
	cleared, left int64
	full          bool
}

func (c *Cleaner) pages(ctx context.Context, after, before uuid.UUID, one func(ctx context.Context, after, before uuid.UUID) (page, error)) (cleared, left int64, err error) {
	for {
		p, err := bounded(ctx, func(ctx context.Context) (page, error) { return one(ctx, after, before) })
		if err != nil {
			return cleared, left, err
		}
		cleared, left, after = cleared+p.cleared, left+p.left, p.last
		if !p.full {
			return cleared, left, nil
		}
		if err := retry.Sleep(ctx, pause); err != nil {
			return cleared, left, err
		}
	}
}

// events is a batch of events. What is pending is looked at under the lock, by a
// statement that sees all that was made pending before.
func (c *Cleaner) events(ctx context.Context, after, before uuid.UUID) (p page, err error) {
	ids, err := c.q.EventsWithBodies(ctx, db.EventsWithBodiesParams{After: after, Before: before, MaxRows: batch})
	if err != nil || len(ids) == 0 {
		return p, err
	}
	p.last, p.full = ids[len(ids)-1], len(ids) == batch
	err = pgx.BeginFunc(ctx, c.pool, func(tx pgx.Tx) error {
		q := db.New(tx)
		if err := q.LockBodies(ctx); err != nil {
			return err
		}
		// A delivery has the time of its event in its id, and nothing else of it.
		p.cleared, err = q.ClearEvents(ctx, db.ClearEventsParams{
			Ids: ids, Low: delivery.Floor(events.IDTime(ids[0])), High: delivery.Floor(events.IDTime(p.last).Add(time.Millisecond)),
		})
		return err
	})
	p.left = int64(len(ids)) - p.cleared
	return p, err
}

func (c *Cleaner) attempts(ctx context.Context, after, before uuid.UUID) (p page, err error) {
	ids, err := c.q.AttemptsWithBodies(ctx, db.AttemptsWithBodiesParams{After: after, Before: before, MaxRows: batch})
	if err != nil || len(ids) == 0 {
		return p, err
	}
	p.last, p.full = ids[len(ids)-1], len(ids) == batch
	p.cleared, err = c.q.ClearAttempts(ctx, db.ClearAttemptsParams{Ids: ids, Low: ids[0], High: p.last})
	return p, err
}
