package endpoints

import (
	"bytes"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/google/uuid"

	"github.com/cardwire/cardwire/services/internal/steptest"
)

// keyed makes a POST with an Idempotency-Key.
func (s *server) keyed(t testing.TB, user uuid.UUID, key, path, body string) answer {
	t.Helper()
	r := httptest.NewRequest("POST", path, strings.NewReader(body))
	r.Header.Set("Authorization", "Bearer "+token(t, user))
	r.Header.Set("Idempotency-Key", key)
	return s.send(r)
}

func (s *server) count(t testing.TB, sql string, args ...any) (n int) {
	t.Helper()
	if err := s.db.QueryRow(t.Context(), `SELECT count(*) FROM `+sql, args...).Scan(&n); err != nil {
		t.Fatal(err)
	}
	return n
}

func (s *server) exec(t testing.TB, sql string, args ...any) {
	t.Helper()
	if _, err := s.db.Exec(t.Context(), sql, args...); err != nil {
		t.Fatal(err)
	}
}

// registration is a body that differs by its name.
func registration(name string) string {
	return `{"url":"https://example.com/` + name + `","events":["card.viewed"]}`
}

const allEndpoints = "/api/webhooks"

// sameAnswer says that b repeats a.
func sameAnswer(t testing.TB, a, b answer) {
	t.Helper()
	if b.status != a.status || b.body != a.body || b.header.Get("Content-Type") != a.header.Get("Content-Type") {
		t.Errorf("first %d %s\nthen %d %s", a.status, a.body, b.status, b.body)
	}
	if a.header.Get("Idempotency-Replayed") != "" || b.header.Get("Idempotency-Replayed") != "true" {
		t.Errorf("Idempotency-Replayed is first %q, then %q", a.header.Get("Idempotency-Replayed"), b.header.Get("Idempotency-Replayed"))
	}
}

// Every POST has a row here: what it is made of, and what it leaves behind once.
func TestARepeatedRequestIsDoneOnce(t *testing.T) {
	t.Parallel()
	type made struct {
		*server
		*steptest.Env
		endpoint uuid.UUID
		delivery stored
	}
	rows := map[string]struct {
		status int
		body   string
		effect func(made) int
	}{
		"POST /api/webhooks": {201, registration("x"), func(m made) int { return m.count(t, `endpoints`) - 1 }},
		"POST /api/webhooks/{id}/test": {202, "", func(m made) int {
			return m.count(t, `audit_log WHERE action = 'endpoint.tested'`)
		}},
		"POST /api/webhooks/{id}/recover":                        {202, `{"since":"{now}"}`, func(m made) int { return m.count(t, `recoveries`) }},
		"POST /api/webhooks/{id}/deliveries/{deliveryId}/resend": {202, "", func(m made) int { return len(again(m.Env)) }},
	}
	known := newServer(t).operations()
	for _, operation := range known {
		row, there := rows[operation]
		if !strings.HasPrefix(operation, "POST ") {
			continue
		}
		if !there {
			t.Errorf("%s has no row", operation)
			continue
		}
		t.Run(operation, func(t *testing.T) {
			t.Parallel()
			s, e := newServerWithBroker(t)
			ensureDeliveries(e)
			m := made{s, e, s.create(t, alice).ID, stored{}}
			m.delivery = s.deliver(t, m.endpoint, 1)[0]
			fill := strings.NewReplacer("{id}", m.endpoint.String(), "{deliveryId}", m.delivery.ID.String(), "{now}", rfc(m.delivery.event.Time.UTC()))
			path, body := fill.Replace(strings.TrimPrefix(operation, "POST ")), fill.Replace(row.body)
			first := s.keyed(t, alice, "k", path, body)
			if first.status != row.status {
				t.Fatalf("%d %s", first.status, first.body)
			}
			for range 2 {
				sameAnswer(t, first, s.keyed(t, alice, "k", path, body))
			}
			if n := row.effect(m); n != 1 {
				t.Errorf("done %d times", n)
			}
			for _, line := range []string{"endpoint tested", "recovery started", "delivery resent"} {
				if n := strings.Count(s.logs.String(), `"message":"`+line+`"`); n > 1 {
					t.Errorf("%q is logged %d times", line, n)
				}
			}
		})
	}
}

