package pgserver

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestRefusedDirectories(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ name, file, content, want string }{
		{"data of another version", "data/PG_VERSION", "9\n", "the data was made by PostgreSQL 9"},
		{"data that isn't any", "data/letter.txt", "dear", "holds files but no PostgreSQL data"},
		{"a directory with somebody's files", "letter.txt", "dear", "needs a directory of its own"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			cfg := config(t)
			file := filepath.Join(cfg.Dir, tt.file)
			if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(file, []byte(tt.content), 0o644); err != nil {
				t.Fatal(err)
			}
			_, err := Start(t.Context(), cfg)
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error %v; want %q", err, tt.want)
			}
			if b, err := os.ReadFile(file); err != nil || string(b) != tt.content {
				t.Errorf("the file holds %q, %v; want it untouched", b, err)
			}
		})
	}
}

func TestPathsThatNoSocketCanHaveGetAnother(t *testing.T) {
	t.Parallel()
	for name, part := range map[string]string{
		"too long":                   strings.Repeat("long/", 20),
		"with a comma":               "a,b",
		"with all else that's legal": `a 'b' "c" %d+e&f=g`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cfg := config(t)
			cfg.Dir = filepath.Join(openDir(t), part)
			s := begin(t, cfg)
			read(t, s.URL(), "SELECT 'reached'")
			if len(s.cluster.socketDir)+len("/.s.PGSQL.5432") > maxSocketPath {
				t.Errorf("the socket's directory %s is too long", s.cluster.socketDir)
			}
			if err := s.Stop(t.Context()); err != nil {
				t.Fatal(err)
			}
			if _, err := os.Stat(s.cluster.socketDir); !strings.HasPrefix(s.cluster.socketDir, cfg.Dir) && !errors.Is(err, os.ErrNotExist) {
				t.Errorf("the socket's directory is left: %v", err)
			}
		})
	}
}

// Root's servers run as another user, which can't reach what only root can.
func TestUnreachableDirectoryOfRootIsReplaced(t *testing.T) {
	t.Parallel()
	cfg := config(t)
	closed := t.TempDir()
	if err := os.Chmod(closed, 0o700); err != nil {
		t.Fatal(err)
	}
	cfg.Dir = filepath.Join(closed, "pg")
	want := cfg.Dir
	if os.Geteuid() == 0 {
		want = relocated(cfg.Dir)
		t.Cleanup(func() { os.RemoveAll(want) })
	}
	s := begin(t, cfg)
	if s.Dir() != want {
		t.Errorf("it is in %s, want %s", s.Dir(), want)
	}
	execute(t, s.URL(), "CREATE TABLE kept AS SELECT 'a row' AS what")
	if err := s.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	if major, err := wantedMajor(cfg.Dir); err != nil || major != cfg.Bin.Major {
		t.Errorf("the data wants version %d, %v; want %d", major, err, cfg.Bin.Major)
	}
	again := begin(t, cfg)
	if got := read(t, again.URL(), "SELECT what FROM kept"); got != "a row" {
		t.Errorf("read %q", got)
	}
}
