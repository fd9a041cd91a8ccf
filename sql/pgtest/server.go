package pgtest

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net/url"
	"os"
	"strings"
	"sync"

	"github.com/cardwire/cardwire/sql/pgserver"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

// A server is what the tests of this process share.
type server struct {
	admin     *pgxpool.Pool // on a database of the server that always exists
	base      *url.URL
	template  string
	throwaway *pgserver.Throwaway // nil with TEST_DATABASE_URL
}

// once holds the server of this process: all tests of a package share it, and
// only package state outlives a test.
var once struct {
	sync.Mutex
	done   bool
	server *server
	err    error
}

// shared returns the server of this process, started by the first call. When
// that failed, so do all later calls: tests then fail fast and for one reason.
func shared(ctx context.Context) (*server, error) {
	once.Lock()
	defer once.Unlock()
	if !once.done {
		once.server, once.err = start(ctx)
		once.done = true
	}
	return once.server, once.err
}

// closeShared stops the server of this process, if there is one.
func closeShared() error {
	once.Lock()
	defer once.Unlock()
	if once.server == nil {
		return nil
	}
	err := once.server.close()
	once.server, once.err = nil, errors.New("the tests of this process have ended")
	return err
}

func start(ctx context.Context) (*server, error) {
	s := &server{}
	raw := os.Getenv("TEST_DATABASE_URL")
	if raw == "" {
		t, err := pgserver.NewThrowaway(ctx, logger())
		if err != nil {
			return nil, err
		}
		s.throwaway, raw = t, t.URL()
	}
	var err error
	if s.base, err = url.Parse(raw); err != nil || !strings.HasPrefix(s.base.Scheme, "postgres") {
		return nil, errors.Join(errors.New("TEST_DATABASE_URL is no URL of the form postgres://…"), s.close())
	}
	if s.admin, err = pgxpool.New(ctx, raw); err == nil {
		s.template, err = makeTemplate(ctx, s)
	}
	if err != nil {
		return nil, errors.Join(err, s.close())
	}
	return s, nil
}

func (s *server) close() error {
	if s.admin != nil {
		s.admin.Close()
	}
	if s.throwaway != nil {
		return s.throwaway.Close()
	}
	return nil
}

// url returns how to connect to the database of that name.
func (s *server) url(database string) string {
	u := *s.base
	u.Path = "/" + database
	return u.String()
}

// createDatabase makes a copy of the template under a new name.
func (s *server) createDatabase(ctx context.Context) (name string, err error) {
	name = "cardwire_test_" + strings.ToLower(rand.Text())
	_, err = s.admin.Exec(ctx, "CREATE DATABASE "+quote(name)+" TEMPLATE "+quote(s.template))
	if err != nil {
		return "", fmt.Errorf("copy template %s: %w", s.template, err)
	}
	return name, nil
}

// dropDatabase drops a database, ending the sessions that are on it.
func (s *server) dropDatabase(ctx context.Context, name string) error {
	if _, err := s.admin.Exec(ctx, "DROP DATABASE IF EXISTS "+quote(name)+" WITH (FORCE)"); err != nil {
		return fmt.Errorf("drop database %s: %w", name, err)
	}
	return nil
}

func quote(name string) string { return pgx.Identifier{name}.Sanitize() }
