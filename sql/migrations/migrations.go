// Package migrations holds the schema of Cardwire's database as numbered SQL
// files, embedded, and brings a database up to it.
package migrations

import (
	"context"
	"embed"
	"errors"
	"fmt"
	"io/fs"
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
	// tableLock is how long a migration may wait for a table that others use, in
	// milliseconds: meanwhile whoever comes after it waits too. If it is not long
	// enough, the migration's file is undone and tried again.
	tableLock = "1000"
	// tablePause is between such tries, for those who waited to go first, and
	// tableTries is how many there are: ten minutes. A transaction that holds a
	// table for longer has to be ended by somebody.
	tablePause = time.Second
	tableTries = 300
)

// Up applies all migrations that the database at url (libpq URL or keywords) has
// not seen, each in its own transaction unless the file says otherwise, and logs
// one line for each. Several processes may call it at once: one migrates, the
// others wait. The lock belongs to a session, so url must not lead through a
// pooler in transaction mode. An error names the file; what came before it stays
// applied, and calling Up again goes on from there.
//
// A migration that can't have a table within a second is tried again later, so
// that a transaction that holds the table for long does not stop everybody else.
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
	cfg.ConnConfig.RuntimeParams["lock_timeout"] = tableLock
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
		if !errors.As(err, &pg) || pg.Code != lockNotAvailable || try == tableTries {
			return err
		}
		log.Warn().Err(err).Int("try", try).Msg("migration waits for a table that is in use")
		select {
		case <-ctx.Done():
			return err
		case <-time.After(tablePause):
		}
	}
}

// lockNotAvailable is the SQLSTATE of a lock_timeout.
const lockNotAvailable = "55P03"

// apply applies what is missing, up to the first that fails.
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
