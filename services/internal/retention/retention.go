// Package retention lets go of what is no longer kept beside the partitions of
// the big tables, which package partitions drops: bodies before their rows, and
// old rows of the small tables. docs/retention.md says what is kept how long.
package retention

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/rs/zerolog"

	"github.com/cardwire/cardwire/services/internal/delivery"
	"github.com/cardwire/cardwire/services/internal/retry"
	"github.com/cardwire/cardwire/sql/db"
)

const (
	day = 24 * time.Hour
	// interval is how often to look: nothing here is due to the hour.
	interval = time.Hour
	// batch bounds the rows of a transaction, and pause what batches take of the
	// database together: 10,000 rows a second at most.
	batch = 500
	pause = 50 * time.Millisecond
	// batchTimeout bounds a transaction.
	batchTimeout = 10 * time.Second
	// warnRows is up to how many deliveries are counted for a warning.
	warnRows = 10_000
)

// A Config is how long things are kept, in whole days.
type Config struct {
	Rows   time.Duration // RETENTION: events, deliveries, attempts
	Bodies time.Duration // BODY_RETENTION; 0, or no less than Rows, clears nothing before its row goes
}

// Check says what is wrong with a setting.
func (c Config) Check() error {
	for _, d := range []struct {
		name string
		is   time.Duration
	}{{"RETENTION", c.Rows}, {"BODY_RETENTION", c.Bodies}} {
		if d.is < day && (d.is != 0 || d.name == "RETENTION") || d.is%day != 0 {
			return fmt.Errorf("%s: must be whole days, such as 720h, not %s", d.name, d.is)
		}
	}
	return nil
}

// A Cleaner lets go of what one database no longer keeps. Any number may run.
type Cleaner struct {
	cfg  Config
	pool *pgxpool.Pool
	q    *db.Queries
	log  zerolog.Logger
	now  func() time.Time
}

// New makes a Cleaner. Check the settings first.
func New(cfg Config, pool *pgxpool.Pool, log zerolog.Logger) *Cleaner {
	return &Cleaner{cfg: cfg, pool: pool, q: db.New(pool), log: log, now: time.Now}
}

// Run cleans until ctx ends. What fails is tried again an hour later.
func (c *Cleaner) Run(ctx context.Context) error {
	for {
		if err := c.Once(ctx); err != nil && ctx.Err() == nil {
			c.log.Warn().Err(err).Msg("what is no longer kept is not all gone")
		}
		if retry.Sleep(ctx, retry.Jitter(interval)) != nil {
			return nil
		}
	}
}

// Once lets go of all that is no longer kept now, and warns of what will be lost.
func (c *Cleaner) Once(ctx context.Context) error {
	if err := c.warn(ctx); err != nil {
		return err
	}
	if err := c.clearBodies(ctx); err != nil {
		return err
	}
	before := c.now().Add(-c.cfg.Rows)
	for _, table := range []struct {
		name   string
		delete func(context.Context) (int64, error)
	}{
		{"dead_events", func(ctx context.Context) (int64, error) {
			return c.q.DeleteOldDeadEvents(ctx, db.DeleteOldDeadEventsParams{Before: before, MaxRows: batch})
		}},
		{"recoveries", func(ctx context.Context) (int64, error) {
			return c.q.DeleteOldRecoveries(ctx, db.DeleteOldRecoveriesParams{Before: before, MaxRows: batch})
		}},
		// A day later than their deliveries: partitions are dropped by whole days.
		{"endpoints", func(ctx context.Context) (int64, error) {
			return c.q.DeleteOldEndpoints(ctx, db.DeleteOldEndpointsParams{Before: before.Add(-day), MaxRows: batch})
		}},
	} {
		n, err := batches(ctx, table.delete)
		if err != nil {
			return fmt.Errorf("delete old rows of %s: %w", table.name, err)
		}
		if n > 0 {
			c.log.Info().Str("table", table.name).Int64("rows", n).Msg("old rows deleted")
		}
	}
	return nil
}

// batches deletes until a batch is not full.
func batches(ctx context.Context, one func(context.Context) (int64, error)) (all int64, err error) {
	for {
		n, err := bounded(ctx, one)
		all += n
		if err != nil || n < batch {
			return all, err
		}
		if err := retry.Sleep(ctx, pause); err != nil {
			return all, err
		}
	}
}

func bounded[T any](ctx context.Context, do func(context.Context) (T, error)) (T, error) {
	ctx, cancel := context.WithTimeout(ctx, batchTimeout)
	defer cancel()
	return do(ctx)
}

// warn says which deliveries retention will end before their schedule does.
func (c *Cleaner) warn(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, batchTimeout)
	defer cancel()
	n, err := c.q.LongSchedules(ctx, int64(c.cfg.Rows.Seconds()))
	if err != nil {
		return fmt.Errorf("look at retry schedules: %w", err)
	}
	if n > 0 {
		c.log.Warn().Int64("endpoints", n).Dur("retention_ms", c.cfg.Rows).Msg("endpoints have retry schedules that are longer than RETENTION: their last retries will be dropped")
	}
	tomorrow := c.now().UTC().Add(-c.cfg.Rows).Truncate(day).Add(day)
	if n, err = c.q.PendingBefore(ctx, db.PendingBeforeParams{Before: delivery.Floor(tomorrow), MaxRows: warnRows}); err != nil {
		return fmt.Errorf("look for old pending deliveries: %w", err)
	}
	if n > 0 {
		c.log.Warn().Int64("deliveries", n).Str("before", tomorrow.Format(time.DateOnly)).Msg("deliveries are pending that RETENTION drops within a day")
	}
	return nil
}
