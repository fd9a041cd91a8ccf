package endpoints

import (
	"bytes"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/google/uuid"

	"github.com/cardwire/cardwire/sql/pgtest"
)

const register1 = `{"url":"https://example.com/?a=<b>&c","events":["card.viewed"]}`

func TestAKeyIsAnsweredOnce(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	post := func(user uuid.UUID, key, body string) answer {
		t.Helper()
		return s.call(t, user, "POST", "/api/webhooks", body, "Idempotency-Key", key)
	}
	first := post(alice, "k", register1)
	if first.status != http.StatusCreated || first.header.Get("Idempotency-Replayed") != "" {
		t.Fatalf("%d %v %s", first.status, first.header, first.body)
	}
	again := post(alice, "k", register1)
	if again.status != first.status || again.body != first.body || again.header.Get("Idempotency-Replayed") != "true" ||
		again.header.Get("Content-Type") != first.header.Get("Content-Type") || again.header.Get("Cache-Control") != "no-store" {
		t.Errorf("the repeat: %d %v %s", again.status, again.header, again.body)
	}
	if other := post(alice, "k", strings.Replace(register1, "com", "org", 1)); other.status != http.StatusConflict || !strings.HasPrefix(other.sentence(t), "Idempotency-Key: was used") {
		t.Errorf("another request: %d %s", other.status, other.body)
	}
	id := decode[CreatedEndpoint](t, first).ID
	if other := s.call(t, alice, "POST", "/api/webhooks/"+id.String()+"/test", nil, "Idempotency-Key", "k"); other.status != http.StatusConflict {
		t.Errorf("another operation: %d %s", other.status, other.body)
	}
	if bobs := post(bob, "k", register1); bobs.status != http.StatusCreated || bobs.header.Get("Idempotency-Replayed") != "" {
		t.Errorf("another user: %d %v", bobs.status, bobs.header)
	}
	if n := one[int](t, s, "SELECT count(*) FROM endpoints"); n != 2 {
		t.Errorf("%d endpoints, want one of each", n)
	}
	if n := one[int](t, s, "SELECT count(*) FROM audit_log"); n != 2 {
		t.Errorf("%d audit records", n)
	}

	// What is kept says nothing to whoever reads it, and opens in its place alone.
	kept := one[[]byte](t, s, "SELECT answer FROM idempotency_keys WHERE user_id = $1", alice)
	if bytes.Contains(kept, []byte("secret")) {
		t.Errorf("kept is %q", kept)
	}
	s.exec(t, "UPDATE idempotency_keys SET answer = $2 WHERE user_id = $1", bob, kept)
	if moved := post(bob, "k", register1); moved.status != http.StatusInternalServerError {
		t.Errorf("an answer moved to another user: %d %s", moved.status, moved.body)
	}

	// After a day the key is free.
	s.exec(t, "UPDATE idempotency_keys SET created_at = created_at - interval '24 h'")
	if late := post(alice, "k", register1); late.status != http.StatusCreated || late.header.Get("Idempotency-Replayed") != "" {
		t.Errorf("after a day: %d %v", late.status, late.header)
	}
	if repeat := post(alice, "k", register1); repeat.header.Get("Idempotency-Replayed") != "true" {
		t.Errorf("its repeat: %d %v", repeat.status, repeat.header)
	}
}

func TestEveryPostCanBeRepeated(t *testing.T) {
	t.Parallel()
	for operation, row := range tenancy {
		method, path, _ := strings.Cut(operation, " ")
		if method != "POST" {
			continue
		}
		t.Run(operation, func(t *testing.T) {
			t.Parallel()
			s := newServer(t)
			e := s.create(t, alice)
			d := s.deliver(t, e.ID, 1)[0]
			replay := s.oldReplay(t, alice, e.ID)
			if strings.HasSuffix(path, "/resume") {
				s.exec(t, "UPDATE replays SET state = 'paused'")
			}
			ids := strings.NewReplacer("{id}", e.ID.String(), "{deliveryId}", d.ID.String(), "{replayId}", replay.String())
			path, body := ids.Replace(path), filled(row.body, ids)
			before := one[int](t, s, "SELECT count(*) FROM audit_log")
			first := s.call(t, alice, method, path, body, "Idempotency-Key", "k")
			again := s.call(t, alice, method, path, body, "Idempotency-Key", "k")
			if first.status != row.own || again.status != row.own || first.body != again.body || again.header.Get("Idempotency-Replayed") != "true" {
				t.Errorf("%d %s, then %d %v %s", first.status, first.body, again.status, again.header, again.body)
			}
			if n := one[int](t, s, "SELECT count(*) FROM audit_log") - before; n != 1 {
				t.Errorf("done %d times", n)
			}
		})
	}
}

