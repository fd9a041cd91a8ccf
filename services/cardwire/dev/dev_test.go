package dev

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestLogFile(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "x.log")
	read := func(name string) string {
		b, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	l, err := openLog(path)
	if err != nil {
		t.Fatal(err)
	}
	l.max = 10
	for i := range 5 {
		fmt.Fprintf(l, "line%d\n", i) // two would be more than max
	}
	if old, now := read(path+".1"), read(path); old != "line3\n" || now != "line4\n" {
		t.Errorf("full: %q, then %q", old, now)
	}
	if _, err := l.Write([]byte(strings.Repeat("x", 20))); err != nil {
		t.Errorf("a line beyond the bound: %v", err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	again, err := openLog(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := again.Close(); err != nil {
		t.Fatal(err)
	}
	if old, now := read(path+".1"), read(path); old != strings.Repeat("x", 20) || now != "" {
		t.Errorf("opened again: %q, then %q", old, now)
	}
}

func TestLoggerLevels(t *testing.T) {
	t.Parallel()
	var file, terminal bytes.Buffer
	log := newLogger(Config{LogLevel: "info", Log: "warn"}, &file, &terminal)
	log.Debug().Msg("one")
	log.Info().Msg("two")
	log.Warn().Msg("three")
	if n := strings.Count(file.String(), "\n"); n != 2 || strings.Contains(file.String(), "one") {
		t.Errorf("file has %d lines: %s", n, file.String())
	}
	if strings.Contains(terminal.String(), "two") || !strings.Contains(terminal.String(), "three") {
		t.Errorf("terminal: %s", terminal.String())
	}
}

func TestCalm(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	now := time.Unix(0, 0)
	c := &calm{w: &out, log: "x.log", now: func() time.Time { return now }}
	for range 100 {
		fmt.Fprintln(c, "line")
	}
	now = now.Add(time.Second)
	fmt.Fprintln(c, "last")
	if want := strings.Repeat("line\n", calmLines) + "… 90 more such lines in x.log\nlast\n"; out.String() != want {
		t.Errorf("%q, want %q", out.String(), want)
	}
}

func TestCheckAddr(t *testing.T) {
	t.Parallel()
	for _, addr := range []string{"127.0.0.1:0", "localhost:0", ":0", "0.0.0.0:0"} {
		if err := checkAddr(addr); err != nil {
			t.Errorf("%s: %v", addr, err)
		}
	}
	for _, addr := range []string{"127.0.0.1", "192.0.2.1:0", "127.0.0.1:70000"} {
		if err := checkAddr(addr); err == nil {
			t.Errorf("%s: no error", addr)
		}
	}
}

func TestReachable(t *testing.T) {
	t.Parallel()
	for addr, want := range map[string]string{
		"127.0.0.1:8080": "127.0.0.1:8080",
		"[::1]:8080":     "[::1]:8080",
		"[::]:8080":      "127.0.0.1:8080",
		"0.0.0.0:8080":   "127.0.0.1:8080",
	} {
		if got := reachable(addr); got != want {
			t.Errorf("%s: %s, want %s", addr, got, want)
		}
	}
}

// A shell makes of what is quoted what it was.
func TestShellQuote(t *testing.T) {
	t.Parallel()
	for _, s := range []string{".bin/cardwire", "", "my data", "it's", "$(reboot)", "a;b", "-x", "é"} {
		out, err := exec.CommandContext(t.Context(), "/bin/sh", "-c", "printf %s "+shellQuote(s)).Output()
		if err != nil || string(out) != s {
			t.Errorf("%q as %s: %q, %v", s, shellQuote(s), out, err)
		}
	}
}

func TestFindNATSConf(t *testing.T) {
	dir := t.TempDir()
	t.Chdir(dir)
	// The test's program is in no repository, nor is the directory.
	if file, err := findNATSConf(); err == nil {
		t.Errorf("found %s where there is none", file)
	}
	for _, name := range []string{"nats.conf", "go.work"} {
		if err := os.WriteFile(filepath.Join(dir, name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	below := filepath.Join(dir, "a", "b")
	if err := os.MkdirAll(below, 0o700); err != nil {
		t.Fatal(err)
	}
	t.Chdir(below)
	if file, err := findNATSConf(); err != nil || filepath.Base(filepath.Dir(file)) != filepath.Base(dir) {
		t.Errorf("%s, %v", file, err)
	}
}
