package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestCommandGetsADatabaseAndItsCodeIsKept(t *testing.T) {
	t.Parallel()
	out := filepath.Join(t.TempDir(), "url")
	code, err := run(t.Context(), "sh", "-c", `echo "$DATABASE_URL" > "$1"; exit 7`, "sh", out)
	if err != nil || code != 7 {
		t.Errorf("code %d, %v; want the command's 7", code, err)
	}
	if b, err := os.ReadFile(out); err != nil || !strings.HasPrefix(string(b), "postgres://") {
		t.Errorf("DATABASE_URL %q, %v", b, err)
	}
}

func TestMissingCommand(t *testing.T) {
	t.Parallel()
	code, err := run(t.Context(), "no-such-command-here")
	if code != 1 || err == nil || !strings.Contains(err.Error(), "no-such-command-here") {
		t.Errorf("code %d, %v; want 1 and its name", code, err)
	}
}