func TestManyWithOneKeyAtOnce(t *testing.T) {
	t.Parallel()
	pool := pgtest.New(t)
	replicas := []*server{serverOn(t, pool), serverOn(t, pool)}
	for _, s := range replicas { // both read what one of them seals
		s.store.Keyset = replicas[0].store.Keyset
	}
	var wg sync.WaitGroup
	answers := make([]answer, 50)
	for i := range answers {
		wg.Go(func() {
			// Ten keys of five requests each, for five endpoints.
			answers[i] = replicas[i%2].call(t, alice, "POST", "/api/webhooks", register1, "Idempotency-Key", string(rune('a'+i%10)))
		})
	}
	wg.Wait()
	byKey := make(map[int]string)
	fresh, full := 0, 0
	for i, a := range answers {
		switch a.status {
		case http.StatusCreated:
			if before, there := byKey[i%10]; there && before != a.body {
				t.Errorf("key %d was answered %s and %s", i%10, before, a.body)
			}
			byKey[i%10] = a.body
			if a.header.Get("Idempotency-Replayed") == "" {
				fresh++
			}
		case http.StatusConflict:
			full++
		default:
			t.Errorf("%d %s", a.status, a.body)
		}
	}
	if rows := one[int](t, replicas[0], "SELECT count(*) FROM endpoints"); fresh != 5 || rows != 5 || len(byKey) != 5 || full != 25 {
		t.Errorf("%d made, %d rows, %d keys, %d refused; want 5, 5, 5, 25", fresh, rows, len(byKey), full)
	}
	if kept := one[int](t, replicas[0], "SELECT count(*) FROM idempotency_keys"); kept != 5 {
		t.Errorf("%d answers kept: what is refused must not be", kept)
	}
}

func TestRefusedRequestsKeepNothing(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	bad := s.call(t, alice, "POST", "/api/webhooks", `{"url":"ftp://example.com/","events":["card.viewed"]}`, "Idempotency-Key", "k")
	if bad.status != http.StatusBadRequest {
		t.Fatal(bad)
	}
	if missing := s.call(t, alice, "POST", "/api/webhooks/"+uuid.NewString()+"/test", nil, "Idempotency-Key", "k"); missing.status != http.StatusNotFound {
		t.Error(missing)
	}
	if good := s.call(t, alice, "POST", "/api/webhooks", register1, "Idempotency-Key", "k"); good.status != http.StatusCreated {
		t.Errorf("the same key with a better request: %d %s", good.status, good.body)
	}
}

func TestKeysThatAreNone(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	for _, tt := range []struct {
		name, sentence string
		values         []string
	}{
		{"empty", "must have 1 to 255 characters", []string{""}},
		{"256 characters", "must have 1 to 255 characters", []string{strings.Repeat("k", 256)}},
		{"two", "must be there once", []string{"a", "b"}},
		{"a space", "must be printable ASCII without spaces", []string{"a b"}},
		{"a control character", "must be printable ASCII without spaces", []string{"a\x7f"}},
		{"a tab", "must be printable ASCII without spaces", []string{"a\tb"}},
		{"beyond ASCII", "must be printable ASCII without spaces", []string{"schlüssel"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			var header []string
			for _, v := range tt.values {
				header = append(header, "Idempotency-Key", v)
			}
			a := s.call(t, alice, "POST", "/api/webhooks", register1, header...)
			if a.status != http.StatusBadRequest || a.sentence(t) != "Idempotency-Key: "+tt.sentence {
				t.Errorf("%d %s", a.status, a.body)
			}
			checkProblem(t, a)
		})
	}
	for _, key := range []string{strings.Repeat("k", 255), "!~", "';DROP/**/TABLE/**/endpoints;--"} {
		if a := s.call(t, alice, "POST", "/api/webhooks", register1, "Idempotency-Key", key); a.status != http.StatusCreated {
			t.Errorf("%q: %d %s", key, a.status, a.body)
		}
	}
}

func TestOldAnswersAreDeleted(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	s.exec(t, `INSERT INTO idempotency_keys (user_id, key, request_hash, status, answer, created_at)
		SELECT $1, n::text, sha256('x'), 201, 'x', now() - CASE WHEN n > 2500 THEN interval '23 h' ELSE interval '25 h' END FROM generate_series(1, 2510) n`, alice)
	if err := s.pruneOnce(t.Context()); err != nil {
		t.Fatal(err)
	}
	if n := one[int](t, s, "SELECT count(*) FROM idempotency_keys"); n != 10 {
		t.Errorf("%d are left, want the 10 of the last day", n)
	}
}
