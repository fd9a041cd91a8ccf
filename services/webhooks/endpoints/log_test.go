package endpoints

import (
	"encoding/json"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"github.com/cardwire/cardwire/events"
	"github.com/cardwire/cardwire/services/internal/delivery"
	"github.com/cardwire/cardwire/sql/db"
)

// stored is a delivery that deliver made.
type stored struct {
	ID    uuid.UUID
	event events.Event
}

// deliver writes n events of successive hours, the last of now, and a pending
// delivery of each to an endpoint. It returns them newest first.
func (s *server) deliver(t testing.TB, endpointID uuid.UUID, n int) []stored {
	t.Helper()
	var (
		all []stored
		ev  db.StoreEventsParams
		del db.InsertDeliveriesParams
		now = time.Now()
	)
	for i := range n {
		e, err := events.NewAt(now.Add(-time.Duration(i)*time.Hour), alice, events.CardViewed, map[string]any{"nr": i, "text": "<&>"})
		if err != nil {
			t.Fatal(err)
		}
		d := stored{delivery.ID(e.ID, endpointID), e}
		all = append(all, d)
		ev.Ids, ev.UserIds, ev.Types = append(ev.Ids, e.ID), append(ev.UserIds, e.UserID), append(ev.Types, e.Type)
		ev.Bodies, ev.OccurredAts, ev.StreamSeqs = append(ev.Bodies, e.Body), append(ev.OccurredAts, e.Time), append(ev.StreamSeqs, int64(i))
		del.Ids, del.EventIds = append(del.Ids, d.ID), append(del.EventIds, e.ID)
		del.EndpointIds, del.EventTypes = append(del.EndpointIds, endpointID), append(del.EventTypes, e.Type)
		del.Triggers = append(del.Triggers, delivery.TriggerEvent)
	}
	q := db.New(s.db)
	if _, err := q.EnsurePartitions(t.Context(), db.EnsurePartitionsParams{FromDay: now.Add(-time.Duration(n) * time.Hour).UTC(), ToDay: now.UTC()}); err != nil {
		t.Fatal(err)
	}
	if _, err := q.StoreEvents(t.Context(), ev); err != nil {
		t.Fatal(err)
	}
	if _, err := q.InsertDeliveries(t.Context(), del); err != nil {
		t.Fatal(err)
	}
	return all
}

func TestDeliveryLogPages(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	id := s.create(t, alice).ID
	all := s.deliver(t, id, 45) // over two or three days
	s.deliver(t, s.create(t, alice).ID, 3)

	tests := []struct {
		name, query string
		page        [4]int64 // page, limit, total and pages
		from, to    int
	}{
		{"the defaults", "", [4]int64{1, 20, 45, 3}, 0, 20},
		{"second page", "?page=2", [4]int64{2, 20, 45, 3}, 20, 40},
		{"last page is short", "?page=3&limit=20", [4]int64{3, 20, 45, 3}, 40, 45},
		{"a page beyond the last is empty", "?page=4", [4]int64{4, 20, 45, 3}, 45, 45},
		{"the deepest page", "?page=1000&limit=100", [4]int64{1000, 100, 45, 1}, 45, 45},
		{"all at once", "?limit=100", [4]int64{1, 100, 45, 1}, 0, 45},
		{"exactly full pages", "?limit=45", [4]int64{1, 45, 45, 1}, 0, 45},
		{"one per page", "?limit=1&page=45", [4]int64{45, 1, 45, 45}, 44, 45},
		{"an empty parameter is a missing one", "?limit=&page=", [4]int64{1, 20, 45, 3}, 0, 20},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			a := s.call(t, alice, "GET", "/api/webhooks/"+id.String()+"/deliveries"+tt.query, nil)
			got := decode[DeliveryPage](t, a)
			p := got.Pagination
			if diff := cmp.Diff(tt.page, [4]int64{int64(*p.Page), int64(p.Limit), *p.Total, *p.TotalPages}); diff != "" {
				t.Error(diff)
			}
			if more := p.NextCursor != nil; more != (tt.to < len(all)) {
				t.Errorf("there is more: %v", more)
			}
			if len(got.Data) != tt.to-tt.from {
				t.Fatalf("%d deliveries, want %d", len(got.Data), tt.to-tt.from)
			}
			for i, want := range all[tt.from:tt.to] {
				d := got.Data[i]
				if d.ID != want.ID || d.EventID != want.event.ID || string(d.Payload.RawMessage) != string(want.event.Body) {
					t.Errorf("row %d: %v of event %v with %s, want %v of %v", i, d.ID, d.EventID, d.Payload, want.ID, want.event.ID)
				}
			}
		})
	}
}

