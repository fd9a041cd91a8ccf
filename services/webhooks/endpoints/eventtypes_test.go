package endpoints

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cardwire/cardwire/services/internal/eventtypes"
	"github.com/cardwire/cardwire/sql/pgtest"
)

func TestEventTypesAreListedInTheOrderOfTheirFile(t *testing.T) {
	t.Parallel()
	list := make([]string, 30)
	for i := range list {
		list[i] = fmt.Sprintf(`{"name": "order.n%d", "description": "d", "schema": {"required": ["n"]},
			"example": {"type": "order.n%d", "timestamp": "2026-08-02T17:45:09.5Z", "data": {"n": %d}}}`, 29-i, 29-i, i)
	}
	path := filepath.Join(t.TempDir(), "types.json")
	if err := os.WriteFile(path, []byte("["+strings.Join(list, ",")+"]"), 0o600); err != nil {
		t.Fatal(err)
	}
	s := serverSet(t, pgtest.New(t), func(c *Config) { c.EventTypesFile = path })
	got := decode[[]EventType](t, s.call(t, alice, "GET", "/api/event-types", nil))
	if len(got) != 34 {
		t.Fatalf("%d types, want 30 and Cardwire's 4", len(got))
	}
	for i, e := range got[:30] {
		if e.Name != fmt.Sprintf("order.n%d", 29-i) || e.Description != "d" || string(e.Schema.RawMessage) != `{"required":["n"]}` {
			t.Errorf("type %d is %s: %s", i, e.Name, e.Schema.RawMessage)
		}
	}

	ask := func(eventType string) answer {
		return s.call(t, alice, "POST", "/api/webhooks", map[string]any{"url": "https://example.com/", "events": []string{eventType}})
	}
	if a := ask("order.n7"); a.status != 201 {
		t.Errorf("a type of the file: %d %s", a.status, a.body)
	}
	if a := ask("endpoint.disabled"); a.status != 201 {
		t.Errorf("a type of Cardwire's own: %d %s", a.status, a.body)
	}
	const want = `events[0]: "card.viewed" is not known; GET /api/event-types lists those that are`
	if a := ask("card.viewed"); a.status != 400 || a.sentence(t) != want {
		t.Errorf("a type that the file lacks: %d %s, want %s", a.status, a.body, want)
	}
}

// What the API answers with is a file that it would take.
func TestTheListOfEventTypesIsAFileOfThem(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	a := s.call(t, alice, "GET", "/api/event-types", nil)
	path := filepath.Join(t.TempDir(), "types.json")
	if err := os.WriteFile(path, []byte(a.body), 0o600); err != nil {
		t.Fatal(err)
	}
	catalog, err := eventtypes.Load(path)
	if err != nil {
		t.Fatal(err)
	}
	again, err := json.Marshal(catalog.All())
	if err != nil {
		t.Fatal(err)
	}
	if string(again) != strings.TrimSpace(a.body) {
		t.Errorf("answered %s\nread as %s", a.body, again)
	}
}
