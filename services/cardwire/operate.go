package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	"github.com/cardwire/cardwire/services/internal/process"
	"github.com/cardwire/cardwire/sql/migrations"
)

type migrateCommand struct {
	DatabaseURL string `env:"DATABASE_URL" default:"postgres://127.0.0.1:5432/cardwire" help:"PostgreSQL 14 or newer. Its role must be able to create tables."`
}

// Run applies what is missing, one log line each, and fails if the database does
// not answer.
func (c migrateCommand) Run() error {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	log := process.NewLogger(os.Stderr, "info").With().Str("service", "migrate").Logger()
	if err := migrations.Up(ctx, c.DatabaseURL, log); err != nil {
		return err
	}
	log.Info().Msg("database schema up to date")
	return nil
}
