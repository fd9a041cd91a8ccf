package pgserver

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
)

// fake is a package client whose install calls a function.
type fake struct {
	label string
	do    func(want int) error
}

func (f fake) name() string { return f.label }

func (f fake) install(_ context.Context, want int) error { return f.do(want) }

func TestFetchTriesOneClientAfterTheOther(t *testing.T) {
	o, root := bare(t)
	o.Dir = dataOf(t, "16")
	wanted := 0
	b, err := fetch(t.Context(), o, []client{
		fake{"broken", func(int) error { return errors.New("exit status 100") }},
		fake{"wrong version", func(int) error { install(t, filepath.Join(root, "a", "bin"), "17.1"); return nil }},
		fake{"good", func(want int) error {
			wanted = want
			install(t, filepath.Join(root, "b", "bin"), "16.3")
			return nil
		}},
		fake{"not needed", func(int) error { t.Error("a client was asked after one had succeeded"); return nil }},
	})
	if err != nil || b.Version != "16.3" || wanted != 16 {
		t.Errorf("got %v, %v, asked for version %d; want 16.3", b, err, wanted)
	}
}

func TestFetchFailureTellsAllThatWasTried(t *testing.T) {
	o, _ := bare(t)
	_, err := fetch(t.Context(), o, []client{
		fake{"apt-get", func(int) error { return errNotHere }},
		fake{"npm", func(int) error { return errors.New("npm error 404") }},
	})
	if !errors.Is(err, ErrNotFound) {
		t.Errorf("error %v; want ErrNotFound", err)
	}
	for _, part := range []string{"install PostgreSQL 14 or newer", "DATABASE_URL", "apt-get: not usable here", "npm: npm error 404"} {
		if err == nil || !strings.Contains(err.Error(), part) {
			t.Errorf("error %v lacks %q", err, part)
		}
	}
}

func TestFetchesAtOnceInstallOnce(t *testing.T) {
	o, root := bare(t)
	var installs atomic.Int32
	var wg sync.WaitGroup
	for range 5 {
		wg.Go(func() {
			b, err := fetch(t.Context(), o, []client{fake{"one", func(int) error {
				installs.Add(1)
				install(t, filepath.Join(root, "x", "bin"), "17.1")
				return nil
			}}})
			if err != nil || b.Version != "17.1" {
				t.Errorf("got %v, %v; want 17.1", b, err)
			}
		})
	}
	wg.Wait()
	if n := installs.Load(); n != 1 {
		t.Errorf("installed %d times, want once", n)
	}
}

func TestClientsReportWhatThePackageClientSaid(t *testing.T) {
	o, root := bare(t)
	npmScript := "#!/bin/sh\necho npm error code E404\nexit 1\n"
	if err := os.MkdirAll(filepath.Join(root, "path"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(root, "path", "npm"), []byte(npmScript), 0o755); err != nil {
		t.Fatal(err)
	}
	err := npm{dir: o.FetchDir}.install(t.Context(), 0)
	if err == nil || !strings.Contains(err.Error(), "npm error code E404") || !strings.Contains(err.Error(), "18.4.0") {
		t.Errorf("error %v; want the command and what npm said", err)
	}
	if err := (npm{}).install(t.Context(), 12); !errors.Is(err, errNotHere) {
		t.Errorf("version 12 of npm: %v; want errNotHere", err)
	}
	if err := (brew{}).install(t.Context(), 0); !errors.Is(err, errNotHere) {
		t.Errorf("brew where there is none: %v; want errNotHere", err)
	}
	if err := (apt{}).install(t.Context(), 0); !errors.Is(err, errNotHere) {
		t.Errorf("apt-get where there is none: %v; want errNotHere", err)
	}
}

func TestWithoutMainClusterLeavesNothingBehind(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "createcluster.d")
	restore, err := withoutMainCluster(dir)
	if err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(filepath.Join(dir, "cardwire.conf"))
	if err != nil || string(b) != "create_main_cluster = false\n" {
		t.Errorf("configuration %q, %v", b, err)
	}
	restore()
	if entries, err := os.ReadDir(dir); err != nil || len(entries) != 0 {
		t.Errorf("left behind: %v, %v", entries, err)
	}
}

func TestLinkMakesTheLinksThatNPMCannotHold(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	lib := filepath.Join(root, "native", "lib")
	if err := os.MkdirAll(lib, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(lib, "libpq.so.5.18"), []byte("lib"), 0o644); err != nil {
		t.Fatal(err)
	}
	list := filepath.Join(root, "native", "pg-symlinks.json")
	if err := os.WriteFile(list, []byte(`[{"source":"native/lib/libpq.so.5.18","target":"native/lib/libpq.so.5"}]`), 0o644); err != nil {
		t.Fatal(err)
	}
	for range 2 { // a second fetch finds the links there
		if err := link(root); err != nil {
			t.Fatal(err)
		}
	}
	if b, err := os.ReadFile(filepath.Join(lib, "libpq.so.5")); err != nil || string(b) != "lib" {
		t.Errorf("the link leads to %q, %v", b, err)
	}
	if err := os.WriteFile(list, []byte(`[{"source":"native/lib/x","target":"../../x"}]`), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := link(root); err == nil {
		t.Error("a link out of the package was made")
	}
}
