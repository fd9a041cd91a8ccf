// Package migrations holds the database's schema as numbered steps and applies
// them. They only go forward, and each is safe while the code of the version
// before it still runs.
package migrations

import (
	"context"
	"embed"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/pressly/goose/v3"
	"github.com/pressly/goose/v3/lock"
	"github.com/rs/zerolog"
)

//go:embed *.sql
var files embed.FS

// ErrPending is what Current returns while steps are missing.
var ErrPending = errors.New("database schema is not up to date")

// Up applies the missing steps, each in a transaction. Several processes may
// call it at once: one works, and the others wait for it up to five minutes. A
// step that was interrupted is applied anew by the next call.
func Up(ctx context.Context, databaseURL string, log zerolog.Logger) error {
	return with(ctx, databaseURL, func(p *goose.Provider) error {
		start := time.Now()
		results, err := p.Up(ctx)
		for _, r := range results {
			log.Info().Int64("version", r.Source.Version).Dur("took_ms", r.Duration).Msg("migration applied")
		}
		if err != nil {
			return fmt.Errorf("migrate database: %w", err)
		}
		log.Debug().Int("applied", len(results)).Dur("took_ms", time.Since(start)).Msg("database schema is up to date")
		return nil
	})
}

// Current returns nil if the schema has every step that this code knows, and
// else ErrPending. A schema that is newer is current: see the package.
func Current(ctx context.Context, databaseURL string) error {
	return with(ctx, databaseURL, func(p *goose.Provider) error {
		current, target, err := p.GetVersions(ctx)
		if err != nil {
			return fmt.Errorf("read schema version: %w", err)
		}
		if current < target {
			return fmt.Errorf("%w: it is at version %d, this program needs %d: run cardwire migrate, or set MIGRATE=true", ErrPending, current, target)
		}
		return nil
	})
}

func with(ctx context.Context, databaseURL string, f func(*goose.Provider) error) error {
	cfg, err := pgxpool.ParseConfig(databaseURL) // which knows the settings of a pool
	if err != nil {
		return fmt.Errorf("DATABASE_URL: %w", err)
	}
	db := stdlib.OpenDB(*cfg.ConnConfig)
	defer db.Close()
	if err := db.PingContext(ctx); err != nil {
		return fmt.Errorf("connect to database: %w", err)
	}
	// Look for the lock every second, for five minutes.
	locker, err := lock.NewPostgresSessionLocker(lock.WithLockTimeout(1, 300))
	if err != nil {
		return fmt.Errorf("make migration lock: %w", err)
	}
	p, err := goose.NewProvider(goose.DialectPostgres, db, files, goose.WithSessionLocker(locker))
	if err != nil {
		return fmt.Errorf("read migrations: %w", err)
	}
	return f(p)
}
