package view

import (
	"net"
	"net/http/httptest"
	"net/netip"
	"strconv"
	"strings"
	"testing"

	"github.com/google/uuid"

	"github.com/cardwire/cardwire/services/internal/natstest"
	"github.com/cardwire/cardwire/sql/pgtest"
)

func prefixes(cidrs ...string) (all []netip.Prefix) {
	for _, s := range cidrs {
		all = append(all, netip.MustParsePrefix(s))
	}
	return all
}

func mustAddr(s string) netip.Addr { return netip.MustParseAddr(s) }

func TestBrokerAway(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.run(w.View)
	_, port, err := net.SplitHostPort(w.broker.Address())
	if err != nil {
		t.Fatal(err)
	}
	w.broker.Stop()
	const views = 5
	for range views {
		if answer := w.do("GET", "/api/u/alice", bearer(bobID)); answer.Code != 200 {
			t.Fatalf("status %d without a broker: %s", answer.Code, answer.Body)
		}
	}
	if n := w.count("SELECT count(*) FROM outbox WHERE refused IS NULL AND type = 'card.viewed'"); n != views {
		t.Fatalf("%d events in the outbox, want %d", n, views)
	}
	accepted := make(map[string]bool)
	for _, line := range w.logs.lines(t, "view accepted") {
		if line["via"] != viaOutbox {
			t.Errorf("log line %v, want via outbox", line)
		}
		accepted[line["event_id"].(string)] = true
	}

	p, err := strconv.Atoi(port)
	if err != nil {
		t.Fatal(err)
	}
	w.broker = natstest.StartIn(t, w.store, p)
	w.stream = natstest.JetStream(t, w.broker, "operator")
	await(t, "the outbox is relayed", func() bool { return w.count("SELECT count(*) FROM outbox") == 0 })
	got := w.events()
	if len(got) != views {
		t.Errorf("%d events on the stream, want %d", len(got), views)
	}
	for _, e := range got {
		if !accepted[e.ID.String()] {
			t.Errorf("event %s on the stream has not the id it was accepted with", e.ID)
		}
		if e.Attributes[attrHash] == "" || e.Attributes[attrAgent] != "test/1" {
			t.Errorf("attributes %v after the outbox", e.Attributes)
		}
	}
	await(t, "the views are in the table", func() bool {
		return w.count("SELECT count(*) FROM card_views WHERE viewer_hash IS NOT NULL AND viewer_id = $1", bobID) == views
	})
	if answer := w.do("GET", "/api/u/alice"); answer.Code != 200 {
		t.Fatalf("status %d: %s", answer.Code, answer.Body)
	}
	if lines := w.logs.lines(t, "view accepted"); lines[views]["via"] != viaStream {
		t.Errorf("log line %v after the broker is back, want via stream", lines[views])
	}
}

// A broker that is there but does not confirm: here for want of a stream.
func TestBrokerDoesNotConfirm(t *testing.T) {
	t.Parallel()
	w := newWorldWithoutStream(t, pgtest.New(t))
	if answer := w.do("GET", "/api/u/alice"); answer.Code != 200 {
		t.Fatalf("status %d: %s", answer.Code, answer.Body)
	}
	if n := w.count("SELECT count(*) FROM outbox"); n != 1 {
		t.Fatalf("%d events in the outbox, want 1", n)
	}
	line := w.logs.lines(t, "view accepted")[0]
	if line["via"] != viaOutbox || line["publish_error"] == nil {
		t.Errorf("log line %v", line)
	}
	w.run(w.View) // makes the stream
	await(t, "the outbox is relayed", func() bool { return w.count("SELECT count(*) FROM outbox") == 0 })
	if got := w.events(); len(got) != 1 || got[0].ID.String() != line["event_id"] {
		t.Errorf("events %v, want that of %v", got, line)
	}
}

// The stream has the event, but its ack got lost: the event is in the outbox
// too, and stays one event.
func TestPublishThatWasStoredAllTheSame(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	e, _, err := viewEvent(&page{key: pageKey{username: "alice"}, ownerID: ownerID}, viewer{}, "link", w.hasher)
	if err != nil {
		t.Fatal(err)
	}
	if err := w.pub.Publish(t.Context(), e); err != nil {
		t.Fatal(err)
	}
	w.exec(`INSERT INTO outbox (id, user_id, type, body) VALUES ($1, $2, $3, $4)`, e.ID, e.UserID, e.Type, e.Body)
	w.run(w.View)
	await(t, "the outbox is relayed", func() bool { return w.count("SELECT count(*) FROM outbox") == 0 })
	w.awaitSettled(1)
	if n := len(w.events()); n != 1 {
		t.Errorf("%d events on the stream, want 1", n)
	}
	if n := w.count("SELECT count(*) FROM card_views"); n != 1 {
		t.Errorf("%d view rows, want 1", n)
	}
}

func TestBrokerAndDatabaseAway(t *testing.T) {
	t.Parallel()
	w := newWorld(t, func(c *Config) { c.ProfileCacheTTL = c.ProfileCacheTTL * 60 })
	for _, path := range []string{"/api/u/alice", "/api/u/nobody"} {
		w.do("GET", path) // into the cache
	}
	w.broker.Stop()
	w.pool.Close()

	for n := 1; n <= 2; n++ {
		if answer := w.do("GET", "/api/u/alice"); answer.Code != 200 {
			t.Fatalf("status %d for a cached page: %s", answer.Code, answer.Body)
		}
		lines := w.logs.lines(t, "view lost")
		if len(lines) != n {
			t.Fatalf("%d lines of lost views, want %d", len(lines), n)
		}
		line := lines[n-1]
		if id, err := uuid.Parse(line["event_id"].(string)); err != nil || id.Version() != 7 || line["level"] != "error" || line["lost_total"] != float64(n) {
			t.Errorf("log line %v", line)
		}
	}
	if answer := w.do("GET", "/api/u/nobody"); answer.Code != 404 {
		t.Errorf("status %d for a miss in the cache: %s", answer.Code, answer.Body)
	}
	for _, answer := range []*httptest.ResponseRecorder{
		w.do("GET", "/api/u/bob"),
		w.do("GET", "/api/u/alice/card/"+cardID.String()),
		w.do("POST", savePath(cardID.String()), bearer(bobID)),
	} {
		if answer.Code != 503 || answer.Header().Get("Retry-After") == "" || strings.Contains(answer.Body.String(), "pool") {
			t.Errorf("status %d, body %s for what is not in the cache", answer.Code, answer.Body)
		}
	}
}
