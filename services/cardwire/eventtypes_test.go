package main

import (
	"os"
	"path/filepath"
	"testing"
)

func TestEventTypesCheck(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	write := func(name, schema string) (path string) {
		path = filepath.Join(dir, name)
		text := `[{"name":"order.paid","description":"d","schema":` + schema + `,
			"example":{"type":"order.paid","timestamp":"2026-08-02T17:45:09Z","data":{"amount":1,"currency":"EUR"}}}]`
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	older := write("old.json", `{"properties": {"amount": {"type": ["integer", "null"]}, "note": {}}}`)
	wider := write("wider.json", `{"properties": {"amount": {"type": ["integer", "null"]}, "note": {}, "currency": {}}}`)
	narrower := write("narrower.json", `{"properties": {"amount": {"type": "integer"}}, "required": ["amount"]}`)
	broken := write("broken.json", `{"type": 7}`)
	const breaks = "order.paid: data/amount: type is narrowed: null is no longer allowed\n" +
		"order.paid: data/note: the member is removed\n" +
		"order.paid: data/amount: the member is newly required\n"
	for _, tt := range []struct {
		name, older, newer, out, says string
		code                          int
	}{
		{"the same", older, older, "", "is compatible with", 0},
		{"something more", older, wider, "", "is compatible with", 0},
		{"three changes that break", older, narrower, breaks, "in 3 places", 1},
		{"a file that breaks a rule", older, broken, "", `order.paid: schema: at "/type"`, 2},
		{"a file that is not there", older, filepath.Join(dir, "none.json"), "", "no such file", 2},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			r := run(t, nil, "event-types", "check", tt.older, tt.newer)
			if r.code != tt.code || r.out != tt.out {
				t.Errorf("exit code %d, want %d; it prints\n%s", r.code, tt.code, r.out)
			}
			r.says(t, tt.says)
		})
	}
}
