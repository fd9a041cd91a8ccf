package view

import (
	"crypto/ed25519"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"github.com/cardwire/cardwire/events"
	"github.com/cardwire/cardwire/services/internal/auth"
)

func savePath(id string) string { return "/api/cards/" + id + "/save" }

func TestSaveRefused(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for _, tt := range []struct {
		name    string
		card    string
		options []func(*http.Request)
		status  int
		want    string
	}{
		{"no token", cardID.String(), nil, 401, "Unauthorized"},
		{"invalid token", cardID.String(), opts(header("Authorization", "Bearer x")), 401, "Unauthorized"},
		{"no token, malformed card id: strangers learn nothing", "42", nil, 401, "Unauthorized"},
		{"cookie from another site", cardID.String(), opts(cookie(bobID), header("Sec-Fetch-Site", "cross-site")), 403, "A request with a cookie must come from the same origin"},
		{"malformed card id", "42", opts(bearer(bobID)), 400, errCardID.Error()},
		{"unknown card", uuid.NewString(), opts(bearer(bobID)), 404, "Card not found"},
		{"own card", cardID.String(), opts(bearer(ownerID)), 409, "You can't save your own card"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			answer := w.do("POST", savePath(tt.card), tt.options...)
			var problem struct{ Error string }
			if err := json.Unmarshal(answer.Body.Bytes(), &problem); err != nil {
				t.Fatal(err)
			}
			if answer.Code != tt.status || problem.Error != tt.want {
				t.Errorf("%d %q, want %d %q", answer.Code, problem.Error, tt.status, tt.want)
			}
		})
	}
	t.Cleanup(func() { // after the rows above, which are parallel
		if strayed := w.logs.lines(t, "contact saved"); len(strayed) != 0 {
			t.Errorf("saved: %v", strayed)
		}
	})
}

// Nobody knows whose token it is: a save has to wait for that, a page does not.
func TestWithoutTheKeysOfTokens(t *testing.T) {
	t.Parallel()
	away := httptest.NewServer(http.NotFoundHandler())
	away.Close()
	w := newWorld(t, func(c *Config) { c.JWKSURL = away.URL })
	_, key, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	token, err := jwt.NewWithClaims(jwt.SigningMethodEdDSA, jwt.MapClaims{"id": bobID, "exp": time.Now().Add(time.Hour).Unix()}).SignedString(key)
	if err != nil {
		t.Fatal(err)
	}
	needsKeys := header("Authorization", "Bearer "+token)
	a := w.do("POST", savePath(cardID.String()), needsKeys)
	if a.Code != 503 || a.Header().Get("Retry-After") != auth.RetryAfter {
		t.Errorf("save: %d %v %s", a.Code, a.Header(), a.Body)
	}
	if a := w.do("GET", "/api/u/alice", needsKeys); a.Code != 200 {
		t.Errorf("page: %d %s", a.Code, a.Body)
	}
	if a := w.do("POST", savePath(cardID.String()), bearer(bobID)); a.Code != 201 {
		t.Errorf("save with a token that needs no keys: %d %s", a.Code, a.Body)
	}
}

func TestSave(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.run(w.View)
	first := w.do("POST", savePath(cardID.String()), bearer(bobID))
	if first.Code != 201 {
		t.Fatalf("status %d: %s", first.Code, first.Body)
	}
	again := w.do("POST", savePath(cardID.String()), cookie(bobID), header("Sec-Fetch-Site", "same-origin"))
	if again.Code != 200 {
		t.Fatalf("status %d for a repeat: %s", again.Code, again.Body)
	}
	if diff := cmp.Diff(first.Body.String(), again.Body.String()); diff != "" {
		t.Errorf("a repeat answers differently (-first +again):\n%s", diff)
	}
	var c contact
	if err := json.Unmarshal(first.Body.Bytes(), &c); err != nil || c.CardID != cardID || c.Username != "alice" || c.SavedAt.IsZero() {
		t.Errorf("contact %+v, %v", c, err)
	}

	await(t, "the event is relayed", func() bool { return len(w.events()) > 0 })
	if other := w.do("POST", savePath(cardID.String()), bearer(carolID)); other.Code != 201 {
		t.Fatalf("status %d for another user: %s", other.Code, other.Body)
	}
	await(t, "the other event is relayed", func() bool { return len(w.events()) > 1 })
	e := w.events()[0]
	if e.Type != events.ContactSaved || e.UserID != ownerID || len(e.Attributes) != 0 {
		t.Errorf("event %+v", e)
	}
	want := `{"cardId":"` + cardID.String() + `","savedBy":"` + bobID.String() + `","username":"alice"}`
	if diff := cmp.Diff(want, dataOf(t, e)); diff != "" {
		t.Errorf("data (-want +got):\n%s", diff)
	}
	if n := w.count("SELECT count(*) FROM saved_contacts WHERE event_id = $1 AND user_id = $2", e.ID, bobID); n != 1 {
		t.Errorf("%d contacts with the event's id, want 1", n)
	}
	if lines := w.logs.lines(t, "contact saved"); len(lines) != 2 || lines[0]["event_id"] != e.ID.String() {
		t.Errorf("log lines %v", lines)
	}
}

func TestSaveManyTimesAtOnceIsOneEvent(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	answers := make([]*httptest.ResponseRecorder, 20)
	var wg sync.WaitGroup
	for i := range answers {
		wg.Go(func() { answers[i] = w.do("POST", savePath(cardID.String()), bearer(bobID)) })
	}
	wg.Wait()
	codes := make(map[int]int)
	for _, a := range answers {
		codes[a.Code]++
		if diff := cmp.Diff(answers[0].Body.String(), a.Body.String()); diff != "" {
			t.Errorf("answers differ:\n%s", diff)
		}
	}
	if diff := cmp.Diff(map[int]int{201: 1, 200: 19}, codes); diff != "" {
		t.Errorf("answers by status (-want +got):\n%s", diff)
	}
	if n := w.count("SELECT count(*) FROM outbox"); n != 1 {
		t.Errorf("%d events, want 1", n)
	}
	if n := w.count("SELECT count(*) FROM saved_contacts"); n != 1 {
		t.Errorf("%d contacts, want 1", n)
	}
}

func TestSaveWithoutItsEventIsNoSave(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.exec(`ALTER TABLE outbox RENAME TO away`)
	answer := w.do("POST", savePath(cardID.String()), bearer(bobID))
	if answer.Code != 503 || answer.Header().Get("Retry-After") == "" {
		t.Errorf("status %d: %s", answer.Code, answer.Body)
	}
	if n := w.count("SELECT count(*) FROM saved_contacts"); n != 0 {
		t.Errorf("%d contacts, want none", n)
	}
	w.exec(`ALTER TABLE away RENAME TO outbox`)
	if answer := w.do("POST", savePath(cardID.String()), bearer(bobID)); answer.Code != 201 {
		t.Errorf("status %d afterwards: %s", answer.Code, answer.Body)
	}
}
