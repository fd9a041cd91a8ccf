package migrations

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"testing/fstest"

	"github.com/rs/zerolog"
)

// A saying is a log that calls back when a line contains a text.
type saying struct {
	text string
	then func()
}

func (s saying) Write(line []byte) (int, error) {
	if strings.Contains(string(line), s.text) {
		s.then()
	}
	return len(line), nil
}

func TestAMigrationThatIsKilledIsGoneOnWith(t *testing.T) {
	t.Parallel()
	url := emptyDatabase(t)
	conn := connect(t, url)
	// The second file ends its own connection halfway, as a kill would; the
	// third is one that commits as it goes and may be run again.
	killed := fstest.MapFS{
		"00001_a.sql": {Data: []byte("-- +goose Up\nCREATE TABLE a ();\n")},
		"00002_b.sql": {Data: []byte("-- +goose Up\nCREATE TABLE b ();\nSELECT pg_terminate_backend(pg_backend_pid());\n")},
	}
	if err := up(t.Context(), url, killed, zerolog.New(t.Output())); err == nil {
		t.Fatal("no error")
	}
	if v, err := Version(t.Context(), conn); err != nil || v != 1 {
		t.Errorf("version %d, %v; want 1", v, err)
	}
	killed["00002_b.sql"] = &fstest.MapFile{Data: []byte("-- +goose Up\nCREATE TABLE b ();\n")}
	if err := up(t.Context(), url, killed, zerolog.New(t.Output())); err != nil {
		t.Errorf("gone on with: %v", err)
	}
	if v, err := Version(t.Context(), conn); err != nil || v != 2 {
		t.Errorf("version %d, %v; want 2", v, err)
	}
}

// Whoever uses a table in the ordinary way does not wait behind a migration that
// waits for a long transaction.
func TestAMigrationThatCannotHaveItsTableLetsOthersUseIt(t *testing.T) {
	t.Parallel()
	url := emptyDatabase(t)
	holder, user := connect(t, url), connect(t, url)
	if _, err := holder.Exec(t.Context(), "CREATE TABLE busy (n int); INSERT INTO busy VALUES (1)"); err != nil {
		t.Fatal(err)
	}
	tx, err := holder.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tx.Exec(t.Context(), "SELECT n FROM busy"); err != nil { // a report that runs for hours
		t.Fatal(err)
	}
	var waited atomic.Int64
	log := zerolog.New(saying{"in use", func() {
		// It has given up for now: the table is free for others, though not for it.
		if _, err := user.Exec(t.Context(), "SET lock_timeout = '30s'; UPDATE busy SET n = n + 1"); err != nil {
			t.Errorf("an update meanwhile: %v", err)
		}
		if waited.Add(1) == 2 {
			if err := tx.Commit(context.WithoutCancel(t.Context())); err != nil {
				t.Error(err)
			}
		}
	}})
	err = up(t.Context(), url, fstest.MapFS{"00001_a.sql": {Data: []byte("-- +goose Up\nALTER TABLE busy ADD COLUMN m int;\n")}}, log)
	if err != nil {
		t.Fatal(err)
	}
	if n := waited.Load(); n != 2 {
		t.Errorf("gave up for now %d times, want 2", n)
	}
	if _, err := user.Exec(t.Context(), "UPDATE busy SET m = n"); err != nil {
		t.Error(err)
	}
}

func TestAMigrationThatWaitsEndsWithItsContext(t *testing.T) {
	t.Parallel()
	url := emptyDatabase(t)
	holder := connect(t, url)
	if _, err := holder.Exec(t.Context(), "CREATE TABLE busy (n int); BEGIN; SELECT n FROM busy"); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	err := up(ctx, url, fstest.MapFS{"00001_a.sql": {Data: []byte("-- +goose Up\nALTER TABLE busy ADD COLUMN m int;\n")}}, zerolog.New(saying{"in use", cancel}))
	if err == nil || errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "00001_a.sql") {
		t.Errorf("error %v, want one that names the file", err)
	}
}
