package pgtest

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/rs/zerolog"

	"github.com/cardwire/cardwire/sql/migrations"
)

const (
	// templateLock is the advisory lock under which templates are made: test
	// processes may share a server. The number is arbitrary, but ours alone.
	templateLock = 0x43_57_54_50

	templatePrefix = "cardwire_template_"
)

// makeTemplate returns the name of a migrated database to copy for each test,
// and makes it if no other process on this server has. A template is named for
// the migrations and for the day, since they make partitions for the days to
// come; those of days before yesterday are dropped.
func makeTemplate(ctx context.Context, s *server) (name string, err error) {
	sum, err := migrations.Sum()
	if err != nil {
		return "", err
	}
	now := time.Now().UTC()
	name = templatePrefix + now.Format("2006_01_02") + "_" + sum
	conn, err := s.admin.Acquire(ctx)
	if err != nil {
		return "", fmt.Errorf("make template database: %w", err)
	}
	defer conn.Release()
	if _, err := conn.Exec(ctx, "SELECT pg_advisory_lock($1)", templateLock); err != nil {
		return "", fmt.Errorf("make template database: %w", err)
	}
	defer func() {
		_, unlockErr := conn.Exec(context.WithoutCancel(ctx), "SELECT pg_advisory_unlock($1)", templateLock)
		err = errors.Join(err, unlockErr)
	}()
	existing, err := s.templates(ctx)
	if err != nil {
		return "", err
	}
	oldest := templatePrefix + now.AddDate(0, 0, -1).Format("2006_01_02")
	for _, t := range existing {
		if t == name {
			return name, nil
		}
		if t < oldest {
			if err := s.dropDatabase(ctx, t); err != nil {
				return "", err
			}
		}
	}
	return name, s.migrateTemplate(ctx, name)
}

// migrateTemplate makes the template under another name first: one that exists
// is complete.
func (s *server) migrateTemplate(ctx context.Context, name string) error {
	building := strings.Replace(name, "template", "building", 1)
	if err := s.dropDatabase(ctx, building); err != nil {
		return err
	}
	if _, err := s.admin.Exec(ctx, "CREATE DATABASE "+quote(building)); err != nil {
		return fmt.Errorf("make template database: %w", err)
	}
	if err := migrations.Up(ctx, s.url(building), zerolog.Nop()); err != nil {
		return err
	}
	if _, err := s.admin.Exec(ctx, "ALTER DATABASE "+quote(building)+" RENAME TO "+quote(name)); err != nil {
		return fmt.Errorf("finish template database: %w", err)
	}
	return nil
}

// templates lists the template databases on the server.
func (s *server) templates(ctx context.Context) ([]string, error) {
	var names []string
	err := s.admin.QueryRow(ctx,
		"SELECT coalesce(array_agg(datname::text), '{}') FROM pg_database WHERE starts_with(datname, $1)", templatePrefix,
	).Scan(&names)
	if err != nil {
		return nil, fmt.Errorf("list template databases: %w", err)
	}
	return names, nil
}
