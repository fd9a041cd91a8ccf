package publish

import (
	"encoding/json"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/cardwire/cardwire/events"
	"github.com/cardwire/cardwire/services/internal/apikeys"
)

func TestWhatIsRefused(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	with := func(from, to string) string { return strings.Replace(event(), from, to, 1) }
	old, err := events.NewAt(time.Now().AddDate(0, 0, -31), uuid.MustParse(alice), "card.viewed", struct{}{})
	if err != nil {
		t.Fatal(err)
	}
	ce := func(from, to string) string {
		return strings.Replace(`{"specversion":"1.0","id":"A","source":"/s","type":"card.viewed","userid":"`+alice+`","data":`+data+`}`, from, to, 1)
	}
	tests := []struct {
		name, body string
		header     []string
		status     int
		sentence   string // how it begins
	}{
		{"nothing", "", nil, 400, "event: must be JSON, and ends too early"},
		{"no JSON", "event", nil, 400, "event: must be JSON, which it is not near byte"},
		{"cut off", event()[:40], nil, 400, "event: must be JSON, and ends too early"},
		{"null", "null", nil, 400, "event: must be a JSON object"},
		{"a second object", event() + event(), nil, 400, "event: must be one JSON object, with nothing after it"},
		{"not UTF-8", with("alice", "\xff"), nil, 400, "body: must be UTF-8"},
		{"no events", "[]", nil, 400, "body: must have 1 to 1000 events"},
		{"no lines", "\n\n", []string{"Content-Type", typeNDJSON}, 400, "body: must have 1 to 1000 events"},
		{"too many events, and no JSON after them, which is not read", "[" + strings.Repeat("0,", 1001) + "event", nil, 413, "body: must have at most 1000 events"},
		{"an array and something after it", "[" + event() + "]]", nil, 400, "body: must be one JSON array, with nothing after it"},
		{"an array without a comma", "[" + event() + event() + "]", nil, 400, "body: must be JSON, which it is not near byte"},
		{"half an array", "[" + event(), nil, 400, "body: must be JSON, "},
		{"another media type", event(), []string{"Content-Type", "text/plain"}, 415, "content-type: must be application/json"},
		{"a media type that is none", event(), []string{"Content-Type", ";"}, 415, "content-type: must be application/json"},
		{"a member twice", event(`"type":"card.viewed"`), nil, 400, "type: is there twice"},
		{"a member unknown", event(`"colour":1`), nil, 400, "colour: is not known here"},
		{"a member in capitals", with("userId", "USERID"), nil, 400, "USERID: is not known here"},
		{"no user", with(`"userId":"`+alice+`",`, ""), nil, 400, "userId: is required"},
		{"no type", with(`"type":"card.viewed",`, ""), nil, 400, "type: is required"},
		{"no data", with(`,"data":`+data, ""), nil, 400, "data: is required"},
		{"a user that is none", with(alice, "alice"), nil, 400, "userId: must be the UUID"},
		{"the nil user", with(alice, uuid.Nil.String()), nil, 400, "userId: must be the UUID"},
		{"a type that is none", with("card.viewed", "Card Viewed"), nil, 400, "type: must be one to five words"},
		{"a type that is a number", with(`"card.viewed"`, "7"), nil, 400, "type: must be a string"},
		{"a type that nobody declared", with("card.viewed", "order.paid"), nil, 400, "type: is not declared"},
		{"a test event", with("card.viewed", events.Test), nil, 400, "type: is one that only Cardwire publishes"},
		{"an operational event", with("card.viewed", events.EndpointDisabled), nil, 400, "type: is one that only Cardwire publishes"},
		{"data that is an array", with(data, "[]"), nil, 400, "data: must be a JSON object"},
		{"data nested too deep", with(data, `{"a":`+strings.Repeat("[", 64)+strings.Repeat("]", 64)+`}`), nil, 400, "event: must be nested at most 64 deep"},
		{"data too large", with(`"qr"`, `"`+strings.Repeat("x", events.MaxBody)+`"`), nil, 413, "event: must be at most 262144 bytes, not "},
		{"data that breaks its schema", with(`"qr"`, `"Q R"`), nil, 400, "data at /data/source: "},
		{"data that lacks a member", with(`,"source":"qr"`, ""), nil, 400, "data at /data: missing property 'source'"},
		{"a timestamp that is none", event(`"timestamp":"yesterday"`), nil, 400, "timestamp: must be a time"},
		{"a timestamp before retention", event(`"timestamp":"2020-01-01T00:00:00Z"`), nil, 400, "timestamp: its time, 2020-01-01T00:00:00Z, must lie within"},
		{"a timestamp in the future", event(`"timestamp":"2999-01-01T00:00:00Z"`), nil, 400, "timestamp: its time, 2999-01-01T00:00:00Z, must lie within"},
		{"a timestamp beyond years", event(`"timestamp":"+292277026596-01-01T00:00:00Z"`), nil, 400, "timestamp: must be a time"},
		{"an id that is no UUID", event(`"id":"7"`), nil, 400, "id: must be a UUIDv7"},
		{"an id without time", event(`"id":"` + uuid.NewString() + `"`), nil, 400, "id: must be a UUIDv7"},
		{"an id in braces", event(`"id":"{` + newID() + `}"`), nil, 400, "id: must be a UUIDv7"},
		{"an id before retention", event(`"id":"` + old.ID.String() + `"`), nil, 400, "id: its time, "},
		{"id and Idempotency-Key", event(`"id":"` + newID() + `"`), []string{"Idempotency-Key", "a"}, 400, "Idempotency-Key: must not come with an id"},
		{"Idempotency-Key of a batch", "[" + event() + "]", []string{"Idempotency-Key", "a"}, 400, "Idempotency-Key: is for one event"},
		{"Idempotency-Key with a space", event(), []string{"Idempotency-Key", "a b"}, 400, "Idempotency-Key: must be printable ASCII"},
		{"Idempotency-Key empty", event(), []string{"Idempotency-Key", ""}, 400, "Idempotency-Key: must have 1 to 255 characters"},
		{"Idempotency-Key too long", event(), []string{"Idempotency-Key", strings.Repeat("a", 256)}, 400, "Idempotency-Key: must have 1 to 255 characters"},
		{"CloudEvent of another version", ce("1.0", "0.3"), []string{"Content-Type", typeCE}, 400, "specversion: must be 1.0"},
		{"CloudEvent without id", ce(`"id":"A",`, ""), []string{"Content-Type", typeCE}, 400, "id: is required"},
		{"CloudEvent without source", ce(`"source":"/s",`, ""), []string{"Content-Type", typeCE}, 400, "source: is required"},
		{"CloudEvent without type", ce(`"type":"card.viewed",`, ""), []string{"Content-Type", typeCE}, 400, "type: is required"},
		{"CloudEvent without user", ce(`"userid":"`+alice+`",`, ""), []string{"Content-Type", typeCE}, 400, "userid: is required: an extension attribute"},
		{"CloudEvent of a user that is none", ce(alice, "alice"), []string{"Content-Type", typeCE}, 400, "userid: must be the UUID"},
		{"CloudEvent about something that is no user", ce(`"userid":"`+alice+`"`, `"subject":"card 7"`), []string{"Content-Type", typeCE}, 400, "subject: must be the UUID"},
		{"CloudEvent whose time is none", ce(`"id"`, `"time":"now","id"`), []string{"Content-Type", typeCE}, 400, "time: must be a time"},
		{"CloudEvent with XML", ce(`"id"`, `"datacontenttype":"text/xml","id"`), []string{"Content-Type", typeCE}, 400, "datacontenttype: must be application/json"},
		{"CloudEvent with bytes", ce(`"data":`+data, `"data_base64":"e30="`), []string{"Content-Type", typeCE}, 400, "data_base64: is not taken"},
		{"CloudEvent whose data breaks its schema", ce(`"qr"`, `7`), []string{"Content-Type", typeCE}, 400, "data at /data/source: "},
		{"several CloudEvents as one", "[" + ce("", "") + "]", []string{"Content-Type", typeCE}, 400, "body: must be one event"},
		{"one CloudEvent as several", ce("", ""), []string{"Content-Type", typeCEBatch}, 400, "body: must be a JSON array"},
		{"binary CloudEvent without user", data, []string{"Ce-Specversion", "1.0", "Ce-Id", "A", "Ce-Source", "/s", "Ce-Type", "card.viewed"}, 400, "userid: is required"},
		{"binary CloudEvent whose data is no JSON", "{", []string{"Ce-Specversion", "1.0", "Ce-Id", "A", "Ce-Source", "/s", "Ce-Type", "card.viewed", "Ce-Userid", alice}, 400, "data: must be a JSON object"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			a := s.post(tt.body, tt.header...)
			if a.status != tt.status || !strings.HasPrefix(a.Error, tt.sentence) {
				t.Errorf("%d %s, want %d %s", a.status, a.text, tt.status, tt.sentence)
			}
			if got := a.header.Get("Content-Type"); got != "application/problem+json" {
				t.Errorf("content type %s", got)
			}
		})
	}
	if n := s.stored(); n != 0 {
		t.Errorf("%d messages stored", n)
	}
	if n := s.Count(`SELECT count(*) FROM event_names`); n != 0 {
		t.Errorf("%d names kept of events that were refused", n)
	}
}