func TestAKeyStandsForOneRequestOfOneUser(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	a := s.keyed(t, alice, "k", allEndpoints, registration("a"))
	mine := decode[CreatedEndpoint](t, a)
	another := s.create(t, alice)
	for _, tt := range []struct{ name, path, body string }{
		{"another body", allEndpoints, registration("b")},
		{"the same members in other bytes", allEndpoints, registration("a") + " "},
		{"another operation", allEndpoints + "/" + mine.ID.String() + "/test", ""},
		{"the same operation of another endpoint", allEndpoints + "/" + another.ID.String() + "/test", ""},
	} {
		b := s.keyed(t, alice, "k", tt.path, tt.body)
		if b.status != 409 || !strings.HasPrefix(b.sentence(t), "Idempotency-Key: ") || b.header.Get("Idempotency-Replayed") != "" {
			t.Errorf("%s: %d %s", tt.name, b.status, b.body)
		}
	}
	sameAnswer(t, a, s.keyed(t, alice, "k", allEndpoints, registration("a")))

	b := s.keyed(t, bob, "k", allEndpoints, registration("a"))
	if b.status != 201 || b.header.Get("Idempotency-Replayed") != "" {
		t.Fatalf("bob: %d %s", b.status, b.body)
	}
	if theirs := decode[CreatedEndpoint](t, b); theirs.ID == mine.ID || theirs.Secret == mine.Secret {
		t.Error("bob got what alice got")
	}
	for _, key := range []string{"K", "k2"} {
		if c := s.keyed(t, alice, key, allEndpoints, registration("a")); c.status != 201 || decode[CreatedEndpoint](t, c).ID == mine.ID {
			t.Errorf("key %s: %d %s", key, c.status, c.body)
		}
	}
	if n := s.count(t, `endpoints WHERE user_id = $1`, alice); n != 4 {
		t.Errorf("alice has %d endpoints, want 4", n)
	}
}

func TestMalformedKeys(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	for _, tt := range []struct {
		name     string
		keys     []string
		sentence string // empty: it is taken
	}{
		{"one character", []string{"!"}, ""},
		{"255 characters", []string{strings.Repeat("~", 255)}, ""},
		{"256 characters", []string{strings.Repeat("k", 256)}, "Idempotency-Key: must have 1 to 255 characters"},
		{"empty", []string{""}, "Idempotency-Key: must have 1 to 255 characters"},
		{"a space", []string{"a b"}, "Idempotency-Key: must be printable ASCII without spaces"},
		{"a tab", []string{"a\tb"}, "Idempotency-Key: must be printable ASCII without spaces"},
		{"a NUL", []string{"a\x00"}, "Idempotency-Key: must be printable ASCII without spaces"},
		{"DEL", []string{"a\x7f"}, "Idempotency-Key: must be printable ASCII without spaces"},
		{"beyond ASCII", []string{"ключ"}, "Idempotency-Key: must be printable ASCII without spaces"},
		{"no UTF-8", []string{"\xff"}, "Idempotency-Key: must be printable ASCII without spaces"},
		{"twice", []string{"a", "a"}, "Idempotency-Key: must be there once"},
	} {
		r := httptest.NewRequest("POST", allEndpoints, strings.NewReader(registration("x")))
		r.Header.Set("Authorization", "Bearer "+token(t, alice))
		r.Header["Idempotency-Key"] = tt.keys
		a := s.send(r)
		if tt.sentence == "" {
			if a.status != 201 {
				t.Errorf("%s: %d %s", tt.name, a.status, a.body)
			}
			continue
		}
		if a.status != 400 || a.sentence(t) != tt.sentence {
			t.Errorf("%s: %d %s, want %s", tt.name, a.status, a.body, tt.sentence)
		}
		checkProblem(t, a)
	}
	if n := s.count(t, `endpoints`); n != 2 {
		t.Errorf("%d endpoints, want 2", n)
	}
}

func TestOfRequestsAtOnceWithOneKeyOneIsDone(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	answers := make([]answer, 20)
	var calls sync.WaitGroup
	for i := range answers {
		calls.Go(func() { answers[i] = s.keyed(t, alice, "k", allEndpoints, registration("x")) })
	}
	calls.Wait()
	fresh := 0
	for _, a := range answers {
		if a.status != 201 || a.body != answers[0].body {
			t.Errorf("%d %s\nbut another got %d %s", a.status, a.body, answers[0].status, answers[0].body)
		}
		if a.header.Get("Idempotency-Replayed") == "" {
			fresh++
		}
	}
	if n := s.count(t, `endpoints`); n != 1 || fresh != 1 {
		t.Errorf("%d endpoints, %d answers that are no replays, want one each", n, fresh)
	}
	if list, err := s.Store().Secrets(t.Context(), decode[CreatedEndpoint](t, answers[0]).ID); err != nil || len(list) != 1 || !strings.Contains(answers[0].body, list[0]) {
		t.Errorf("the answer's secret is not the endpoint's: %d of them, %v", len(list), err)
	}
}

