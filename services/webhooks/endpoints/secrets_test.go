package endpoints

import (
	"bytes"
	"encoding/json"
	"errors"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/cardwire/cardwire/services/internal/secrets"
	"github.com/cardwire/cardwire/services/internal/signing"
	"github.com/cardwire/cardwire/sql/pgtest"
)

func TestFiftyCreationsAtOnceLeaveFive(t *testing.T) {
	t.Parallel()
	pool := pgtest.New(t)
	replicas := []*server{serverOn(t, pool), serverOn(t, pool)}
	var wg sync.WaitGroup
	answers := make([]answer, 50)
	for i := range answers {
		wg.Go(func() {
			answers[i] = replicas[i%2].call(t, alice, "POST", "/api/webhooks", `{"url":"https://example.com/","events":["card.viewed"]}`)
		})
	}
	wg.Wait()
	created := 0
	for _, a := range answers {
		switch a.status {
		case http.StatusCreated:
			created++
		case http.StatusConflict:
			if got := a.sentence(t); !strings.HasPrefix(got, "Maximum of 5 ") {
				t.Errorf("409 says %q", got)
			}
		default:
			t.Errorf("got %d %s", a.status, a.body)
		}
	}
	var rows, sealed int
	err := pool.QueryRow(t.Context(), "SELECT (SELECT count(*) FROM endpoints), (SELECT count(*) FROM endpoint_secrets)").Scan(&rows, &sealed)
	if err != nil || created != 5 || rows != 5 || sealed != 5 {
		t.Fatalf("%d created, %d rows, %d secrets, %v; want 5 of each", created, rows, sealed, err)
	}

	s := replicas[0]
	if a := s.call(t, bob, "POST", "/api/webhooks", `{"url":"https://example.com/","events":["card.viewed"]}`); a.status != http.StatusCreated {
		t.Errorf("another user: %d %s", a.status, a.body)
	}
	list := decode[[]Endpoint](t, s.call(t, alice, "GET", "/api/webhooks", nil))
	if a := s.call(t, alice, "DELETE", "/api/webhooks/"+list[0].ID.String(), nil); a.status != http.StatusNoContent || a.body != "" {
		t.Fatalf("delete: %d %s", a.status, a.body)
	}
	s.create(t, alice) // a deleted one does not count
}

func TestSecretsAtRestOpenForTheirEndpointAlone(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	mine, other := s.create(t, alice), s.create(t, bob)
	var ciphertext []byte
	if err := s.db.QueryRow(t.Context(), "SELECT ciphertext FROM endpoint_secrets WHERE endpoint_id = $1", mine.ID).Scan(&ciphertext); err != nil {
		t.Fatal(err)
	}
	if bytes.Contains(ciphertext, []byte(mine.Secret)) || len(ciphertext) != 64+secrets.Overhead {
		t.Errorf("at rest are %d bytes: %q", len(ciphertext), ciphertext)
	}
	if list, err := s.Store().Secrets(t.Context(), mine.ID); err != nil || !slices.Equal(list, []string{mine.Secret}) {
		t.Errorf("%d secrets, %v; want the one of the answer", len(list), err)
	}
	if _, err := s.db.Exec(t.Context(), "UPDATE endpoint_secrets SET ciphertext = $2 WHERE endpoint_id = $1", other.ID, ciphertext); err != nil {
		t.Fatal(err)
	}
	list, err := s.Store().Secrets(t.Context(), other.ID)
	if !errors.Is(err, errSecret) || list != nil {
		t.Errorf("a ciphertext moved to another row: %d secrets, %v", len(list), err)
	}
	if p, fault := s.problemOf(err); p.Status != http.StatusInternalServerError || !fault {
		t.Errorf("it is answered with %d", p.Status)
	}
}

