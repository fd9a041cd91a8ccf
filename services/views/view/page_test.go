package view

import (
	"context"
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"github.com/cardwire/cardwire/events"
)

const (
	aliceOwner = `{"username":"alice","displayName":"Alice <A>","bio":"Builds \"things\"","pronouns":"she/her","role":"Engineer","company":"Acme","avatarUrl":"https://img.example/a.png","accentColor":"#112233"}`
	aliceLinks = `[{"id":"00000000-0000-7000-8000-0000000000a2","platform":"web","username":"alice","url":"https://alice.example/?a=1&b=2","displayOrder":1},{"id":"00000000-0000-7000-8000-0000000000a1","platform":"github","username":"alice","url":"https://github.example/alice","displayOrder":2}]`
	bobOwner   = `{"username":"bob","displayName":"Bob","bio":null,"pronouns":null,"role":null,"company":null,"avatarUrl":null,"accentColor":"#6366f1"}`
	aliceCard  = `{"id":"00000000-0000-7000-8000-0000000000c1","title":"Conference","owner":` + aliceOwner + `,"links":[{"id":"00000000-0000-7000-8000-0000000000a1","platform":"github","username":"alice","url":"https://github.example/alice","displayOrder":0}]}`
	bobCard    = `{"id":"00000000-0000-7000-8000-0000000000c2","title":"Empty","owner":` + bobOwner + `,"links":[]}`
)

func withLinks(owner, links string) string {
	return strings.TrimSuffix(owner, "}") + `,"links":` + links + `}`
}

func TestAnswers(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	const card = "/card/00000000-0000-7000-8000-0000000000c1"
	for _, tt := range []struct {
		name, method, path string
		status             int
		body               string // JSON, or of an error its sentence
		views              int    // events that follow
	}{
		{"profile with everything", "GET", "/api/u/alice", 200, withLinks(aliceOwner, aliceLinks), 1},
		{"username in upper case", "GET", "/api/u/ALICE", 200, withLinks(aliceOwner, aliceLinks), 1},
		{"profile with nothing: nulls stay null, links is []", "GET", "/api/u/bob", 200, withLinks(bobOwner, `[]`), 1},
		{"card: its own links in its own order", "GET", "/api/u/alice" + card, 200, aliceCard, 1},
		{"card without links", "GET", "/api/u/bob/card/" + bobCardID.String(), 200, bobCard, 1},
		{"card id in upper case", "GET", "/api/u/alice/card/00000000-0000-7000-8000-0000000000C1", 200, aliceCard, 1},
		{"source given", "GET", "/api/u/alice?source=nfc", 200, withLinks(aliceOwner, aliceLinks), 1},
		{"HEAD shows nothing to anybody", "HEAD", "/api/u/alice", 200, "", 0},

		{"unknown user", "GET", "/api/u/nobody", 404, "User not found", 0},
		{"username that nobody can have", "GET", "/api/u/al%00ice", 404, "User not found", 0},
		{"username of 10,000 bytes", "GET", "/api/u/" + strings.Repeat("a", 10_000), 414, "url: must be at most 8192 bytes", 0},
		{"username of 8,000 bytes", "GET", "/api/u/" + strings.Repeat("a", 8_000), 404, "User not found", 0},
		{"unknown card", "GET", "/api/u/alice/card/" + uuid.NewString(), 404, "Card not found", 0},
		{"card of another user", "GET", "/api/u/bob" + card, 404, "Card not found", 0},
		{"card of an unknown user", "GET", "/api/u/nobody" + card, 404, "Card not found", 0},
		{"malformed card id", "GET", "/api/u/alice/card/42", 400, errCardID.Error(), 0},
		{"the nil card", "GET", "/api/u/alice/card/00000000-0000-0000-0000-000000000000", 400, errCardID.Error(), 0},
		{"source too long", "GET", "/api/u/alice?source=" + strings.Repeat("x", 33), 400, errSource.Error(), 0},
		{"source of a card with a capital", "GET", "/api/u/alice" + card + "?source=QR", 400, errSource.Error(), 0},
		{"broken query", "GET", "/api/u/alice?source=%zz", 400, errQuery.Error(), 0},
		{"query of 9,000 bytes", "GET", "/api/u/alice?x=" + strings.Repeat("x", 9_000), 414, "url: must be at most 8192 bytes", 0},
		{"wrong method", "DELETE", "/api/u/alice", 405, "this method is not allowed here", 0},
		{"unknown route", "GET", "/api/u/alice/cards", 404, "there is nothing here", 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			before := len(w.events())
			answer := w.do(tt.method, tt.path)
			if answer.Code != tt.status {
				t.Fatalf("status %d, want %d: %s", answer.Code, tt.status, answer.Body)
			}
			switch {
			case tt.status != 200:
				var problem struct{ Error string }
				if err := json.Unmarshal(answer.Body.Bytes(), &problem); err != nil || problem.Error != tt.body {
					t.Errorf("error %q, want %q (%v)", problem.Error, tt.body, err)
				}
			case tt.method == "GET":
				if diff := cmp.Diff(decode(t, tt.body), decode(t, answer.Body.String())); diff != "" {
					t.Errorf("body (-want +got):\n%s", diff)
				}
				if cc := answer.Header().Get("Cache-Control"); cc != "no-store" {
					t.Errorf("Cache-Control %q: a cache could answer, and no view be counted", cc)
				}
			}
			if got := len(w.events()) - before; got != tt.views {
				t.Errorf("%d events, want %d", got, tt.views)
			}
		})
	}
	if strings.Contains(w.logs.String(), "panic") {
		t.Error(w.logs)
	}
}

