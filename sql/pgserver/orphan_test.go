package pgserver

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestOneServerForADirectory(t *testing.T) {
	t.Parallel()
	cfg := config(t)
	s := begin(t, cfg)
	if _, err := Start(t.Context(), cfg); err == nil || !strings.Contains(err.Error(), "another process uses this directory") {
		t.Errorf("second start: %v; want an error that says that it is in use", err)
	}
	read(t, s.URL(), "SELECT 'still there'")
}

func TestServerLeftByADeadProcessIsStopped(t *testing.T) {
	t.Parallel()
	cfg := config(t)
	orphan := begin(t, cfg)
	execute(t, orphan.URL(), "CREATE TABLE kept AS SELECT 'a row' AS what")
	orphan.unlock() // as the kernel does when a process dies
	orphan.unlock = nil
	s := begin(t, cfg)
	if err := orphan.Wait(); err == nil {
		t.Error("the orphan was stopped by its own process; want by the new start")
	}
	if got := read(t, s.URL(), "SELECT what FROM kept"); got != "a row" {
		t.Errorf("read %q", got)
	}
}

func TestStalePIDFileDoesNotStopAStart(t *testing.T) {
	t.Parallel()
	for name, content := range map[string]string{
		"a dead process":             "4194304\n",
		"a process of somebody else": "1\n",
		"nothing":                    "",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cfg := config(t)
			s := begin(t, cfg)
			if err := s.Stop(t.Context()); err != nil {
				t.Fatal(err)
			}
			for _, stale := range []string{
				filepath.Join(s.cluster.data, "postmaster.pid"),
				filepath.Join(s.cluster.socketDir, ".s.PGSQL."+port+".lock"),
			} {
				if err := os.WriteFile(stale, []byte(content), 0o600); err != nil {
					t.Fatal(err)
				}
				if err := s.cluster.owner.own(stale); err != nil {
					t.Fatal(err)
				}
			}
			begin(t, cfg)
		})
	}
}
