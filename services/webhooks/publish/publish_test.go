package publish

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/cardwire/cardwire/events"
	"github.com/cardwire/cardwire/events/streams"
	"github.com/cardwire/cardwire/services/internal/apikeys"
	"github.com/cardwire/cardwire/services/internal/steptest"
	"github.com/cardwire/cardwire/services/internal/webjson"
	"github.com/cardwire/cardwire/services/webhooks/fanout"
	"github.com/cardwire/cardwire/sql/pgtest"
)

func TestMain(m *testing.M) { os.Exit(pgtest.Main(m)) }

const (
	alice = "00000000-0000-7000-8000-000000000001"
	data  = `{"cardId":null,"viewerId":null,"username":"alice","source":"qr"}`
)

// A server is the step behind what serves it in production, with an API key.
type server struct {
	*steptest.Env
	api     *API
	handler http.Handler
	key     string
}

// newServer starts one. There is a stream, unless broker and database are asked for bare.
func newServer(t *testing.T, change ...func(*Config)) *server {
	t.Helper()
	e := steptest.New(t)
	if _, err := streams.EnsureStream(t.Context(), e.Deps("operator").JS, e.Streams.EventsStream()); err != nil {
		t.Fatal(err)
	}
	cfg := Config{UnknownEventTypes: "refuse", Retention: 30 * 24 * time.Hour}
	for _, c := range change {
		c(&cfg)
	}
	d := e.Deps("webhooks")
	api, err := New(cfg, d)
	if err != nil {
		t.Fatal(err)
	}
	s := &server{Env: e, api: api, handler: webjson.Handler(d.Mux, d.Log)}
	s.key = s.newKey(apikeys.EventsPublish)
	return s
}

func (s *server) newKey(scope apikeys.Scope) string {
	s.T.Helper()
	text, _, err := (apikeys.Store{DB: s.DB}).Create(s.T.Context(), "test", []apikeys.Scope{scope}, 0)
	if err != nil {
		s.T.Fatal(err)
	}
	return text
}

type answered struct {
	status int
	header http.Header
	Result // of one event, or the members of a problem
	Results
	text string
}

// post sends a body; header are names and values.
func (s *server) post(body string, header ...string) answered {
	s.T.Helper()
	r := httptest.NewRequest("POST", "/api/events", strings.NewReader(body))
	r.Header.Set("Authorization", "Bearer "+s.key)
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	w := httptest.NewRecorder()
	s.handler.ServeHTTP(w, r)
	a := answered{status: w.Code, header: w.Header(), text: w.Body.String()}
	if err := json.Unmarshal(w.Body.Bytes(), &a.Result); err != nil {
		s.T.Fatalf("%v in %d %s", err, w.Code, w.Body)
	}
	if err := json.Unmarshal(w.Body.Bytes(), &a.Results); err != nil {
		s.T.Fatalf("%v in %d %s", err, w.Code, w.Body)
	}
	return a
}

// stored is how many messages the stream has.
func (s *server) stored() int {
	s.T.Helper()
	stream, err := s.Deps("operator").JS.Stream(s.T.Context(), streams.Events)
	if err != nil {
		s.T.Fatal(err)
	}
	return int(stream.CachedInfo().State.Msgs)
}

func (s *server) fanOut() (stop func()) {
	s.T.Helper()
	f, err := fanout.New(fanout.Config{Retention: 30 * 24 * time.Hour, FanoutBatch: 100}, s.Deps("webhooks"))
	if err != nil {
		s.T.Fatal(err)
	}
	return s.Run(f)
}

func newID() string { return uuid.Must(uuid.NewV7()).String() }

// event is one with members added to what each needs.
func event(members ...string) string {
	all := append([]string{`"userId":"` + alice + `"`, `"type":"card.viewed"`, `"data":` + data}, members...)
	return "{" + strings.Join(all, ",") + "}"
}

func TestAnEventIsAcceptedOnceTheStreamHasIt(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	const trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
	id := newID()
	a := s.post(event(`"id":"`+id+`"`, `"timestamp":"2026-01-31T12:00:00+01:00"`), "Traceparent", trace)
	if a.status != 202 || a.ID != id || a.Repeated {
		t.Fatalf("%d %s", a.status, a.text)
	}
	stream, err := s.Deps("operator").JS.Stream(t.Context(), streams.Events)
	if err != nil {
		t.Fatal(err)
	}
	m, err := stream.GetMsg(t.Context(), 1)
	if err != nil {
		t.Fatal(err)
	}
	e, err := events.Decode(m.Subject, m.Header, m.Data)
	if err != nil {
		t.Fatal(err)
	}
	want := `{"type":"card.viewed","timestamp":"2026-01-31T11:00:00Z","data":` + data + `}`
	if e.ID.String() != id || e.UserID.String() != alice || string(e.Body) != want || e.Trace != trace {
		t.Errorf("stored %+v, body %s", e, e.Body)
	}
	if a := s.post(event()); a.status != 202 || len(a.ID) != 36 {
		t.Errorf("without an id: %d %s", a.status, a.text)
	}
}

