// Package partitions keeps the daily partitions of the big tables: made ahead,
// made on demand for older events, dropped when retention is over.
package partitions

import (
	"context"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/rs/zerolog"

	"github.com/cardwire/cardwire/events"
	"github.com/cardwire/cardwire/services/internal/retry"
	"github.com/cardwire/cardwire/sql/db"
)

const (
	day = 24 * time.Hour
	// Ahead is how many days are made ahead. It also bounds how far in the
	// future an event's id may lie: a clock of a publisher may be wrong.
	Ahead = 3
	// interval is how often the keeper looks.
	interval = 10 * time.Minute
	// lockTimeout bounds how long dropping may wait for, and so hold up, the
	// users of a table.
	lockTimeout = 500 * time.Millisecond
)

// A Keeper keeps the partitions of one database. Any number may run.
type Keeper struct {
	pool      *pgxpool.Pool
	retention time.Duration
	now       func() time.Time
	log       zerolog.Logger
}

// NewKeeper keeps partitions for a retention of whole days.
func NewKeeper(pool *pgxpool.Pool, retention time.Duration, log zerolog.Logger) *Keeper {
	return &Keeper{pool: pool, retention: retention, now: time.Now, log: log}
}

// Run makes partitions ahead and drops old ones until ctx ends.
func (k *Keeper) Run(ctx context.Context) error {
	for {
		err := retry.Until(ctx, k.log, "partitions", func(ctx context.Context) error {
			today := k.now().UTC().Truncate(day)
			_, err := k.ensure(ctx, today, today.Add(Ahead*day))
			return err
		})
		if err != nil {
			return nil // ctx has ended
		}
		if err := k.drop(ctx); err != nil && ctx.Err() == nil {
			k.log.Warn().Err(err).Msg("old partitions not dropped")
		}
		if retry.Sleep(ctx, retry.Jitter(interval)) != nil {
			return nil
		}
	}
}

// Covers says whether an id's time lies within retention and not further ahead
// than Ahead days, so that a partition for it may exist.
func (k *Keeper) Covers(id uuid.UUID) bool {
	at, now := events.IDTime(id), k.now()
	return at.After(now.Add(-k.retention)) && at.Before(now.UTC().Truncate(day).Add((Ahead+1)*day))
}

// EnsureFor makes the partitions that some ids need, each of which Covers.
func (k *Keeper) EnsureFor(ctx context.Context, ids []uuid.UUID) error {
	if len(ids) == 0 {
		return nil
	}
	days := make(map[time.Time]bool)
	for _, id := range ids {
		days[events.IDTime(id).Truncate(day)] = true
	}
	for d := range days {
		if _, err := k.ensure(ctx, d, d); err != nil {
			return err
		}
	}
	return nil
}

func (k *Keeper) ensure(ctx context.Context, from, to time.Time) (int32, error) {
	made, err := db.New(k.pool).EnsurePartitions(ctx, db.EnsurePartitionsParams{FromDay: from, ToDay: to})
	if err != nil {
		return 0, fmt.Errorf("make partitions of %s to %s: %w", from.Format(time.DateOnly), to.Format(time.DateOnly), err)
	}
	if made > 0 {
		k.log.Info().Int32("tables", made).Str("from", from.Format(time.DateOnly)).Str("to", to.Format(time.DateOnly)).Msg("partitions made")
	}
	return made, nil
}

// drop drops what lies wholly before retention, one table at a time, and then
// what was counted of those days.
func (k *Keeper) drop(ctx context.Context) error {
	before := k.now().UTC().Add(-k.retention).Truncate(day)
	for dropped := 0; ; dropped++ {
		n, err := k.dropOne(ctx, before)
		if err != nil {
			return fmt.Errorf("drop partitions before %s: %w", before.Format(time.DateOnly), err)
		}
		if n == 0 {
			if dropped > 0 {
				k.log.Info().Int("tables", dropped).Str("before", before.Format(time.DateOnly)).Msg("partitions dropped")
			}
			if _, err := db.New(k.pool).DeleteOldCounts(ctx, before); err != nil {
				return fmt.Errorf("delete counts of days before %s: %w", before.Format(time.DateOnly), err)
			}
			return nil
		}
	}
}

func (k *Keeper) dropOne(ctx context.Context, before time.Time) (n int32, err error) {
	err = pgx.BeginFunc(ctx, k.pool, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, fmt.Sprintf("SET LOCAL lock_timeout = %d", lockTimeout.Milliseconds())); err != nil {
			return err
		}
		n, err = db.New(tx).DropPartition(ctx, before)
		return err
	})
	return n, err
}