// The limit holds however creations come: at once, and each with a key of its own.
func TestCreationsAtOnceWithKeysOfTheirOwnKeepTheLimit(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	statuses := make([]int, 50)
	var calls sync.WaitGroup
	for i := range statuses {
		calls.Go(func() {
			statuses[i] = s.keyed(t, alice, fmt.Sprint("key-", i), allEndpoints, registration(fmt.Sprint(i))).status
		})
	}
	calls.Wait()
	by := make(map[int]int)
	for _, status := range statuses {
		by[status]++
	}
	if n, kept := s.count(t, `endpoints`), s.count(t, `idempotency_keys`); n != 5 || kept != 5 || by[201] != 5 || by[409] != 45 {
		t.Errorf("%d endpoints and %d keys, answered %v; want 5, 5, and 45 times 409", n, kept, by)
	}
}

// What failed has left nothing, and the same request may succeed later with the same key.
func TestAFailedRequestLeavesItsKeyFree(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	for _, tt := range []struct {
		name, body string
		status     int
	}{
		{"against the schema", `{"url":"https://example.com/"}`, 400},
		{"against a rule", `{"url":"https://10.0.0.1/","events":["card.viewed"]}`, 400},
		{"no JSON", `{`, 400},
	} {
		if a := s.keyed(t, alice, "k", allEndpoints, tt.body); a.status != tt.status {
			t.Errorf("%s: %d %s", tt.name, a.status, a.body)
		}
	}
	if a := s.keyed(t, alice, "k", allEndpoints+"/"+uuid.NewString()+"/test", ""); a.status != 404 {
		t.Errorf("no such endpoint: %d %s", a.status, a.body)
	}
	var last CreatedEndpoint
	for range 5 {
		last = s.create(t, alice)
	}
	for range 2 {
		if a := s.keyed(t, alice, "k", allEndpoints, registration("x")); a.status != 409 || a.header.Get("Idempotency-Replayed") != "" {
			t.Errorf("beyond the limit: %d %s", a.status, a.body)
		}
	}
	if n := s.count(t, `idempotency_keys`); n != 0 {
		t.Errorf("%d keys are kept", n)
	}
	if a := s.call(t, alice, "DELETE", allEndpoints+"/"+last.ID.String(), nil); a.status != 204 {
		t.Fatal(a.status)
	}
	a := s.keyed(t, alice, "k", allEndpoints, registration("x"))
	if a.status != 201 {
		t.Fatalf("then: %d %s", a.status, a.body)
	}
	sameAnswer(t, a, s.keyed(t, alice, "k", allEndpoints, registration("x")))
}

// The header is of POSTs: elsewhere it is one of the many that mean nothing.
func TestOtherMethodsTakeNoKey(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	e := s.create(t, alice)
	secrets := make(map[string]bool)
	for range 2 {
		r := httptest.NewRequest("PATCH", allEndpoints+"/"+e.ID.String()+"/rotate-secret", nil)
		r.Header.Set("Authorization", "Bearer "+token(t, alice))
		r.Header.Set("Idempotency-Key", "no key at all")
		a := s.send(r)
		if a.status != http.StatusOK || a.header.Get("Idempotency-Replayed") != "" {
			t.Fatalf("%d %s", a.status, a.body)
		}
		secrets[decode[RotatedSecret](t, a).Secret] = true
	}
	if len(secrets) != 2 {
		t.Error("the second rotation was not made")
	}
}

// What is kept can't be read in the table, nor moved to another user or key.
func TestKeptAnswersAreSealed(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	e := decode[CreatedEndpoint](t, s.keyed(t, alice, "k", allEndpoints, registration("x")))
	var kept []byte
	var status int
	if err := s.db.QueryRow(t.Context(), `SELECT answer, status FROM idempotency_keys`).Scan(&kept, &status); err != nil {
		t.Fatal(err)
	}
	if status != 201 || bytes.Contains(kept, []byte(e.Secret)) || bytes.Contains(kept, []byte("example.com")) {
		t.Errorf("kept are %d and %q", status, kept)
	}
	s.exec(t, `INSERT INTO idempotency_keys (user_id, key, request_hash, status, answer) SELECT $1, key, request_hash, status, answer FROM idempotency_keys`, bob)
	if a := s.keyed(t, bob, "k", allEndpoints, registration("x")); a.status != 500 || strings.Contains(a.body, e.Secret) {
		t.Errorf("moved to bob: %d %s", a.status, a.body)
	}
}
