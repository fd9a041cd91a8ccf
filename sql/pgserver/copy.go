package pgserver

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
)

// dropTimeout bounds dropping a copy, which ends the sessions on it.
const dropTimeout = 2 * time.Minute

// CopyDatabase makes a database of that name, a copy of Config.Database, to
// which nobody may be connected meanwhile. drop drops it, whoever is connected; what
// it can't drop goes with the server's directory.
func (s *Server) CopyDatabase(ctx context.Context, name string) (drop func(), err error) {
	id := pgx.Identifier{name}.Sanitize()
	if err := s.admin(ctx, "CREATE DATABASE "+id+" TEMPLATE "+pgx.Identifier{s.cfg.Database}.Sanitize()); err != nil {
		return nil, fmt.Errorf("create database %s: %w", name, err)
	}
	return func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), dropTimeout)
		defer cancel()
		_ = s.admin(ctx, "DROP DATABASE "+id+" WITH (FORCE)")
	}, nil
}

// admin runs a statement in a session of its own.
func (s *Server) admin(ctx context.Context, sql string) error {
	conn, err := pgx.Connect(ctx, s.DatabaseURL("postgres"))
	if err != nil {
		return err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	_, err = conn.Exec(ctx, sql)
	return err
}
