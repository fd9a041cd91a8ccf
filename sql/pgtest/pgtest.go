// Package pgtest gives tests a real PostgreSQL: one throwaway server for each
// test process, started by the first test that asks, and an empty migrated
// database for each test, dropped when the test ends. Tests may run in parallel.
//
//	func TestClaim(t *testing.T) {
//		t.Parallel()
//		pool := pgtest.New(t)
//		...
//	}
//
// It takes an installed PostgreSQL, or fetches one ([pgserver.Fetch]). The server
// and its files are gone when the test process ends, be it by a panic, a timeout
// or a kill. With TEST_DATABASE_URL, the URL of a superuser's database, tests use
// that server and leave one database on it, the template.
package pgtest

import (
	"context"
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/rs/zerolog"

	"github.com/cardwire/cardwire/sql/pgserver"
)

// setupTimeout bounds the start of the server and the template, which takes two
// seconds; fetching a PostgreSQL first takes a minute.
const setupTimeout = 5 * time.Minute

// New returns a pool on a database of the test's own, with all migrations
// applied and no rows. It is closed when the test ends.
func New(t testing.TB) *pgxpool.Pool {
	t.Helper()
	pool, err := pgxpool.New(t.Context(), URL(t))
	if err != nil {
		t.Fatalf("connect to the test's database: %v", err)
	}
	t.Cleanup(pool.Close)
	return pool
}

// URL returns how to connect to a database of the test's own, with all
// migrations applied and no rows. The database is dropped when the test ends,
// whoever is still connected to it.
func URL(t testing.TB) string {
	t.Helper()
	ctx, cancel := setupContext(t)
	defer cancel()
	s, err := shared(ctx)
	if err != nil {
		t.Fatalf("start PostgreSQL for tests: %v", err)
	}
	name, err := s.createDatabase(ctx)
	if err != nil {
		t.Fatalf("make the test's database: %v", err)
	}
	t.Cleanup(func() {
		ctx, cancel := setupContext(t)
		defer cancel()
		if err := s.dropDatabase(ctx, name); err != nil {
			t.Errorf("drop the test's database: %v", err)
		}
	})
	return s.url(name)
}

// NewServer starts a server for this test alone, which it may stop and start
// again at will (StopNow, Restart). Its database is empty: migrate it with
// migrations.Up where that matters. It takes about a second.
func NewServer(t testing.TB) *pgserver.Server {
	t.Helper()
	ctx, cancel := setupContext(t)
	defer cancel()
	s, err := pgserver.NewThrowaway(ctx, logger())
	if err != nil {
		t.Fatalf("start PostgreSQL for a test: %v", err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Errorf("stop the test's PostgreSQL: %v", err)
		}
	})
	return s.Server
}

// Main runs the tests and then stops the server that they shared, before the
// process ends rather than because it does:
//
//	func TestMain(m *testing.M) { os.Exit(pgtest.Main(m)) }
//
// It is optional: wanted where something counts goroutines at the end.
func Main(m *testing.M) int {
	code := m.Run()
	if err := closeShared(); err != nil {
		fmt.Fprintln(os.Stderr, "stop PostgreSQL for tests:", err)
		code = max(code, 1)
	}
	return code
}

// logger prints what a person may wait for, such as a fetch, and what goes wrong.
func logger() zerolog.Logger {
	return zerolog.New(os.Stderr).Level(zerolog.WarnLevel).With().Timestamp().Logger()
}

// setupContext is a context that outlives the test's own, which has ended when
// clean-ups run, and which must not bound a server that other tests share.
func setupContext(t testing.TB) (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.WithoutCancel(t.Context()), setupTimeout)
}