func TestDeliveryAsJSON(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	id := s.create(t, alice).ID
	d := s.deliver(t, id, 1)[0]
	exec := func(statement string) {
		t.Helper()
		if _, err := s.db.Exec(t.Context(), statement, d.ID); err != nil {
			t.Fatal(err)
		}
	}
	exec(`UPDATE deliveries SET status = 'failed', reason = 'exhausted', attempts = 3, failures = 2, next_attempt_at = NULL, response_code = 503,
	      error_message = 'The receiver answered 503.', created_at = '2026-01-31 12:00:00.123456+02', updated_at = '2026-01-31 10:00:01Z' WHERE id = $1`)
	exec(`INSERT INTO attempts (delivery_id, n, endpoint_id, started_at, finished_at, outcome, response_code, error_class, error_message, duration_ms,
	        dns_ms, connect_ms, tls_ms, first_byte_ms, address_class, trigger, request_headers, response_headers, response_body, response_truncated)
	      SELECT id, 1, endpoint_id, timestamptz '2026-01-31 10:00:00.25Z', timestamptz '2026-01-31 10:00:00.5Z', 'failure', 503, 'status', 'The receiver answered 503.', 250,
	        1, 2, 3, 4, 'public', 'event', convert_to(E'User-Agent: cardwire\nwebhook-signature: v1,… (1)\n', 'UTF8'),
	        convert_to(E'Content-Type: text/plain\nX-Odd: a: b\nX-Latin: ', 'UTF8') || '\xe40a'::bytea, 'try later', true
	      FROM deliveries WHERE id = $1`)
	exec(`INSERT INTO attempts (delivery_id, n, endpoint_id, started_at)
	      SELECT id, 2, endpoint_id, timestamptz '2026-01-31 10:00:01.5Z' FROM deliveries WHERE id = $1`)

	row := fmt.Sprintf(`"id":%q,"endpointId":%q,"eventId":%q,"eventType":"card.viewed","payload":%s,`+
		`"status":"failed","reason":"exhausted","trigger":"event","replayId":null,"responseCode":503,"attempts":3,"waitsFor":null,"nextRetryAt":null,`+
		`"createdAt":"2026-01-31T10:00:00.123456Z","updatedAt":"2026-01-31T10:00:01Z","errorMessage":"The receiver answered 503.","deliveredAt":null`,
		d.ID, id, d.event.ID, d.event.Body)
	log := `[{"n":1,"startedAt":"2026-01-31T10:00:00.25Z","finishedAt":"2026-01-31T10:00:00.5Z","outcome":"failure","responseCode":503,` +
		`"errorClass":"status","errorMessage":"The receiver answered 503.","durationMs":250,"dnsMs":1,"connectMs":2,"tlsMs":3,"firstByteMs":4,` +
		`"addressClass":"public","trigger":"event","requestHeaders":[{"name":"User-Agent","value":"cardwire"},{"name":"webhook-signature","value":"v1,… (1)"}],` +
		`"responseHeaders":[{"name":"Content-Type","value":"text/plain"},{"name":"X-Odd","value":"a: b"},{"name":"X-Latin","value":"�"}],` +
		`"responseBody":"dHJ5IGxhdGVy","responseText":"try later","responseTruncated":true},` +
		`{"n":2,"startedAt":"2026-01-31T10:00:01.5Z","finishedAt":null,"outcome":null,"responseCode":null,"errorClass":null,"errorMessage":null,"durationMs":null,` +
		`"dnsMs":null,"connectMs":null,"tlsMs":null,"firstByteMs":null,"addressClass":null,"trigger":null,"requestHeaders":[],"responseHeaders":[],` +
		`"responseBody":null,"responseText":null,"responseTruncated":false}]`
	path := "/api/webhooks/" + id.String() + "/deliveries"
	for path, want := range map[string]string{
		path:                       `{"data":[{` + row + `}],"pagination":{"page":1,"limit":20,"total":1,"totalPages":1,"nextCursor":null}}`,
		path + "/" + d.ID.String(): `{` + row + `,"attemptLog":` + log + `}`,
	} {
		a := s.call(t, alice, "GET", path, nil)
		if diff := cmp.Diff(parsed(t, want), parsed(t, a.body)); diff != "" || a.status != 200 {
			t.Errorf("%d, (-want +got):\n%s", a.status, diff)
		}
	}
	if _, err := s.db.Exec(t.Context(), "DELETE FROM events"); err != nil {
		t.Fatal(err)
	}
	if a := s.call(t, alice, "GET", path, nil); string(decode[DeliveryPage](t, a).Data[0].Payload.RawMessage) != "null" {
		t.Errorf("payload of an event that is gone: %s", a.body)
	}
}

func parsed(t *testing.T, text string) (v any) {
	t.Helper()
	if err := json.Unmarshal([]byte(text), &v); err != nil {
		t.Fatalf("%v in %s", err, text)
	}
	return v
}

func TestPayloadsOfAPageAreBounded(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	id := s.create(t, alice).ID
	all := s.deliver(t, id, 20)
	// 20 bodies of 250 KiB: sixteen fit into 4 MiB.
	if _, err := s.db.Exec(t.Context(), `UPDATE events SET body = convert_to('{"x":"' || repeat('a', 250 * 1024) || '"}', 'UTF8')`); err != nil {
		t.Fatal(err)
	}
	page := decode[DeliveryPage](t, s.call(t, alice, "GET", "/api/webhooks/"+id.String()+"/deliveries", nil))
	there := 0
	for i, d := range page.Data {
		if string(d.Payload.RawMessage) != "null" {
			there++
			if i >= 16 {
				t.Errorf("row %d has its payload", i)
			}
		}
	}
	if there != 16 {
		t.Errorf("%d payloads, want the newest 16", there)
	}
	one := decode[DeliveryWithAttempts](t, s.call(t, alice, "GET", "/api/webhooks/"+id.String()+"/deliveries/"+all[19].ID.String(), nil))
	if len(one.Payload.RawMessage) < 250<<10 {
		t.Error("a delivery alone lacks its payload")
	}
}

func TestListsAreNewestFirst(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	var want []uuid.UUID
	for range 5 {
		want = append(want, s.create(t, alice).ID)
	}
	slices.Reverse(want)
	for query, n := range map[string]int{"": 5, "?limit=2": 2, "?limit=100": 5} {
		var got []uuid.UUID
		for _, e := range decode[[]Endpoint](t, s.call(t, alice, "GET", "/api/webhooks"+query, nil)) {
			got = append(got, e.ID)
		}
		if !slices.Equal(got, want[:n]) {
			t.Errorf("%q: %v, want %v", query, got, want[:n])
		}
	}
	if a := s.call(t, bob, "GET", "/api/webhooks", nil); a.body != "[]\n" {
		t.Errorf("somebody without endpoints: %s", a.body)
	}
}
