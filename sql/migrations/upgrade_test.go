package migrations

import (
	"bytes"
	"context"
	"io/fs"
	"strings"
	"sync"
	"testing"
	"testing/fstest"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/rs/zerolog"
)

// bound turns a hang into a failure.
const bound = 60 * time.Second

// A logBuffer is a log that a test can wait for.
type logBuffer struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *logBuffer) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(b)
}

func (l *logBuffer) has(s string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Contains(l.text.String(), s)
}

// await polls for what happens in another process, which has no way to tell.
func await(t *testing.T, what string, ok func() bool) {
	t.Helper()
	deadline := time.Now().Add(bound)
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		if time.Now().After(deadline) {
			t.Fatalf("%s: not within %s", what, bound)
		}
		<-tick.C
	}
}

// backend is the process of PostgreSQL that does something, as its activity tells; 0 if none.
func backend(t *testing.T, conn *pgx.Conn, where string) (pid int) {
	t.Helper()
	err := conn.QueryRow(t.Context(), `SELECT coalesce(max(pid), 0) FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND `+where).Scan(&pid)
	if err != nil {
		t.Fatal(err)
	}
	return pid
}

func exec(t *testing.T, conn *pgx.Conn, sql string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), bound)
	defer cancel()
	if _, err := conn.Exec(ctx, sql); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
}

func exists(t *testing.T, conn *pgx.Conn, table string) (yes bool) {
	t.Helper()
	if err := conn.QueryRow(t.Context(), `SELECT to_regclass($1) IS NOT NULL`, table).Scan(&yes); err != nil {
		t.Fatal(err)
	}
	return yes
}

func sqlFile(sql string) *fstest.MapFile {
	return &fstest.MapFile{Data: []byte("-- +goose Up\n" + sql + ";\n")}
}

func TestAMigrationWhoseConnectionIsLostHalfwayIsUndoneAndTakenUpAgain(t *testing.T) {
	t.Parallel()
	url := emptyDatabase(t)
	conn := connect(t, url)
	fsys := fstest.MapFS{
		"00001_good.sql": sqlFile("CREATE TABLE good ()"),
		"00002_slow.sql": sqlFile("CREATE TABLE half (); SELECT pg_sleep(3600)"),
	}
	done := make(chan error, 1)
	go func() { done <- up(t.Context(), url, fsys, zerolog.New(t.Output())) }()
	await(t, "the second migration to be halfway", func() bool { return backend(t, conn, `query LIKE '%pg_sleep%' AND wait_event = 'PgSleep'`) != 0 })
	exec(t, conn, `SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND wait_event = 'PgSleep'`)
	if err := <-done; err == nil || !strings.Contains(err.Error(), "00002_slow.sql") {
		t.Errorf("error %v; want one that names the file", err)
	}
	if v, err := Version(t.Context(), conn); err != nil || v != 1 || exists(t, conn, "half") {
		t.Errorf("version %d, %v, half there: %t; want what the first migration made and nothing of the second", v, err, exists(t, conn, "half"))
	}
	fsys["00002_slow.sql"] = sqlFile("CREATE TABLE half ()")
	if err := up(t.Context(), url, fsys, zerolog.New(t.Output())); err != nil { // the lock of the lost session is gone with it
		t.Error(err)
	}
	if !exists(t, conn, "half") {
		t.Error("the second migration was not taken up again")
	}
}

