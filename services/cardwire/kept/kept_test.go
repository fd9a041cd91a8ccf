package kept

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
)

const name = "CARDWIRE_TEST_SECRET"

func TestKept(t *testing.T) {
	t.Parallel()
	data := filepath.Join(t.TempDir(), "data")
	if _, err := Find(data, name); !errors.Is(err, ErrNone) {
		t.Errorf("nothing is kept: %v", err)
	}
	made := 0
	fresh := func() (string, error) { made++; return "one", nil }
	for range 2 {
		if v, err := Ensure(data, name, fresh); v != "one" || err != nil || made != 1 {
			t.Errorf("ensure: %q, %v, made %d times", v, err, made)
		}
	}
	if err := Keep(data, name, "two"); err != nil {
		t.Fatal(err)
	}
	if v, err := Ensure(data, name, fresh); v != "two" || err != nil {
		t.Errorf("after another was kept: %q, %v", v, err)
	}
	entries, err := os.ReadDir(Dir(data))
	if err != nil || len(entries) != 1 {
		t.Fatalf("the directory holds %v, %v, want one file", entries, err)
	}
	if info, err := entries[0].Info(); err != nil || info.Mode() != 0o600 {
		t.Errorf("mode %v, %v, want 0600", info.Mode(), err)
	}
	for range 2 {
		if err := Forget(data, name); err != nil {
			t.Error(err)
		}
	}
	if _, err := Find(data, name); !errors.Is(err, ErrNone) {
		t.Errorf("after it was forgotten: %v", err)
	}
}

func TestEmptyFileIsNoSecret(t *testing.T) {
	t.Parallel()
	data := t.TempDir()
	if err := Keep(data, name, ""); err != nil {
		t.Fatal(err)
	}
	if v, err := Ensure(data, name, func() (string, error) { return "fresh", nil }); err == nil {
		t.Errorf("%q, want an error: what the file held may be needed", v)
	}
}

func TestEnvironmentComesFirst(t *testing.T) {
	data := t.TempDir()
	if err := Keep(data, name, "kept"); err != nil {
		t.Fatal(err)
	}
	for set, want := range map[string]string{"given": "given", "": "kept"} {
		t.Setenv(name, set)
		if v, err := Find(data, name); v != want || err != nil {
			t.Errorf("with %q in the environment: %q, %v", set, v, err)
		}
	}
}
