package endpoints

import (
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"github.com/cardwire/cardwire/events"
)

// scan reads a log by cursor until its end, and returns the ids of each page.
func (s *server) scan(t testing.TB, id uuid.UUID, query url.Values) (pages [][]uuid.UUID) {
	t.Helper()
	for {
		a := s.call(t, alice, "GET", "/api/webhooks/"+id.String()+"/deliveries?"+query.Encode(), nil)
		if a.status != 200 {
			t.Fatalf("%d %s", a.status, a.body)
		}
		page := decode[DeliveryPage](t, a)
		ids := make([]uuid.UUID, len(page.Data))
		for i, d := range page.Data {
			ids[i] = d.ID
		}
		pages = append(pages, ids)
		p := page.Pagination
		if len(pages) > 1 && (p.Page != nil || p.Total != nil || p.TotalPages != nil) {
			t.Errorf("a page by cursor has totals: %s", a.body)
		}
		if p.NextCursor == nil {
			return pages
		}
		query.Set("cursor", *p.NextCursor)
	}
}

func TestLogByCursorAndFilters(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	id := s.create(t, alice).ID
	all := s.deliver(t, id, 45) // an hour apart
	s.deliver(t, s.create(t, alice).ID, 3)
	exec := func(sql string, args ...any) {
		t.Helper()
		if _, err := s.db.Exec(t.Context(), sql, args...); err != nil {
			t.Fatal(err)
		}
	}
	var failed, saved []stored
	for i, d := range all {
		if i%10 == 3 {
			failed = append(failed, d)
			exec(`UPDATE deliveries SET status = 'failed', reason = 'exhausted', next_attempt_at = NULL WHERE id = $1`, d.ID)
		}
		if i%2 == 1 {
			saved = append(saved, d)
			exec(`UPDATE deliveries SET event_type = 'contact.saved' WHERE id = $1`, d.ID)
		}
	}
	at := func(i int) string { return events.IDTime(all[i].ID).Format(time.RFC3339Nano) }
	tests := []struct {
		name, query string
		want        []stored
		pages       int
	}{
		{"everything, from the first page of today's clients on", "limit=20", all, 3},
		{"pages that are exactly full", "limit=15", all, 3},
		{"only what failed", "status=failed&limit=2", failed, 3},
		{"only a type", "eventType=contact.saved&limit=100", saved, 1},
		{"both", "eventType=contact.saved&status=failed", failed, 1},
		{"nothing is that", "eventType=nobody.asked", nil, 1},
		{"since a delivery's time: with it", "limit=4&since=" + at(9), all[:10], 3},
		{"until a delivery's time: without it", "until=" + at(9) + "&limit=100", all[10:], 1},
		{"a range", "since=" + at(20) + "&until=" + at(10), all[11:21], 1},
		{"a range of another time zone", "since=" + url.QueryEscape(events.IDTime(all[20].ID).In(time.FixedZone("", 7200)).Format(time.RFC3339Nano)), all[:21], 2},
		{"a range of nothing", "since=" + at(20) + "&until=" + events.IDTime(all[20].ID).Add(time.Nanosecond).Format(time.RFC3339Nano), all[20:21], 1},
		{"before anything was kept", "until=0001-01-01T00:00:01Z", nil, 1},
		{"after everything", "since=9999-12-31T23:59:59Z", nil, 1},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			query, err := url.ParseQuery(tt.query)
			if err != nil {
				t.Fatal(err)
			}
			pages := s.scan(t, id, query)
			if len(pages) != tt.pages {
				t.Errorf("%d pages, want %d", len(pages), tt.pages)
			}
			var got, want []uuid.UUID
			for _, page := range pages {
				got = append(got, page...)
			}
			for _, d := range tt.want {
				want = append(want, d.ID)
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestBadCursorsAndFilters(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	own, other := s.create(t, alice).ID, s.create(t, alice).ID
	s.deliver(t, own, 2)
	s.deliver(t, other, 2)
	cursor := func(id uuid.UUID) string {
		a := s.call(t, alice, "GET", "/api/webhooks/"+id.String()+"/deliveries?limit=1", nil)
		return *decode[DeliveryPage](t, a).Pagination.NextCursor
	}
	for _, tt := range []struct{ name, query, sentence string }{
		{"cursor of another endpoint", "cursor=" + cursor(other), "cursor: must be the nextCursor of a page of this log"},
		{"forged cursor", "cursor=" + strings.ToUpper(cursor(own)), "cursor: must be the nextCursor of a page of this log"},
		{"long cursor", "cursor=" + strings.Repeat("A", 129), "cursor: must have at most 128 characters"},
		{"cursor and page", "page=2&cursor=" + cursor(own), "page: must be 1, or missing, with a cursor or a filter"},
		{"filter and page", "page=2&status=failed", "page: must be 1, or missing, with a cursor or a filter"},
		{"unknown status", "status=done", "status: must be one of"},
		{"no event type", "eventType=card.*", "eventType: must be an event type"},
		{"no time", "since=yesterday", "since: must be a time as in RFC 3339"},
		{"a date alone", "until=2026-08-02", "until: must be a time as in RFC 3339"},
		{"a plus that became a space", "until=2026-08-02T00:00:00+02:00", "until: must be a time as in RFC 3339"},
		{"turned round", "since=2026-08-03T00:00:00Z&until=2026-08-02T00:00:00Z", "until: must be after since"},
		{"empty range", "since=2026-08-03T00:00:00Z&until=2026-08-03T00:00:00Z", "until: must be after since"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			a := s.call(t, alice, "GET", "/api/webhooks/"+own.String()+"/deliveries?"+tt.query, nil)
			if a.status != 400 || !strings.HasPrefix(a.sentence(t), tt.sentence) {
				t.Errorf("%d %s, want %s", a.status, a.body, tt.sentence)
			}
		})
	}
}

// What hardly any delivery matches is looked for in steps, each of them bounded.
func TestAPageExaminesABoundedNumberOfDeliveries(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	id := s.create(t, alice).ID
	old := s.deliver(t, id, 3)[2] // two hours ago
	const fresh = 2*maxExamined + 1
	if _, err := s.db.Exec(t.Context(), `INSERT INTO deliveries (id, event_id, endpoint_id, event_type)
		SELECT new_id(), new_id(), $1, 'card.viewed' FROM generate_series(1, $2)`, id, fresh); err != nil {
		t.Fatal(err)
	}
	if _, err := s.db.Exec(t.Context(), `UPDATE deliveries SET event_type = 'rare' WHERE id = $1`, old.ID); err != nil {
		t.Fatal(err)
	}
	pages := s.scan(t, id, url.Values{"eventType": {"rare"}})
	if diff := cmp.Diff([][]uuid.UUID{{}, {}, {old.ID}}, pages); diff != "" {
		t.Errorf("two empty pages that go on, and then what was looked for: %s", diff)
	}
	all := 0
	seen := make(map[uuid.UUID]bool)
	for _, page := range s.scan(t, id, url.Values{"limit": {"100"}, "status": {"pending"}}) {
		for _, d := range page {
			seen[d] = true
			all++
		}
	}
	if all != fresh+3 || len(seen) != all {
		t.Errorf("%d deliveries, %d of them different, want %d", all, len(seen), fresh+3)
	}
}

func TestWhatADeliveryWaitsFor(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	id := s.create(t, alice).ID
	d := s.deliver(t, id, 1)[0]
	ready := time.Now().Add(time.Minute).UTC().Truncate(time.Millisecond)
	due := ready.Add(time.Hour)
	null := (*string)(nil)
	text := func(s string) *string { return &s }
	for _, tt := range []struct {
		name, set string
		state     bool
		waitsFor  *string
		next      *time.Time
	}{
		{"its turn", `next_attempt_at = '%due%'`, false, null, &due},
		{"its time, after a failure", `attempts = 1, failures = 1, next_attempt_at = '%due%'`, false, text("retry"), &due},
		{"an attempt is in flight", `attempts = 2, failures = 1, leased_until = '%due%', next_attempt_at = '%due%'`, false, null, &due},
		{"the endpoint's own schedule", `failures = 1, waits_for = 'schedule', next_attempt_at = '%due%'`, false, text("schedule"), &due},
		{"Retry-After", `failures = 1, waits_for = 'retry_after', next_attempt_at = '%due%'`, false, text("retry_after"), &due},
		{"its endpoint, which is at capacity", `waits_for = 'at_capacity', next_attempt_at = '9999-01-01Z'`, true, text("at_capacity"), &ready},
		{"its endpoint, whose circuit is open", `waits_for = 'circuit_open', next_attempt_at = '9999-01-01Z'`, true, text("circuit_open"), &ready},
		{"its endpoint, and nobody noted how long", `waits_for = 'paused', next_attempt_at = '9999-01-01Z'`, false, text("paused"), nil},
		{"nothing: it was given up", `status = 'failed', reason = 'exhausted', next_attempt_at = NULL, waits_for = NULL`, true, null, nil},
	} {
		set := strings.ReplaceAll(tt.set, "%due%", due.Format(time.RFC3339Nano))
		for _, sql := range []string{
			`UPDATE deliveries SET status = 'pending', reason = NULL, attempts = 0, failures = 0, waits_for = NULL, leased_until = NULL, next_attempt_at = now() WHERE id = '` + d.ID.String() + `'`,
			`UPDATE deliveries SET ` + set + ` WHERE id = '` + d.ID.String() + `'`,
			`DELETE FROM endpoint_states`,
		} {
			if _, err := s.db.Exec(t.Context(), sql); err != nil {
				t.Fatal(err)
			}
		}
		if tt.state {
			if _, err := s.db.Exec(t.Context(), `INSERT INTO endpoint_states (endpoint_id, waits_for, wait_until) VALUES ($1, 'at_capacity', $2)`, id, ready); err != nil {
				t.Fatal(err)
			}
		}
		path := "/api/webhooks/" + id.String() + "/deliveries"
		one := decode[DeliveryWithAttempts](t, s.call(t, alice, "GET", path+"/"+d.ID.String(), nil)).Delivery
		listed := decode[DeliveryPage](t, s.call(t, alice, "GET", path, nil)).Data[0]
		for where, got := range map[string]Delivery{"alone": one, "listed": listed} {
			if diff := cmp.Diff(tt.waitsFor, got.WaitsFor) + cmp.Diff(tt.next, got.NextRetryAt); diff != "" {
				t.Errorf("%s, %s: %s", tt.name, where, diff)
			}
		}
	}
}
