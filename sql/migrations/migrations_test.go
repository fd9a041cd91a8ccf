package migrations

import (
	"bytes"
	"context"
	"strings"
	"sync"
	"testing"
	"testing/fstest"

	"github.com/jackc/pgx/v5"
	"github.com/rs/zerolog"

	"github.com/cardwire/cardwire/sql/pgserver"
)

// emptyDatabase returns the URL of one. (pgtest imports this package and would
// migrate it.)
func emptyDatabase(t *testing.T) string {
	t.Helper()
	pg, err := pgserver.NewThrowaway(t.Context(), zerolog.New(t.Output()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := pg.Close(); err != nil {
			t.Error(err)
		}
	})
	return pg.URL()
}

func connect(t *testing.T, url string) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	// Also keeps it: the collector closes a connection that a test has used for
	// the last time, and with it go its locks.
	t.Cleanup(func() { _ = conn.Close(context.WithoutCancel(t.Context())) })
	return conn
}

func TestUpByManyAtOnceAppliesEachMigrationOnce(t *testing.T) {
	t.Parallel()
	url := emptyDatabase(t)
	conn := connect(t, url)
	want, err := Latest()
	if err != nil || want < 1 {
		t.Fatalf("Latest() = %d, %v", want, err)
	}
	if v, err := Version(t.Context(), conn); err != nil || v != 0 {
		t.Errorf("version of an empty database: %d, %v; want 0", v, err)
	}
	if pending, err := Pending(t.Context(), conn); err != nil || !pending {
		t.Errorf("pending on an empty database: %t, %v; want true", pending, err)
	}

	var logged bytes.Buffer
	log := zerolog.New(zerolog.SyncWriter(&logged))
	var wg sync.WaitGroup
	for range 3 {
		wg.Go(func() {
			if err := Up(t.Context(), url, log); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if n := strings.Count(logged.String(), `"migration applied"`); int64(n) != want {
		t.Errorf("%d migrations applied, want %d:\n%s", n, want, &logged)
	}
	if v, err := Version(t.Context(), conn); err != nil || v != want {
		t.Errorf("version %d, %v; want %d", v, err, want)
	}
	if pending, err := Pending(t.Context(), conn); err != nil || pending {
		t.Errorf("pending afterwards: %t, %v; want false", pending, err)
	}
}

func TestFailedMigrationIsNamedAndTakenUpAgain(t *testing.T) {
	t.Parallel()
	url := emptyDatabase(t)
	conn := connect(t, url)
	file := func(sql string) *fstest.MapFile { return &fstest.MapFile{Data: []byte("-- +goose Up\n" + sql + ";\n")} }
	fsys := fstest.MapFS{
		"00001_good.sql":  file("CREATE TABLE good ()"),
		"00002_wrong.sql": file("CREATE TABLE half (); CREATE TABLE good ()"),
	}
	err := up(t.Context(), url, fsys, zerolog.New(t.Output()))
	if err == nil || !strings.Contains(err.Error(), "00002_wrong.sql") || !strings.Contains(err.Error(), `"good" already exists`) {
		t.Errorf("error %v; want the file and the cause", err)
	}
	fsys["00002_wrong.sql"] = file("CREATE TABLE half ()")
	if err := up(t.Context(), url, fsys, zerolog.New(t.Output())); err != nil {
		t.Error(err)
	}
	if v, err := Version(t.Context(), conn); err != nil || v != 2 {
		t.Errorf("version %d, %v; want 2", v, err)
	}
}

func TestUpHidesThePassword(t *testing.T) {
	t.Parallel()
	err := Up(t.Context(), "postgres://u:secret@127.0.0.1:1/x?connect_timeout=1", zerolog.Nop())
	if err == nil || strings.Contains(err.Error(), "secret") {
		t.Errorf("error %v; want one without the password", err)
	}
	err = Up(t.Context(), "postgres://u:secret@localhost:port/x", zerolog.Nop())
	if err == nil || strings.Contains(err.Error(), "secret") {
		t.Errorf("error %v; want one without the password", err)
	}
}

func TestEveryMigrationCountsInSum(t *testing.T) {
	t.Parallel()
	a, err := sum(fstest.MapFS{"1_a.sql": {Data: []byte("a")}, "2_b.sql": {Data: []byte("b")}})
	if err != nil {
		t.Fatal(err)
	}
	for name, other := range map[string]fstest.MapFS{
		"a changed file": {"1_a.sql": {Data: []byte("a")}, "2_b.sql": {Data: []byte("c")}},
		"a renamed file": {"1_a.sql": {Data: []byte("a")}, "2_c.sql": {Data: []byte("b")}},
		"a missing file": {"1_a.sql": {Data: []byte("a")}},
	} {
		if b, err := sum(other); err != nil || a == b {
			t.Errorf("%s: sum %s, %v; want another one", name, b, err)
		}
	}
}