// Of the migrations that are no transaction, what was done stays done.
func TestIndexesThatWereInterruptedAreGoneOnWith(t *testing.T) {
	t.Parallel()
	url := emptyDatabase(t)
	conn, holder := connect(t, url), connect(t, url)
	if err := up(t.Context(), url, before(t, "00004"), zerolog.New(t.Output())); err != nil {
		t.Fatal(err)
	}
	exec(t, conn, `SELECT ensure_partitions(current_date, current_date + 5)`)
	// Whatever the order in which it takes them, it comes to this one.
	var child string
	if err := conn.QueryRow(t.Context(), `SELECT 'deliveries_p' || to_char(current_date + 3, 'YYYYMMDD')`).Scan(&child); err != nil {
		t.Fatal(err)
	}
	exec(t, holder, `BEGIN`)
	exec(t, holder, `LOCK TABLE `+child+` IN ROW EXCLUSIVE MODE`) // as a fan-out that hangs
	done := make(chan error, 1)
	log := &logBuffer{}
	go func() { done <- Up(t.Context(), url, zerolog.New(log)) }()
	const waits = `wait_event_type = 'Lock' AND query LIKE '%deliveries_waiting_endpoint_idx%'`
	await(t, "the migration to wait for a partition", func() bool { return backend(t, conn, waits) != 0 })
	exec(t, conn, `SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE `+waits)
	if err := <-done; err == nil {
		t.Error("a migration whose connection was cut ended without an error")
	}
	exec(t, holder, `COMMIT`)
	if err := Up(t.Context(), url, zerolog.New(t.Output())); err != nil {
		t.Fatal(err)
	}
	var missing int
	err := conn.QueryRow(t.Context(), `
		SELECT count(*) FROM pg_class p JOIN pg_index x ON x.indexrelid = p.oid
		WHERE p.relname IN ('deliveries_waiting_endpoint_idx', 'deliveries_waiting_time_idx')
		  AND (NOT x.indisvalid OR (SELECT count(*) FROM pg_inherits i WHERE i.inhparent = p.oid) <> (SELECT count(*) FROM pg_inherits i WHERE i.inhparent = 'deliveries'::regclass))`).Scan(&missing)
	if err != nil || missing != 0 {
		t.Errorf("%d indexes lack a partition or are not valid, %v", missing, err)
	}
}

// before is the migrations before a number.
func before(t *testing.T, number string) fs.FS {
	t.Helper()
	fsys := fstest.MapFS{}
	names, err := fs.Glob(files, "*.sql")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		if name < number {
			b, err := fs.ReadFile(files, name)
			if err != nil {
				t.Fatal(err)
			}
			fsys[name] = &fstest.MapFile{Data: b}
		}
	}
	return fsys
}

// A transaction that stays open keeps a migration from its table. The migration
// must not keep everybody else from it meanwhile.
func TestAMigrationThatWaitsForATableDoesNotBlockOthers(t *testing.T) {
	t.Parallel()
	url := emptyDatabase(t)
	holder, traffic, watch := connect(t, url), connect(t, url), connect(t, url)
	exec(t, holder, `CREATE TABLE busy (n int)`)
	exec(t, holder, `BEGIN`)
	exec(t, holder, `INSERT INTO busy VALUES (0)`)

	log := &logBuffer{}
	fsys := fstest.MapFS{"00001_wants.sql": sqlFile("ALTER TABLE busy ADD COLUMN wanted int")}
	done := make(chan error, 1)
	go func() { done <- up(t.Context(), url, fsys, zerolog.New(log)) }()
	await(t, "the migration to wait", func() bool {
		return backend(t, watch, `wait_event_type = 'Lock' AND query LIKE 'ALTER TABLE busy%'`) != 0
	})
	exec(t, traffic, `INSERT INTO busy VALUES (1)`) // behind the migration, while the holder is still there
	await(t, "the migration to say why it waits", func() bool { return log.has("migration waits for a table that is in use") })
	exec(t, traffic, `INSERT INTO busy VALUES (2)`)

	exec(t, holder, `COMMIT`)
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	exec(t, traffic, `INSERT INTO busy (n, wanted) VALUES (3, 3)`)
}

func TestAMigratorThatIsToldToStopStopsWaiting(t *testing.T) {
	t.Parallel()
	url := emptyDatabase(t)
	holder := connect(t, url)
	exec(t, holder, `CREATE TABLE busy (n int)`)
	exec(t, holder, `BEGIN`)
	exec(t, holder, `LOCK TABLE busy`)
	log := &logBuffer{}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		done <- up(ctx, url, fstest.MapFS{"00001_wants.sql": sqlFile("ALTER TABLE busy ADD COLUMN wanted int")}, zerolog.New(log))
	}()
	await(t, "the migration to give up once", func() bool { return log.has("migration waits") })
	cancel()
	if err := <-done; err == nil {
		t.Error("no error")
	}
}