// The same event again and another under its id, before fan-out knows it and after.
func TestARepeatChangesNothingAndAnotherEventIsAConflict(t *testing.T) {
	t.Parallel()
	named := func(key string) []string { return []string{"Idempotency-Key", key} }
	cloud := []string{"Content-Type", typeCE}
	ce := func(id, rest string) string {
		return `{"specversion":"1.0","id":"` + id + `","source":"/shop","type":"card.viewed","userid":"` + alice + `","data":` + data + rest + `}`
	}
	ids := []string{newID(), newID(), newID(), newID()}
	id := func(i int) string { return `"id":"` + ids[i] + `"` }
	now, before := `"timestamp":"`+time.Now().UTC().Format(time.RFC3339)+`"`, `"timestamp":"`+time.Now().UTC().Add(-time.Hour).Format(time.RFC3339)+`"`
	other := strings.Replace(event(), `"qr"`, `"nfc"`, 1)
	rows := []struct {
		name, body, changed string
		header              []string
	}{
		{"by id", event(id(0)), strings.Replace(event(id(0)), `"qr"`, `"nfc"`, 1), nil},
		{"by id, of another user", event(id(1)), strings.Replace(event(id(1)), alice, "00000000-0000-7000-8000-000000000002", 1), nil},
		{"by id, at another time", event(id(2)), event(id(2), now), nil},
		{"by Idempotency-Key", event(), other, named("a")},
		{"by Idempotency-Key, at another time", event(now), event(before), named("b")},
		{"a CloudEvent by id and source", ce("A-1", ""), strings.Replace(ce("A-1", ""), `"qr"`, `"nfc"`, 1), cloud},
		{"a CloudEvent by id and source, at another time", ce("A-2", ""), ce("A-2", `,"time":"`+before[13:]), cloud},
		{"a CloudEvent with an id of ours", ce(ids[3], ""), strings.Replace(ce(ids[3], ""), `"qr"`, `"nfc"`, 1), cloud},
	}
	for _, fannedOut := range []bool{false, true} {
		t.Run(fmt.Sprintf("fanned out: %v", fannedOut), func(t *testing.T) {
			t.Parallel()
			s := newServer(t)
			if fannedOut {
				s.fanOut()
			}
			for i, tt := range rows {
				t.Run(tt.name, func(t *testing.T) {
					first := s.post(tt.body, tt.header...)
					if first.status != 202 || first.Repeated {
						t.Fatalf("first: %d %s", first.status, first.text)
					}
					if fannedOut {
						s.Await("fan-out", `SELECT count(*) = 1 FROM events WHERE id = $1`, first.ID)
					}
					again := s.post(tt.body, tt.header...)
					if again.status != 202 || !again.Repeated || again.ID != first.ID {
						t.Errorf("repeat: %d %s", again.status, again.text)
					}
					changed := s.post(tt.changed, tt.header...)
					if changed.status != 409 || !strings.Contains(changed.Error, "was used for another event") {
						t.Errorf("changed: %d %s", changed.status, changed.text)
					}
					if n := s.stored(); n != i+1 {
						t.Errorf("%d messages stored, want %d", n, i+1)
					}
				})
			}
		})
	}
}

// Two under one id at once, in as many ways as the scheduler likes: one body wins.
func TestOfTwoAtOnceUnderOneIDOneIsAccepted(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	for round := range 20 {
		id := `"id":"` + newID() + `"`
		bodies := []string{event(id), strings.Replace(event(id), `"qr"`, `"nfc"`, 1)}
		statuses := make([]int, len(bodies))
		var g sync.WaitGroup
		for i, body := range bodies {
			g.Go(func() { statuses[i] = s.post(body).status })
		}
		g.Wait()
		slices.Sort(statuses)
		if !slices.Equal(statuses, []int{202, 409}) || s.stored() != round+1 {
			t.Fatalf("round %d: %d, %d stored", round, statuses, s.stored())
		}
	}
}

func TestAnIdempotencyKeyIsOneAPIKeysOwn(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	one := s.post(event(), "Idempotency-Key", "a")
	s.key = s.newKey(apikeys.EventsPublish)
	two := s.post(event(), "Idempotency-Key", "a")
	if one.status != 202 || two.status != 202 || one.ID == two.ID || two.Repeated {
		t.Errorf("%s, then with another API key %s", one.text, two.text)
	}
}

