package pgserver

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"
	"github.com/rs/zerolog"
)

// config is a durable server on a new directory.
func config(t *testing.T) Config {
	t.Helper()
	bin, err := Ensure(t.Context(), Options{Log: zerolog.New(t.Output())})
	if err != nil {
		t.Fatal(err)
	}
	return Config{Bin: bin, Dir: filepath.Join(openDir(t), "pg"), Log: zerolog.New(t.Output())}
}

// openDir is a t.TempDir that the user of root's servers can reach, too, and
// that lies in memory where there is enough.
func openDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp(throwawayBase(), "cardwire-test-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return dir
}

// begin starts a server that the test's end stops.
func begin(t *testing.T, cfg Config) *Server {
	t.Helper()
	s, err := Start(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.StopNow(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func connect(t *testing.T, url string) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close(context.WithoutCancel(t.Context())) })
	return conn
}

func execute(t *testing.T, url, sql string) {
	t.Helper()
	if _, err := connect(t, url).Exec(t.Context(), sql); err != nil {
		t.Fatal(err)
	}
}

// read returns the first column of the first row.
func read(t *testing.T, url, sql string) string {
	t.Helper()
	var s string
	if err := connect(t, url).QueryRow(t.Context(), sql).Scan(&s); err != nil {
		t.Fatal(err)
	}
	return s
}

func TestDataIsThereAfterAStopAndAStart(t *testing.T) {
	t.Parallel()
	cfg := config(t)
	s := begin(t, cfg)
	execute(t, s.URL(), "CREATE TABLE kept AS SELECT 'a row' AS what")
	if err := s.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := s.Wait(); err != nil {
		t.Errorf("Wait after Stop: %v", err)
	}
	if err := s.Stop(t.Context()); err != nil {
		t.Errorf("second Stop: %v", err)
	}
	again := begin(t, cfg)
	if got := read(t, again.URL(), "SELECT what FROM kept"); got != "a row" {
		t.Errorf("read %q", got)
	}
	if again.URL() != s.URL() {
		t.Errorf("the URL changed from %s to %s", s.URL(), again.URL())
	}
}

func TestSettings(t *testing.T) {
	t.Parallel()
	cfg := config(t)
	durable := begin(t, cfg)
	cfg.Dir, cfg.Throwaway, cfg.Database = filepath.Join(openDir(t), "pg"), true, "other name"
	throwaway := begin(t, cfg)

	show := "SELECT string_agg(name || '=' || setting, ' ' ORDER BY name COLLATE \"C\") FROM pg_settings WHERE name IN " +
		"('fsync', 'synchronous_commit', 'full_page_writes', 'listen_addresses', 'jit', 'max_connections', 'TimeZone')"
	common := " jit=off listen_addresses= max_connections=200 "
	got := []string{read(t, durable.URL(), show), read(t, throwaway.URL(), show)}
	want := []string{
		"TimeZone=UTC fsync=on full_page_writes=on" + common + "synchronous_commit=on",
		"TimeZone=UTC fsync=off full_page_writes=off" + common + "synchronous_commit=on",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("settings (-want +got):\n%s", diff)
	}
	if got := read(t, throwaway.URL(), "SELECT current_database()"); got != "other name" {
		t.Errorf("database %q", got)
	}
	if pgid, err := syscall.Getpgid(durable.PID()); err != nil || pgid != durable.PID() {
		t.Errorf("process group %d, %v; want its own, %d, so that Ctrl-C doesn't reach it", pgid, err, durable.PID())
	}
	if info, err := os.Stat(durable.cluster.socketDir); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("the socket's directory: %v, %v; want it closed to other users", info, err)
	}
}

func TestRestartAfterKillRecovers(t *testing.T) {
	t.Parallel()
	s := begin(t, config(t))
	execute(t, s.URL(), "CREATE TABLE kept AS SELECT 'a row' AS what")
	if err := syscall.Kill(s.PID(), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if err := s.Wait(); err == nil || !strings.Contains(err.Error(), "killed") {
		t.Errorf("Wait after a kill: %v; want an error that says so", err)
	}
	for range 2 { // of a server that ended by itself, then of one that runs
		if err := s.Restart(t.Context()); err != nil {
			t.Fatal(err)
		}
		if got := read(t, s.URL(), "SELECT what FROM kept"); got != "a row" {
			t.Errorf("read %q", got)
		}
	}
	if err := s.StopNow(); err != nil {
		t.Fatal(err)
	}
	if err := s.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func TestFailedStartQuotesTheLog(t *testing.T) {
	t.Parallel()
	cfg := config(t)
	s := begin(t, cfg)
	if err := s.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	conf := filepath.Join(s.cluster.data, "postgresql.conf")
	if err := os.WriteFile(conf, []byte("nonsense = = 1\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	_, err := Start(t.Context(), cfg)
	if err == nil || !strings.Contains(err.Error(), "syntax error") {
		t.Errorf("error %v; want PostgreSQL's own words", err)
	}
	if _, err := os.Stat(s.cluster.logPath()); err != nil {
		t.Errorf("no log: %v", err)
	}
}
