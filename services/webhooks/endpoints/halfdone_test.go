package endpoints

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// written are the tables that requests write, the log's partitioned ones aside.
var written = []string{
	"endpoints", "endpoint_secrets", "endpoint_states", "audit_log", "idempotency_keys", "outbox", "deliveries", "recoveries", "replays",
}

// contents are all rows of the tables.
func (s *server) contents(t testing.TB) map[string]string {
	t.Helper()
	all := make(map[string]string)
	for _, table := range written {
		all[table] = one[string](t, s, fmt.Sprintf("SELECT coalesce(string_agg(r::text, E'\\n' ORDER BY r::text), '') FROM %s r", table))
	}
	return all
}

// TestAFaultInTheMiddleLeavesNothing breaks each write of each operation once, and
// then its commit: the answer is 503, everything is as it was, and the same
// request works as soon as the fault is gone.
func TestAFaultInTheMiddleLeavesNothing(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		operation string
		body      any
		tables    []string
	}{
		{"POST /api/webhooks", `{"url":"https://example.com/","events":["card.viewed"],"asymmetric":true}`, []string{"endpoints", "endpoint_secrets", "audit_log", "idempotency_keys"}},
		{"PATCH /api/webhooks/{id}", `{"url":"https://example.com/new","isActive":false,"asymmetric":true}`, []string{"endpoints", "endpoint_secrets", "endpoint_states", "audit_log"}},
		{"DELETE /api/webhooks/{id}", nil, []string{"endpoints", "endpoint_secrets", "endpoint_states", "audit_log"}},
		{"PATCH /api/webhooks/{id}/rotate-secret", nil, []string{"endpoints", "endpoint_secrets", "audit_log"}},
		{"POST /api/webhooks/{id}/test", nil, []string{"outbox", "audit_log", "idempotency_keys"}},
		{"POST /api/webhooks/{id}/deliveries/{deliveryId}/resend", nil, []string{"deliveries", "audit_log", "idempotency_keys"}},
		{"POST /api/webhooks/{id}/recover", map[string]any{"since": time.Now().UTC().Truncate(24 * time.Hour)}, []string{"recoveries", "audit_log", "idempotency_keys"}},
		{"POST /api/replays", tenancy["POST /api/replays"].body, []string{"replays", "audit_log", "idempotency_keys"}},
		{"POST /api/replays/{replayId}/pause", nil, []string{"replays", "audit_log", "idempotency_keys"}},
	} {
		t.Run(tt.operation, func(t *testing.T) {
			t.Parallel()
			s := newServer(t)
			e := s.create(t, alice)
			d := s.deliver(t, e.ID, 1)[0]
			s.exec(t, `CREATE FUNCTION broken() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'disk full' USING ERRCODE = '53100'; END $$`)
			method, path, _ := strings.Cut(tt.operation, " ")
			ids := strings.NewReplacer("{id}", e.ID.String(), "{deliveryId}", d.ID.String(), "{replayId}", s.oldReplay(t, alice, e.ID).String())
			path = ids.Replace(path)
			call := func() answer {
				return s.call(t, alice, method, path, filled(tt.body, ids), "Idempotency-Key", "k")
			}
			before := s.contents(t)
			check := func(what string) {
				t.Helper()
				a := call()
				if a.status != http.StatusServiceUnavailable || a.header.Get("Retry-After") != retryAfter || strings.Contains(a.body, "disk") {
					t.Errorf("%s: %d %v %s", what, a.status, a.header, a.body)
				}
				if diff := cmp.Diff(before, s.contents(t)); diff != "" {
					t.Errorf("%s left something (-before +after):\n%s", what, diff)
				}
			}
			for _, table := range tt.tables {
				s.exec(t, "CREATE TRIGGER broken AFTER INSERT OR UPDATE OR DELETE ON "+table+" FOR EACH ROW EXECUTE FUNCTION broken()")
				check("a fault in " + table)
				s.exec(t, "DROP TRIGGER broken ON "+table)
			}
			s.exec(t, "CREATE CONSTRAINT TRIGGER broken AFTER INSERT ON audit_log DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION broken()")
			check("a fault at the commit")
			s.exec(t, "DROP TRIGGER broken ON audit_log")
			if a := call(); a.status >= 300 || a.header.Get("Idempotency-Replayed") != "" {
				t.Errorf("afterwards: %d %v %s", a.status, a.header, a.body)
			}
			if cmp.Equal(before, s.contents(t)) {
				t.Error("afterwards it did nothing")
			}
		})
	}
}