func decode(t testing.TB, s string) any {
	t.Helper()
	var v any
	if err := json.Unmarshal([]byte(s), &v); err != nil {
		t.Fatalf("%v in %s", err, s)
	}
	return v
}

func TestViewBecomesAnEvent(t *testing.T) {
	t.Parallel()
	w := newWorld(t, func(c *Config) { c.TrustedProxies = prefixes("10.0.0.0/8") })
	hash := func(addr string) string { return w.hasher.hash(mustAddr(addr)) }
	const profile, card = "/api/u/alice", "/api/u/alice/card/00000000-0000-7000-8000-0000000000c1"
	anonymous := `{"cardId":null,"viewerId":null,"username":"alice","source":"link"}`
	byBob := `{"cardId":null,"viewerId":"` + bobID.String() + `","username":"alice","source":"link"}`
	for _, tt := range []struct {
		name    string
		path    string
		options []func(*http.Request)
		data    string // empty: no event
		hash    string // empty: that of 192.0.2.7
	}{
		{name: "no token: anonymous", path: profile, data: anonymous},
		{name: "bearer", path: profile, options: opts(bearer(bobID)), data: byBob},
		{name: "cookie", path: profile, options: opts(cookie(bobID)), data: byBob},
		{name: "token of somebody without a profile", path: profile, options: opts(bearer(carolID)), data: strings.ReplaceAll(byBob, bobID.String(), carolID.String())},
		{name: "garbage for a token: anonymous", path: profile, options: opts(header("Authorization", "Bearer nonsense")), data: anonymous},
		{name: "expired token: anonymous", path: profile, options: opts(header("Authorization", "Bearer "+tokenOf(bobID, -time.Hour))), data: anonymous},
		{name: "token of another key: anonymous", path: profile, options: opts(header("Authorization", "Bearer "+token(bobID)[:80]+"AAAA")), data: anonymous},
		{name: "another scheme: anonymous", path: profile, options: opts(header("Authorization", "Basic Ym9iOmJvYg==")), data: anonymous},
		{name: "invalid bearer counts before a valid cookie: anonymous", path: profile, options: opts(header("Authorization", "Bearer x"), cookie(bobID)), data: anonymous},
		{name: "owner by bearer: no event", path: profile, options: opts(bearer(ownerID))},
		{name: "owner by cookie: no event", path: card, options: opts(cookie(ownerID))},
		{
			name: "card: source is qr", path: card,
			data: `{"cardId":"` + cardID.String() + `","viewerId":null,"username":"alice","source":"qr"}`,
		},
		{
			name: "source given", path: card + "?source=nfc-tag_1",
			data: `{"cardId":"` + cardID.String() + `","viewerId":null,"username":"alice","source":"nfc-tag_1"}`,
		},
		{name: "behind a proxy of ours: the address it names", path: profile, options: opts(from("10.1.1.1"), header("X-Forwarded-For", "203.0.113.9")), data: anonymous, hash: hash("203.0.113.9")},
		{name: "a stranger names an address: not believed", path: profile, options: opts(header("X-Forwarded-For", "203.0.113.9")), data: anonymous},
		{name: "the viewer hangs up: the view happened", path: profile, options: opts(hungUp), data: anonymous},
	} {
		t.Run(tt.name, func(t *testing.T) {
			before, logged := len(w.events()), len(w.logs.lines(t, "view accepted"))
			if answer := w.do("GET", tt.path, tt.options...); answer.Code != 200 {
				t.Fatalf("status %d: %s", answer.Code, answer.Body)
			}
			// The answer is there: so is the event.
			got, lines := w.events()[before:], w.logs.lines(t, "view accepted")[logged:]
			if tt.data == "" {
				if len(got) != 0 || len(lines) != 0 {
					t.Fatalf("%d events and %d log lines, want none", len(got), len(lines))
				}
				return
			}
			if len(got) != 1 || len(lines) != 1 {
				t.Fatalf("%d events and %d log lines, want one each", len(got), len(lines))
			}
			e, line := got[0], lines[0]
			if e.Type != events.CardViewed || e.UserID != ownerID {
				t.Errorf("event %s of user %s", e.Type, e.UserID)
			}
			if diff := cmp.Diff(tt.data, dataOf(t, e)); diff != "" {
				t.Errorf("data (-want +got):\n%s", diff)
			}
			if tt.hash == "" {
				tt.hash = hash("192.0.2.7")
			}
			if diff := cmp.Diff(map[string]string{attrHash: tt.hash, attrAgent: "test/1"}, e.Attributes); diff != "" {
				t.Errorf("attributes (-want +got):\n%s", diff)
			}
			if line["event_id"] != e.ID.String() || line["user_id"] != ownerID.String() || line["via"] != viaStream ||
				line["level"] != "info" || line["took_ms"] == nil || line["source"] == nil {
				t.Errorf("log line %v", line)
			}
			if strings.HasPrefix(tt.path, card) != (line["card_id"] == cardID.String()) {
				t.Errorf("log line %v", line)
			}
		})
	}
	for _, secret := range []string{"192.0.2.7", "203.0.113.9", "test/1", hash("192.0.2.7"), token(bobID)} {
		if strings.Contains(w.logs.String(), secret) {
			t.Errorf("the log has %q", secret)
		}
	}
}

