package tail

import (
	"context"
	"fmt"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"github.com/cardwire/cardwire/events"
	"github.com/cardwire/cardwire/events/streams"
	"github.com/cardwire/cardwire/services/internal/steptest"
	"github.com/cardwire/cardwire/sql/db"
	"github.com/cardwire/cardwire/sql/pgtest"
)

func TestMain(m *testing.M) { os.Exit(pgtest.Main(m)) }

var (
	alice = uuid.MustParse("00000000-0000-7000-8000-000000000001")
	bob   = uuid.MustParse("00000000-0000-7000-8000-000000000002")
)

// attempt writes a delivery with an attempt that has just ended.
func attempt(e *steptest.Env, endpoint uuid.UUID, eventType, outcome string) {
	e.T.Helper()
	e.Exec(`WITH d AS (
			INSERT INTO deliveries (id, event_id, endpoint_id, event_type, next_attempt_at, updated_at) VALUES (new_id(), new_id(), $1, $2, now() + interval '1 minute', clock_timestamp()) RETURNING id
		)
		INSERT INTO attempts (delivery_id, n, endpoint_id, finished_at, outcome, response_code, duration_ms) SELECT id, 1, $1, clock_timestamp(), $3, 500, 7 FROM d`, endpoint, eventType, outcome)
}

func TestFilters(t *testing.T) {
	t.Parallel()
	e := steptest.New(t)
	js := e.Deps("operator").JS
	if _, err := streams.EnsureStream(t.Context(), js, e.Streams.EventsStream()); err != nil {
		t.Fatal(err)
	}
	hers, his := e.Endpoint(alice, "https://one.example/").ID, e.Endpoint(bob, "https://two.example/").ID
	attempt(e, hers, "card.viewed", "success") // before: no news
	rows := []struct {
		name   string
		filter Filter
		want   []string
	}{
		{"all", Filter{}, []string{"alice card.viewed", "alice contact.saved", "bob card.viewed", "hers card.viewed failure", "hers card.viewed success", "his contact.saved failure"}},
		{"a user", Filter{User: alice}, []string{"alice card.viewed", "alice contact.saved", "hers card.viewed failure", "hers card.viewed success"}},
		{"a type", Filter{Type: "contact.saved"}, []string{"alice contact.saved", "his contact.saved failure"}},
		{"a pattern", Filter{Type: "card.*", User: bob}, []string{"bob card.viewed"}},
		{"every type", Filter{Type: "*", User: bob}, []string{"bob card.viewed", "his contact.saved failure"}},
		{"an endpoint", Filter{Endpoint: his}, []string{"his contact.saved failure"}},
		{"what failed", Filter{Failed: true}, []string{"hers card.viewed failure", "his contact.saved failure"}},
		{"what failed of a user", Filter{Failed: true, User: alice}, []string{"hers card.viewed failure"}},
	}
	names := map[string]string{alice.String(): "alice", bob.String(): "bob", hers.String(): "hers", his.String(): "his"}
	lines := make([]chan string, len(rows))
	done := make(chan error, len(rows))
	ctx, stop := context.WithCancel(t.Context())
	for i, row := range rows {
		lines[i] = make(chan string, 100)
		ready := make(chan struct{})
		go func() {
			done <- Tail{
				DB: e.DB, JS: js, Filter: row.filter, Ready: func() { close(ready) },
				Event:   func(ev Event) { lines[i] <- names[ev.UserID] + " " + ev.Type },
				Attempt: func(a Attempt) { lines[i] <- fmt.Sprint(names[a.EndpointID.String()], " ", a.Type, " ", a.Outcome) },
			}.Run(ctx)
		}()
		select {
		case <-ready:
		case err := <-done:
			t.Fatal(err)
		}
	}
	for _, ev := range []struct {
		user uuid.UUID
		kind string
	}{{alice, "card.viewed"}, {alice, "contact.saved"}, {bob, "card.viewed"}} {
		made, err := events.New(ev.user, ev.kind, struct{}{})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := js.PublishMsg(t.Context(), made.Msg()); err != nil {
			t.Fatal(err)
		}
	}
	attempt(e, hers, "card.viewed", "success")
	attempt(e, hers, "card.viewed", "failure")
	attempt(e, his, "contact.saved", "failure")
	for i, row := range rows {
		var got []string
		for range row.want {
			select {
			case line := <-lines[i]:
				got = append(got, line)
			case <-time.After(steptest.Bound):
				t.Fatalf("%s: nothing more after %q", row.name, got)
			}
		}
		slices.Sort(got)
		if diff := cmp.Diff(row.want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", row.name, diff)
		}
	}
	stop()
	for range rows {
		if err := <-done; err != nil {
			t.Errorf("ended with %v", err)
		}
	}
	for i, row := range rows {
		if len(lines[i]) > 0 {
			t.Errorf("%s: also %q", row.name, <-lines[i])
		}
	}
}

func TestAnAttemptIsShownOnce(t *testing.T) {
	t.Parallel()
	e := steptest.New(t)
	p := newPoller(db.New(e.DB), Filter{})
	if err := p.begin(t.Context()); err != nil {
		t.Fatal(err)
	}
	shown := 0
	look := func() {
		t.Helper()
		if err := p.look(t.Context(), func(Attempt) { shown++ }); err != nil {
			t.Fatal(err)
		}
	}
	attempt(e, e.Endpoint(alice, "https://one.example/").ID, "card.viewed", "failure")
	look()
	look()
	e.Exec(`INSERT INTO attempts (delivery_id, n, endpoint_id, finished_at, outcome) SELECT id, 2, endpoint_id, clock_timestamp(), 'success' FROM deliveries`)
	e.Exec(`UPDATE deliveries SET updated_at = clock_timestamp()`)
	look()
	look()
	if shown != 2 {
		t.Errorf("two attempts were shown %d times", shown)
	}
}

func TestCheckAndSubject(t *testing.T) {
	t.Parallel()
	for eventType, want := range map[string]string{
		"": "events.*.>", "*": "events.*.>", "card.viewed": "events.*.card.viewed", "card.*": "events.*.card.>",
		"card.>": "", "Card": "", "card*": "", "*.viewed": "",
	} {
		f := Filter{Type: eventType}
		if err := f.Check(); (err == nil) != (want != "") {
			t.Errorf("%q: %v", eventType, err)
		} else if err == nil && f.subject() != want {
			t.Errorf("%q: %s, want %s", eventType, f.subject(), want)
		}
	}
	if got := (Filter{User: alice}).subject(); got != "events."+alice.String()+".>" {
		t.Error(got)
	}
}