func TestRotationOverlap(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name, query string
		valid       time.Duration // of the old secret; 0 means that it is gone
		message     string
	}{
		{"the usual overlap", "", 24 * time.Hour, "The old secret stays valid until "},
		{"an empty parameter is a missing one", "?overlap=", 24 * time.Hour, "The old secret stays valid until "},
		{"the caller's overlap", "?overlap=90m", 90 * time.Minute, "The old secret stays valid until "},
		{"the longest", "?overlap=168h", 7 * 24 * time.Hour, "The old secret stays valid until "},
		{"ended now", "?overlap=0s", 0, "The old secret is no longer valid."},
		{"ended now, without unit", "?overlap=0", 0, "The old secret is no longer valid."},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s := newServer(t)
			old := s.create(t, alice)
			a := s.call(t, alice, "PATCH", "/api/webhooks/"+old.ID.String()+"/rotate-secret"+tt.query, nil)
			if a.status != http.StatusOK || a.header.Get("Cache-Control") != "no-store" {
				t.Fatalf("got %d, Cache-Control %q: %s", a.status, a.header.Get("Cache-Control"), a.body)
			}
			fresh := decode[RotatedSecret](t, a)
			if fresh.ID != old.ID || len(fresh.Secret) != 64 || fresh.Secret == old.Secret || !strings.HasPrefix(fresh.Message, tt.message) {
				t.Errorf("answered id %v, %d characters, %q", fresh.ID, len(fresh.Secret), fresh.Message)
			}
			want := []string{fresh.Secret}
			if tt.valid > 0 {
				want = append(want, old.Secret)
			}
			if got, err := s.Store().Secrets(t.Context(), old.ID); err != nil || !slices.Equal(got, want) {
				t.Errorf("%d secrets valid, %v; want %d, the new one first", len(got), err, len(want))
			}
			var rows int
			var left *float64
			if err := s.db.QueryRow(t.Context(), "SELECT count(*), extract(epoch FROM max(expires_at) - now())::float8 FROM endpoint_secrets").Scan(&rows, &left); err != nil {
				t.Fatal(err)
			}
			if rows != len(want) || tt.valid > 0 && (left == nil || *left > tt.valid.Seconds() || *left < tt.valid.Seconds()-60) {
				t.Errorf("%d rows, the old one ends in %v s", rows, left)
			}
			now := decode[Endpoint](t, s.call(t, alice, "GET", "/api/webhooks/"+old.ID.String(), nil))
			if !now.UpdatedAt.After(old.UpdatedAt) || !now.CreatedAt.Equal(old.CreatedAt) {
				t.Errorf("created %v, updated %v; was updated %v", now.CreatedAt, now.UpdatedAt, old.UpdatedAt)
			}
		})
	}
}

func TestRotatingOftenKeepsFewSecrets(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	e := s.create(t, alice)
	want := []string{e.Secret}
	path := "/api/webhooks/" + e.ID.String() + "/rotate-secret"
	for n := range 6 {
		a := s.call(t, alice, "PATCH", path+"?overlap=1h", nil)
		if n < keepOldSecrets {
			want = append([]string{decode[RotatedSecret](t, a).Secret}, want...)
		} else if a.status != http.StatusConflict {
			t.Fatalf("rotation %d: %v, want 409: the old secrets are promised their hour", n+1, a)
		}
		if got, err := s.Store().Secrets(t.Context(), e.ID); err != nil || !slices.Equal(got, want) {
			t.Fatalf("%d secrets, %v; want the newest %d", len(got), err, len(want))
		}
	}
	// One of them ends, and a longer overlap does not bring the others more time.
	if _, err := s.db.Exec(t.Context(), "UPDATE endpoint_secrets SET expires_at = now() WHERE id = (SELECT min(id::text)::uuid FROM endpoint_secrets)"); err != nil {
		t.Fatal(err)
	}
	s.call(t, alice, "PATCH", path+"?overlap=168h", nil)
	var n int
	if err := s.db.QueryRow(t.Context(), "SELECT count(*) FROM endpoint_secrets WHERE expires_at > now() + interval '1 hour'").Scan(&n); err != nil || n != 1 {
		t.Errorf("%d secrets valid for more than their hour, %v; want one", n, err)
	}
	if a := s.call(t, alice, "PATCH", path+"?overlap=0s", nil); a.status != http.StatusOK {
		t.Fatal(a)
	}
	if got, err := s.Store().Secrets(t.Context(), e.ID); err != nil || len(got) != 1 {
		t.Errorf("%d secrets after all were ended, %v", len(got), err)
	}
}