func TestNamesAreForgottenAfterADay(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	first := s.post(event(), "Idempotency-Key", "a")
	s.Exec(`UPDATE event_names SET created_at = now() - interval '23 hours'`)
	if err := s.api.prune(t.Context()); err != nil {
		t.Fatal(err)
	}
	if again := s.post(event(), "Idempotency-Key", "a"); again.ID != first.ID {
		t.Errorf("after 23 h: %s", again.text)
	}
	s.Exec(`UPDATE event_names SET created_at = now() - interval '25 hours'`)
	s.Run(s.api)
	s.Await("names forgotten", `SELECT count(*) = 0 FROM event_names`)
	if again := s.post(event(), "Idempotency-Key", "a"); again.status != 202 || again.ID == first.ID {
		t.Errorf("after 25 h: %s", again.text)
	}
}

func TestABatchIsAnsweredEventByEvent(t *testing.T) {
	t.Parallel()
	id, two := newID(), newID()
	broken := strings.Replace(event(), `"qr"`, `""`, 1)
	unknown := strings.Replace(event(), "card.viewed", "order.paid", 1)
	array := func(events ...string) string { return "[" + strings.Join(events, ",") + "]" }
	s := newServer(t)
	for _, tt := range []struct {
		name, mediaType, body string
		status                int
		want                  []int
	}{
		{"all accepted", typeJSON, array(event(), event()), 202, []int{202, 202}},
		{"a batch of one", typeJSON, array(event()), 202, []int{202}},
		{"one broken, one unknown", typeJSON, array(event(), broken, unknown), 207, []int{202, 400, 400}},
		{"all broken", typeJSON, array(broken, unknown), 400, []int{400, 400}},
		{"no object among them", typeJSON, array(event(), "7"), 207, []int{202, 400}},
		{"the same event twice", typeJSON, array(event(`"id":"`+id+`"`), event(`"id":"`+id+`"`)), 202, []int{202, 202}},
		{"two events under one id: the first is accepted", typeJSON, array(event(`"id":"`+two+`"`), strings.Replace(event(`"id":"`+two+`"`), `"qr"`, `"nfc"`, 1)), 207, []int{202, 409}},
		{"one too large", typeJSON, array(event(), strings.Replace(event(), `"qr"`, `"`+strings.Repeat("x", events.MaxBody)+`"`, 1)), 207, []int{202, 413}},
		{"lines", typeNDJSON, event() + "\n\n" + event() + "\r\n", 202, []int{202, 202}},
		{"a line that is no JSON", typeNDJSON, event() + "\n{\n" + event(), 207, []int{202, 400, 202}},
		{"CloudEvents", typeCEBatch, `[{"specversion":"1.0","id":"1","source":"/s","type":"card.viewed","userid":"` + alice + `","data":` + data + `},
			{"specversion":"0.3","id":"1","source":"/s","type":"card.viewed"}]`, 207, []int{202, 400}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			before := s.stored()
			a := s.post(tt.body, "Content-Type", tt.mediaType)
			if a.status != tt.status || len(a.Results.Results) != len(tt.want) {
				t.Fatalf("%d %s", a.status, a.text)
			}
			stored := map[string]bool{}
			for i, r := range a.Results.Results {
				if r.Index != i || r.Status != tt.want[i] || (r.Status == 202) == (r.Error != "") {
					t.Errorf("event %d: %+v, want %d", i, r, tt.want[i])
				}
				if r.Status == 202 {
					stored[r.ID] = true
				}
			}
			if n := s.stored() - before; n != len(stored) {
				t.Errorf("%d messages stored, %d ids accepted", n, len(stored))
			}
		})
	}
}

func TestAThousandEventsAreOneBatch(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	var b bytes.Buffer
	for range MaxEvents {
		fmt.Fprintln(&b, event())
	}
	if a := s.post(b.String(), "Content-Type", typeNDJSON); a.status != 202 || a.Accepted != MaxEvents || s.stored() != MaxEvents {
		t.Errorf("%d, %d accepted", a.status, a.Accepted)
	}
	fmt.Fprintln(&b, event())
	if a := s.post(b.String(), "Content-Type", typeNDJSON); a.status != 413 || a.Error != "body: must have at most 1000 events: send several requests" {
		t.Errorf("one more: %d %s", a.status, a.text)
	}
	large := event() + strings.Repeat(" ", MaxBytes)
	if a := s.post(large); a.status != 413 || a.Error != "body: must be at most 5242880 bytes" {
		t.Errorf("too many bytes: %d %s", a.status, a.text)
	}
	if a := s.post(large[:2<<20]); a.status != 202 { // more than other routes take
		t.Errorf("2 MiB: %d %s", a.status, a.text)
	}
}
