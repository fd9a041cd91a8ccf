package migrations

import (
	"flag"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/rs/zerolog"
)

// previousFile holds the statements of the version before this one, as its
// generated code sends them. A release writes those of its own code there:
//
//	go test ./sql/migrations -run TestStatementsOfTheVersionBefore -update
const previousFile = "testdata/previous.sql"

var update = flag.Bool("update", false, "write the statements of this version to "+previousFile)

// statements of a text, by name. Each begins with a line "-- name: X :kind".
func statements(text string) map[string]string {
	all := make(map[string]string)
	for _, s := range regexp.MustCompile(`(?m)^-- name: `).Split(text, -1)[1:] {
		name, _, _ := strings.Cut(s, " ")
		_, body, _ := strings.Cut(s, "\n")
		all[name] = strings.TrimSpace(body)
	}
	return all
}

// ours are the statements in the generated code of this version.
func ours(t *testing.T) map[string]string {
	t.Helper()
	all := make(map[string]string)
	for _, dir := range []string{"../db", "../../events/outbox/internal/outboxdb"} {
		paths, err := filepath.Glob(filepath.Join(dir, "*.sql.go"))
		if err != nil || len(paths) == 0 {
			t.Fatalf("generated code in %s: %v, %v", dir, paths, err)
		}
		for _, path := range paths {
			b, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			for _, m := range regexp.MustCompile("(?s)const \\w+ = `(-- name: .*?)`\n").FindAllSubmatch(b, -1) {
				maps.Copy(all, statements(string(m[1])))
			}
		}
	}
	return all
}

// TestStatementsOfTheVersionBefore runs them on the schema of this version: while
// an upgrade is rolled out, the old code works on the new schema.
func TestStatementsOfTheVersionBefore(t *testing.T) {
	t.Parallel()
	if *update {
		var b strings.Builder
		all := ours(t)
		for _, name := range slices.Sorted(maps.Keys(all)) {
			b.WriteString("-- name: " + name + " :sent\n" + all[name] + "\n\n")
		}
		if err := os.WriteFile(previousFile, []byte(b.String()), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	text, err := os.ReadFile(previousFile)
	if err != nil {
		t.Fatal(err)
	}
	all := statements(string(text))
	url := emptyDatabase(t)
	if err := Up(t.Context(), url, zerolog.New(t.Output())); err != nil {
		t.Fatal(err)
	}
	conn := connect(t, url)
	for name, sql := range all {
		if _, err := conn.Prepare(t.Context(), "previous "+name, sql); err != nil {
			t.Errorf("%s is refused: %v", name, err)
		}
	}
	old{t, conn, all}.way()
}

// old is a service of the version before.
type old struct {
	*testing.T
	conn *pgx.Conn
	all  map[string]string
}

// run runs a statement and returns how many rows it wrote or returned.
func (o old) run(name string, want int64, args ...any) {
	o.Helper()
	tag, err := o.conn.Exec(o.Context(), o.all[name], args...)
	if err != nil || tag.RowsAffected() != want {
		o.Errorf("%s: %d rows, %v; want %d", name, tag.RowsAffected(), err, want)
	}
}

// way takes an event from an outbox to a delivery's success, by a failure, with
// no column or rule of the new schema in its way.
func (o old) way() {
	o.Helper()
	var user, endpoint, event, id uuid.UUID
	for _, p := range []*uuid.UUID{&user, &endpoint, &event, &id} {
		if err := o.conn.QueryRow(o.Context(), `SELECT new_id()`).Scan(p); err != nil {
			o.Fatal(err)
		}
	}
	exec(o.T, o.conn, `SELECT ensure_partitions(current_date - 1, current_date + 1)`)
	exec(o.T, o.conn, `INSERT INTO endpoints (id, user_id, url, events) VALUES ('`+endpoint.String()+`', '`+user.String()+`', 'https://a.example/', '{*}')`)
	exec(o.T, o.conn, `INSERT INTO endpoint_secrets (id, endpoint_id, ciphertext) VALUES (new_id(), '`+endpoint.String()+`', '\x00')`)

	body := []byte(`{}`)
	o.run("InsertEvent", 1, event, user, "card.viewed", body, nil) // into the outbox
	o.run("TakeWaiting", 1, 10)
	o.run("DeletePublished", 1, []uuid.UUID{event})

	ids, one := []uuid.UUID{id}, []int32{1}
	o.run("MatchEndpoints", 1, []uuid.UUID{user})
	o.run("InsertEvents", 1, []uuid.UUID{event}, []uuid.UUID{user}, []string{"card.viewed"}, [][]byte{body}, []string{"2026-01-01T00:00:00Z"}, []int64{1})
	o.run("InsertDeliveries", 1, ids, []uuid.UUID{event}, []uuid.UUID{endpoint}, []string{"card.viewed"}, []string{"event"})
	o.run("TakeDueDeliveries", 1, "9000-01-01Z", 10)
	settle := func(n int32, outcome string, code int32, waiting int64) {
		o.Helper()
		o.run("ClaimDeliveries", 1, int32(10), ids, id, id, 1.0, 30.0)
		o.run("SettleAttempts", waiting, ids, []int32{n}, []string{outcome}, []int32{code}, []string{""}, []string{""}, one, [][]byte{body}, [][]byte{body},
			[]bool{false}, []float64{0}, []string{""}, []string{""}, []int32{n}, one, one, one, one, []string{"public"}, [][]byte{body}, id, id, []uuid.UUID{endpoint})
	}
	settle(1, "failure", 500, 1)
	settle(2, "success", 200, 0)
	var status string
	if err := o.conn.QueryRow(o.Context(), `SELECT status FROM deliveries WHERE id = $1`, id).Scan(&status); err != nil || status != "success" {
		o.Errorf("the delivery is %q, %v", status, err)
	}
}