func TestRotationsAndDeletionAtOnceLeaveNoSecret(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	for range 5 {
		e := s.create(t, alice)
		var wg sync.WaitGroup
		for i := range 8 {
			wg.Go(func() {
				method, path := "PATCH", "/rotate-secret"
				if i == 4 {
					method, path = "DELETE", ""
				}
				if a := s.call(t, alice, method, "/api/webhooks/"+e.ID.String()+path, nil); a.status >= 500 {
					t.Errorf("%s: %d %s", method, a.status, a.body)
				}
			})
		}
		wg.Wait()
	}
	var n int
	if err := s.db.QueryRow(t.Context(), "SELECT count(*) FROM endpoint_secrets").Scan(&n); err != nil || n != 0 {
		t.Errorf("%d secrets of deleted endpoints are left, %v", n, err)
	}
}

// TestSecretsAreShownOnce looks for every form of two secrets in all that is
// answered and logged after the answers that show them.
func TestSecretsAreShownOnce(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	e := s.create(t, alice)
	d := s.deliver(t, e.ID, 1)[0]
	base := "/api/webhooks/" + e.ID.String()
	rotated := decode[RotatedSecret](t, s.call(t, alice, "PATCH", base+"/rotate-secret", nil))
	var seen strings.Builder
	for _, r := range [][2]string{
		{"GET", "/api/webhooks"},
		{"GET", base},
		{"GET", base + "/deliveries"},
		{"GET", base + "/deliveries/" + d.ID.String()},
		{"PATCH", base + "/rotate-secret?overlap=x"},
		{"DELETE", base},
		{"GET", base},
		{"GET", "/openapi.json"},
		{"GET", "/docs"},
	} {
		a := s.call(t, alice, r[0], r[1], nil)
		header, err := json.Marshal(a.header)
		if err != nil {
			t.Fatal(err)
		}
		seen.WriteString(a.body)
		seen.Write(header)
	}
	seen.WriteString(s.logs.String())
	for _, secret := range []string{e.Secret, rotated.Secret, signing.Whsec(e.Secret), signing.Whsec(rotated.Secret), jwtSecret, token(t, alice), e.URL} {
		in := seen.String()
		if secret == e.URL { // an answer may have it; the log must not: receivers keep secrets in paths
			in = s.logs.String()
		}
		if strings.Contains(in, secret) {
			t.Errorf("%.8s… is in an answer or the log", secret)
		}
	}
	for _, line := range []string{"endpoint created", "secret rotated", "endpoint deleted"} {
		if strings.Count(s.logs.String(), `"message":"`+line+`"`) != 1 {
			t.Errorf("%q is not logged once: %s", line, s.logs)
		}
	}
}

func TestStoreWithoutHTTP(t *testing.T) {
	t.Parallel()
	store := newServer(t).Store()
	store.MaxPerUser = 0
	ctx := t.Context()
	for range 7 {
		if _, _, err := store.Create(ctx, NewEndpoint{UserID: alice, URL: "http://127.0.0.1:1/", Events: []string{"card.viewed"}}); err != nil {
			t.Fatalf("without limit: %v", err)
		}
	}
	if list, err := store.List(ctx, alice, 100); err != nil || len(list) != 7 {
		t.Errorf("listed %d, %v", len(list), err)
	}
	if list, err := store.Secrets(ctx, uuid.New()); err != nil || len(list) != 0 {
		t.Errorf("secrets of nothing: %d, %v", len(list), err)
	}
	for name, err := range map[string]error{
		"get":    func() error { _, err := store.Get(ctx, alice, uuid.New()); return err }(),
		"delete": store.Delete(ctx, alice, uuid.New()),
		"rotate": func() error { _, _, err := store.Rotate(ctx, alice, uuid.New(), 0); return err }(),
	} {
		if !errors.Is(err, ErrNotFound) {
			t.Errorf("%s of nothing: %v", name, err)
		}
	}
}
