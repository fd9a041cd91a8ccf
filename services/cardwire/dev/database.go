package dev

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/rs/zerolog"

	"github.com/cardwire/cardwire/services/cardwire/kept"
	"github.com/cardwire/cardwire/sql/migrations"
	"github.com/cardwire/cardwire/sql/pgserver"
)

// answerTimeout is how long the PostgreSQL of DATABASE_URL may take to answer. A
// service would wait for ever; a person at a terminal wants to know.
const answerTimeout = 5 * time.Second

// A database is the PostgreSQL that we found or started, migrated.
type database struct {
	log    zerolog.Logger
	url    string
	server *pgserver.Server // nil: not ours
	ended  chan struct{}    // closed when the watch over server has ended
}

// start gets a database. If the server that we started ends by itself, fail is
// called with the reason.
func (db *database) start(ctx context.Context, cfg Config, out io.Writer, fail func(error)) error {
	db.url = cfg.DatabaseURL
	if db.url == "" {
		if err := db.startServer(ctx, cfg, out); err != nil {
			return err
		}
		db.ended = make(chan struct{})
		go func() { // ends with the server, which stop sees to
			defer close(db.ended)
			if err := db.server.Wait(); err != nil {
				fail(err)
			}
		}()
		// cardwire token looks usernames up there.
		if err := kept.Keep(cfg.Data, kept.DatabaseURL, db.url); err != nil {
			return err
		}
	} else {
		if err := answers(ctx, db.url); err != nil {
			return err
		}
		if err := kept.Forget(cfg.Data, kept.DatabaseURL); err != nil {
			return err
		}
	}
	return migrations.Up(ctx, db.url, db.log)
}

func (db *database) startServer(ctx context.Context, cfg Config, out io.Writer) error {
	dir := filepath.Join(cfg.Data, "postgres")
	options := pgserver.Options{Dir: dir, Log: db.log}
	bin, err := pgserver.Find(ctx, options)
	if errors.Is(err, pgserver.ErrNotFound) {
		fmt.Fprintln(out, "No PostgreSQL found: fetching one with this machine's package client, which may take a minute …")
		bin, err = pgserver.Ensure(ctx, options)
	}
	if err != nil {
		return err
	}
	db.server, err = pgserver.Start(ctx, pgserver.Config{Bin: bin, Dir: dir, Log: db.log})
	if err != nil {
		return err
	}
	db.url = db.server.URL()
	return nil
}

// stop shuts the server down if it is ours.
func (db *database) stop(ctx context.Context) {
	if db.server == nil {
		return
	}
	if err := db.server.Stop(context.WithoutCancel(ctx)); err != nil {
		db.log.Error().Err(err).Msg("PostgreSQL not stopped")
		return
	}
	if db.ended != nil {
		<-db.ended
	}
}

// answers fails if the database at url does not answer in time.
func answers(ctx context.Context, url string) error {
	ctx, cancel := context.WithTimeout(ctx, answerTimeout)
	defer cancel()
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		return fmt.Errorf("DATABASE_URL: %w", err) // pgx leaves the password out
	}
	return conn.Close(ctx)
}