func TestCloudEventsAreTaken(t *testing.T) {
	t.Parallel()
	headers := func(more ...string) []string {
		return append([]string{"Ce-Specversion", "1.0", "Ce-Id", "A%201", "Ce-Source", "/s", "Ce-Type", "card.viewed", "Content-Type", typeJSON}, more...)
	}
	for _, tt := range []struct {
		name, body string
		header     []string
		trace      string
	}{
		{"structured", `{"specversion":"1.0","id":"A 1","source":"/s","type":"card.viewed","userid":"` + alice + `","data":` + data + `,"myextension":7}`, []string{"Content-Type", typeCE + "; charset=utf-8"}, ""},
		{"structured, the user as subject", `{"specversion":"1.0","id":"A 1","source":"/s","type":"card.viewed","subject":"` + alice + `","datacontenttype":"application/json","data":` + data + `}`, []string{"Content-Type", typeCE}, ""},
		{
			"structured, with a trace", `{"specversion":"1.0","id":"A 1","source":"/s","type":"card.viewed","userid":"` + alice + `","traceparent":"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01","data":` + data + `}`,
			[]string{"Content-Type", typeCE},
			"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
		},
		{"binary", data, headers("Ce-Userid", alice), ""},
		{"binary, the user as subject", data, headers("Ce-Subject", alice), ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s := newServer(t)
			a := s.post(tt.body, tt.header...)
			if a.status != 202 {
				t.Fatalf("%d %s", a.status, a.text)
			}
			stream, err := s.Deps("operator").JS.Stream(t.Context(), "EVENTS")
			if err != nil {
				t.Fatal(err)
			}
			m, err := stream.GetMsg(t.Context(), 1)
			if err != nil {
				t.Fatal(err)
			}
			e, err := events.Decode(m.Subject, m.Header, m.Data)
			if err != nil || e.UserID.String() != alice || e.Type != "card.viewed" || e.ID.String() != a.ID || e.Trace != tt.trace || !strings.HasSuffix(string(e.Body), `"data":`+data+`}`) {
				t.Errorf("stored %+v: %s, %v", e, m.Data, err)
			}
			// Its name is the same however it is sent.
			structured := `{"specversion":"1.0","id":"A 1","source":"/s","type":"card.viewed","userid":"` + alice + `","data":` + data + `}`
			if again := s.post(structured, "Content-Type", typeCE); again.ID != a.ID || !again.Repeated {
				t.Errorf("again: %s", again.text)
			}
		})
	}
}

