package endpoints

import (
	"net/http"
	"strings"
	"testing"
)

// A refusal is a request of alice's that must be refused, and how.
type refusal struct {
	name      string // a sentence
	operation string // as "GET /api/webhooks?limit=0"
	body      string // JSON or not; empty is none
	status    int
	sentence  string // all of it, or how it begins if it ends with an ellipsis
}

// refuses makes the requests one after the other: each is answered with a problem
// that has its sentence, changes nothing, and is no fault of ours in the log.
func (s *server) refuses(t *testing.T, rows []refusal) {
	t.Helper()
	contents := s.watch(t)
	before := contents()
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			method, path, _ := strings.Cut(row.operation, " ")
			var body any
			if row.body != "" {
				body = row.body
			}
			a := s.call(t, alice, method, path, body)
			if a.status != row.status {
				t.Fatalf("%d %s, want %d %s", a.status, a.body, row.status, row.sentence)
			}
			checkProblem(t, a)
			if got := a.sentence(t); !says(got, row.sentence) {
				t.Errorf("says %q, want %q", got, row.sentence)
			}
			if after := contents(); after != before {
				t.Errorf("changed the database:\n%s\nwas\n%s", after, before)
				before = after
			}
			if logs := s.logs.String(); strings.Contains(logs, `"level":"error"`) {
				t.Errorf("logged %s", logs)
			}
		})
	}
}

// says holds a sentence against what is wanted: see refusal.
func says(got, want string) bool {
	begin, open := strings.CutSuffix(want, "…")
	return got == want || open && strings.HasPrefix(got, begin)
}

// watch returns a function that says what is in the database: of each table the
// number of its rows and a hash of all they hold.
func (s *server) watch(t *testing.T) func() string {
	t.Helper()
	var query string
	err := s.db.QueryRow(t.Context(), `
		SELECT string_agg(format($$SELECT %L || ' ' || count(*) || ' ' || coalesce(md5(string_agg(r::text, '/' ORDER BY r::text)), '') AS line FROM %I r$$, relname, relname), ' UNION ALL ')
		FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p') AND NOT relispartition`).Scan(&query)
	if err != nil {
		t.Fatal(err)
	}
	return func() string {
		var text string
		if err := s.db.QueryRow(t.Context(), "SELECT string_agg(line, E'\n' ORDER BY line) FROM ("+query+") tables").Scan(&text); err != nil {
			t.Fatal(err)
		}
		return text
	}
}

// TestWatchSeesAChange: or else nothing that goes by it shows anything.
func TestWatchSeesAChange(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	contents := s.watch(t)
	seen := map[string]bool{contents(): true}
	id := s.create(t, alice).ID.String()
	seen[contents()] = true
	for _, operation := range []string{"PATCH /rotate-secret", "POST /test", "DELETE "} {
		method, path, _ := strings.Cut(operation, " ")
		if a := s.call(t, alice, method, "/api/webhooks/"+id+path, nil); a.status >= http.StatusBadRequest {
			t.Fatalf("%s: %d %s", operation, a.status, a.body)
		}
		seen[contents()] = true
	}
	if len(seen) != 5 {
		t.Errorf("saw %d states of the database, want 5", len(seen))
	}
}
