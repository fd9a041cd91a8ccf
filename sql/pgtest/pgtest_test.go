package pgtest

import (
	"context"
	"fmt"
	"os"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/cardwire/cardwire/sql/migrations"
)

func TestMain(m *testing.M) { os.Exit(Main(m)) }

func TestEachTestHasItsOwnMigratedDatabase(t *testing.T) {
	t.Parallel()
	for i := range 8 {
		t.Run(fmt.Sprint(i), func(t *testing.T) {
			t.Parallel()
			pool := New(t)
			if pending, err := migrations.Pending(t.Context(), pool); err != nil || pending {
				t.Errorf("migrations pending: %t, %v; want none", pending, err)
			}
			if _, err := pool.Exec(t.Context(), "CREATE TABLE mine ()"); err != nil {
				t.Errorf("another test's table is here: %v", err)
			}
		})
	}
}

func TestDatabaseIsGoneAfterTheTest(t *testing.T) {
	t.Parallel()
	var url string
	var conn *pgx.Conn
	t.Run("inner", func(t *testing.T) {
		url = URL(t)
		var err error
		if conn, err = pgx.Connect(t.Context(), url); err != nil { // left open: it must not hold up the drop
			t.Fatal(err)
		}
	})
	defer conn.Close(t.Context())
	if conn, err := pgx.Connect(t.Context(), url); err == nil {
		conn.Close(t.Context())
		t.Error("the database is still there")
	}
}

func TestOwnServerMayBeStoppedAndStarted(t *testing.T) {
	t.Parallel()
	s := NewServer(t)
	pool, err := pgxpool.New(t.Context(), s.URL())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pool.Close)
	if _, err := pool.Exec(t.Context(), "CREATE TABLE kept AS SELECT 1 AS n"); err != nil {
		t.Fatal(err)
	}
	if err := s.StopNow(); err != nil {
		t.Fatal(err)
	}
	if err := pool.Ping(t.Context()); err == nil {
		t.Error("a stopped server answered")
	}
	if err := s.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	var n int
	if err := pool.QueryRow(t.Context(), "SELECT n FROM kept").Scan(&n); err != nil || n != 1 {
		t.Errorf("read %d, %v; want what was committed before", n, err)
	}
}

// A second process with TEST_DATABASE_URL meets a server that has templates.
func TestTemplatesOfAServer(t *testing.T) {
	own := NewServer(t)
	t.Setenv("TEST_DATABASE_URL", own.URL())
	admin, err := pgxpool.New(t.Context(), own.URL())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(admin.Close)
	for _, stmt := range []string{
		"CREATE DATABASE " + templatePrefix + "2000_01_01_old",
		"CREATE DATABASE unrelated",
	} {
		if _, err := admin.Exec(t.Context(), stmt); err != nil {
			t.Fatal(err)
		}
	}
	var template string
	for range 2 {
		s, err := start(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if s.throwaway != nil {
			t.Error("a server was started beside the given one")
		}
		if template != "" && s.template != template {
			t.Errorf("template %s; want the one that exists, %s", s.template, template)
		}
		template = s.template
		name, err := s.createDatabase(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		pool, err := pgxpool.New(t.Context(), s.url(name))
		if err != nil {
			t.Fatal(err)
		}
		if pending, err := migrations.Pending(t.Context(), pool); err != nil || pending {
			t.Errorf("migrations pending: %t, %v; want none", pending, err)
		}
		pool.Close()
		if err := s.close(); err != nil {
			t.Error(err)
		}
	}
	var old, unrelated bool
	err = admin.QueryRow(t.Context(),
		"SELECT bool_or(datname LIKE '%old'), bool_or(datname = 'unrelated') FROM pg_database").Scan(&old, &unrelated)
	if err != nil || old || !unrelated {
		t.Errorf("old template there: %t, unrelated database there: %t, %v", old, unrelated, err)
	}
}

func TestUnusableURLIsExplained(t *testing.T) {
	t.Setenv("TEST_DATABASE_URL", "host=localhost dbname=x")
	if s, err := start(context.WithoutCancel(t.Context())); err == nil {
		t.Errorf("started %v with keywords instead of a URL", s)
	}
}

func BenchmarkURL(b *testing.B) {
	for b.Loop() {
		b.StopTimer()
		ctx := b.Context()
		s, err := shared(ctx)
		if err != nil {
			b.Fatal(err)
		}
		b.StartTimer()
		name, err := s.createDatabase(ctx)
		if err != nil {
			b.Fatal(err)
		}
		if err := s.dropDatabase(ctx, name); err != nil {
			b.Fatal(err)
		}
	}
}