func TestTypesMayBeUndeclared(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "types.json")
	if err := os.WriteFile(path, []byte(`[{"name":"order.paid","description":"d","schema":{"required":["amount"]},
		"example":{"type":"order.paid","timestamp":"2026-08-02T17:45:09Z","data":{"amount":1}}}]`), 0o600); err != nil {
		t.Fatal(err)
	}
	s := newServer(t, func(c *Config) { c.UnknownEventTypes, c.EventTypesFile = "accept", path })
	for typ, want := range map[string]int{"order.sent": 202, "order.paid": 400, events.AttemptExhausted: 400} {
		if a := s.post(strings.Replace(event(), "card.viewed", typ, 1)); a.status != want {
			t.Errorf("%s: %d %s", typ, a.status, a.text)
		}
	}
}

func TestWhoMayPublish(t *testing.T) {
	t.Parallel()
	s := newServer(t, func(c *Config) { c.PublishRate = 2 })
	good := s.key
	for _, tt := range []struct {
		name, key, sentence string
		status              int
	}{
		{"nobody", "", "Unauthorized", 401},
		{"a user's token", "eyJhbGciOiJIUzI1NiJ9.e30.x", "Unauthorized", 401},
		{"a key that is none", "cwk_AAAAAAAAAAAAAAAAAAAAAAAAAA", "Unauthorized", 401},
		{"a key for something else", s.newKey(apikeys.Operator), "the API key lacks the scope events:publish", 403},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s.key = tt.key
			if a := s.post(event()); a.status != tt.status || a.Error != tt.sentence {
				t.Errorf("%d %s", a.status, a.text)
			}
		})
	}
	s.key = good
	now := time.Now()
	s.api.now = func() time.Time { return now }
	for i, want := range []int{202, 202, 429} {
		if a := s.post(event()); a.status != want {
			t.Errorf("request %d: %d %s", i+1, a.status, a.text)
		}
	}
}

