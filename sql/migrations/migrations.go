// Package migrations holds the schema of Cardwire's database as numbered SQL
// files, embedded, and brings a database up to it.
package migrations

import (
	"context"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/pressly/goose/v3"
	"github.com/pressly/goose/v3/lock"
	"github.com/rs/zerolog"
)

//go:embed *.sql
var files embed.FS

const (
	// lockPoll and lockTries say how long Up waits for another process that
	// migrates: tried each second, goose's smallest unit, for five minutes. Less
	// would make a service give up while a long migration runs.
	lockPoll  = 1 // s
	lockTries = 300

	// lockTimeout is how long a migration may wait for a table that somebody
	// else holds. Whoever wants the table after it waits too, so it must give up
	// soon: then they go on, and it comes again.
	lockTimeout = time.Second
	// busyPause is how long the others then have the table for themselves, and
	// busyTries how often it comes: for about ten minutes. A transaction that is
	// open longer is one to look for (pg_stat_activity).
	busyPause = 2 * time.Second
	busyTries = 200
)

// lockNotAvailable is the SQLSTATE of a lock that was not to be had in time.
const lockNotAvailable = "55P03"

// Up applies all migrations that the database at url (libpq URL or keywords) has
// not seen, each in its own transaction unless the file says otherwise, and logs
// one line for each. A migration that finds a table held by somebody else gives
// up after a second, so that it never blocks who comes after it, and tries again
// for ten minutes. Several processes may call it at once: one migrates, the
// others wait. The lock belongs to a session, so url must not lead through a
// pooler in transaction mode. An error names the file; what came before it stays
// applied, and calling Up again goes on from there.
func Up(ctx context.Context, url string, log zerolog.Logger) error {
	return up(ctx, url, files, log)
}

func up(ctx context.Context, url string, fsys fs.FS, log zerolog.Logger) (err error) {
	cfg, err := pgxpool.ParseConfig(url) // which knows the settings of a pool, and takes them out
	if err != nil {
		return fmt.Errorf("migrate: %w", err) // pgx leaves the password out
	}
	locker, err := lock.NewPostgresSessionLocker(lock.WithLockTimeout(lockPoll, lockTries))
	if err != nil {
		return fmt.Errorf("migrate: %w", err)
	}
	cfg.ConnConfig.RuntimeParams["lock_timeout"] = strconv.FormatInt(lockTimeout.Milliseconds(), 10)
	db := stdlib.OpenDB(*cfg.ConnConfig)
	defer func() { err = errors.Join(err, db.Close()) }()
	p, err := goose.NewProvider(goose.DialectPostgres, db, fsys,
		goose.WithSessionLocker(locker), goose.WithDisableGlobalRegistry(true), goose.WithLogger(goose.NopLogger()))
	if err != nil {
		return fmt.Errorf("migrate: %w", err)
	}
	for try := 1; ; try++ {
		err := apply(ctx, p, log)
		var pg *pgconn.PgError
		if !errors.As(err, &pg) || pg.Code != lockNotAvailable || try == busyTries {
			return err
		}
		log.Warn().Err(err).Int("try", try).Msg("migration waits for a table that is in use")
		select {
		case <-ctx.Done():
			return fmt.Errorf("migrate: %w", errors.Join(ctx.Err(), err))
		case <-time.After(time.Duration(float64(busyPause) * (0.8 + 0.4*rand.Float64()))):
		}
	}
}

// apply applies what is missing, once.
func apply(ctx context.Context, p *goose.Provider, log zerolog.Logger) error {
	results, err := p.Up(ctx)
	var partial *goose.PartialError // returned instead of the results when one failed
	if errors.As(err, &partial) {
		results = partial.Applied
	}
	for _, r := range results {
		log.Info().Int64("version", r.Source.Version).Str("file", r.Source.Path).Dur("took_ms", r.Duration).
			Msg("migration applied")
	}
	if partial != nil {
		return fmt.Errorf("apply migration %s: %w", partial.Failed.Source.Path, partial.Err)
	}
	if err != nil {
		return fmt.Errorf("migrate: %w", err)
	}
	return nil
}