func opts(o ...func(*http.Request)) []func(*http.Request) { return o }

func hungUp(r *http.Request) {
	ctx, cancel := context.WithCancel(r.Context())
	cancel()
	*r = *r.WithContext(ctx)
}

func TestRateLimit(t *testing.T) {
	t.Parallel()
	w := newWorld(t, func(c *Config) {
		c.ViewsRate, c.ViewsBurst, c.TrustedProxies = 0.01, 3, prefixes("10.0.0.0/8")
	})
	for range 2 {
		if answer := w.do("GET", "/api/u/alice"); answer.Code != 200 {
			t.Fatalf("status %d within the burst: %s", answer.Code, answer.Body)
		}
	}
	if answer := w.do("POST", "/api/cards/42/save"); answer.Code != 401 {
		t.Fatalf("status %d within the burst: %s", answer.Code, answer.Body)
	}
	for _, path := range []string{"/api/u/alice", "/api/u/nobody", "/api/u/alice/card/42"} {
		answer := w.do("GET", path)
		if answer.Code != 429 || answer.Header().Get("Retry-After") == "" {
			t.Errorf("%s: status %d, Retry-After %q beyond the burst", path, answer.Code, answer.Header().Get("Retry-After"))
		}
	}
	if answer := w.do("GET", "/api/u/alice", header("X-Forwarded-For", "203.0.113.1")); answer.Code != 429 {
		t.Errorf("status %d: a stranger named another address and got through", answer.Code)
	}
	if answer := w.do("GET", "/api/u/alice", from("192.0.2.8")); answer.Code != 200 {
		t.Errorf("status %d for another address", answer.Code)
	}
	for _, addr := range []string{"203.0.113.1", "203.0.113.2", "203.0.113.3", "203.0.113.4"} {
		if answer := w.do("GET", "/api/u/alice", from("10.1.1.1"), header("X-Forwarded-For", addr)); answer.Code != 200 {
			t.Errorf("status %d for %s behind a proxy of ours", answer.Code, addr)
		}
	}
	if n := len(w.events()); n != 7 {
		t.Errorf("%d events, want 7", n)
	}
}