// What is not confirmed may be repeated with the id in the answer.
func TestWhileTheBrokerIsAwayNothingIsAccepted(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	s.post(event()) // the API key is known
	s.Broker.Stop()
	a := s.post(event())
	if a.status != 503 || a.header.Get("Retry-After") == "" || !strings.Contains(a.Error, "send it again with the same ids") || len(a.ID) != 36 {
		t.Errorf("%d %s", a.status, a.text)
	}
	if a := s.post(event()+"\n"+event(`"colour":1`), "Content-Type", typeNDJSON); a.status != 207 || a.header.Get("Retry-After") == "" ||
		a.Results.Results[0].Status != 503 || a.Results.Results[1].Status != 400 {
		t.Errorf("%d %s", a.status, a.text)
	}
}

func TestWhileTheDatabaseIsAwayIDsAreNotAccepted(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	s.post(event()) // the API key is known
	s.DB.Close()
	if a := s.post(event(`"id":"` + newID() + `"`)); a.status != 503 || !strings.Contains(a.Error, "the database does not answer: send it again") {
		t.Errorf("%d %s", a.status, a.text)
	}
	if a := s.post(event()); a.status != 202 {
		t.Errorf("an id of our own: %d %s", a.status, a.text)
	}
}

func TestTheDocumentRefersToWhatItHas(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	w := httptest.NewRecorder()
	s.handler.ServeHTTP(w, httptest.NewRequest("GET", "/openapi/events.json", nil))
	var doc struct {
		OpenAPI    string
		Paths      map[string]map[string]struct{ Responses map[string]any }
		Components struct{ Schemas map[string]any }
	}
	if err := json.Unmarshal(w.Body.Bytes(), &doc); err != nil || doc.OpenAPI != "3.1.0" {
		t.Fatalf("%d %s: %v", w.Code, w.Body, err)
	}
	if n := len(doc.Paths["/api/events"]["post"].Responses); n != 11 {
		t.Errorf("%d answers", n)
	}
	for _, part := range strings.Split(w.Body.String(), `"$ref":"#/components/schemas/`)[1:] {
		name, _, _ := strings.Cut(part, `"`)
		if doc.Components.Schemas[name] == nil {
			t.Errorf("refers to %s", name)
		}
	}
}
