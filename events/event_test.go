package events_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"github.com/nats-io/nats.go"
	"pgregory.net/rapid"

	"github.com/cardwire/cardwire/events"
)

var alice = uuid.MustParse("00000000-0000-7000-8000-000000000001")

func TestNewMakesAStandardWebhooksBody(t *testing.T) {
	t.Parallel()
	at := time.Date(2026, 1, 31, 12, 0, 0, 123456789, time.UTC)
	e, err := events.NewAt(at, alice, events.CardViewed, map[string]any{"source": "qr"})
	if err != nil {
		t.Fatal(err)
	}
	if got := string(e.Body); got != `{"type":"card.viewed","timestamp":"2026-01-31T12:00:00.123456Z","data":{"source":"qr"}}` {
		t.Errorf("body: %s", got)
	}
	if got := events.IDTime(e.ID); !got.Equal(at.Truncate(time.Millisecond)) {
		t.Errorf("time of id: %s", got)
	}
	if e.ID.Version() != 7 {
		t.Errorf("id %s: version %d", e.ID, e.ID.Version())
	}
}

func TestDecodeIsTheInverseOfMsg(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		data := rapid.MapOf(rapid.String(), rapid.String()).Draw(t, "data")
		typ := rapid.StringMatching(`[a-z0-9_]{1,10}(\.[a-z0-9_]{1,10}){0,4}`).Draw(t, "type")
		at := time.UnixMicro(rapid.Int64Range(0, 4e15).Draw(t, "at"))
		e, err := events.NewAt(at, alice, typ, data)
		if err != nil {
			t.Fatal(err)
		}
		e.Attributes = map[string]string{"viewer-hash": rapid.StringMatching(`[a-zé -]{0,20}`).Draw(t, "attribute")}
		e.Trace = rapid.SampledFrom([]string{"", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"}).Draw(t, "trace")
		m := e.Msg()
		got, err := events.Decode(m.Subject, m.Header, m.Data)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(e, got); diff != "" {
			t.Fatal(diff)
		}
	})
}

func TestDecodeNamesWhatIsWrong(t *testing.T) {
	t.Parallel()
	const subject = "events.00000000-0000-7000-8000-000000000001.card.viewed"
	const body = `{"type":"card.viewed","timestamp":"2026-01-31T12:00:00Z","data":{}}`
	id := "0198c2a0-0000-7000-8000-000000000001"
	deep := strings.Repeat("[", 64) + strings.Repeat("]", 64)
	for _, tt := range []struct{ name, subject, id, body, want string }{
		{"another stream's subject", "deliveries.first.x", id, body, "subject: must start with"},
		{"no user", "events.card", id, body, "subject: must be events.<user_id>.<type>"},
		{"user in upper case", "events.0000000A-0000-7000-8000-000000000001.card.viewed", id, body, "subject: the user id must be a UUID in lower case"},
		{"nil user", "events.00000000-0000-0000-0000-000000000000.card.viewed", id, body, "user id: must not be the nil UUID"},
		{"no id", subject, "", body, "header Nats-Msg-Id: must be the event's id, a UUIDv7"},
		{"id in braces", subject, "{" + id + "}", body, "header Nats-Msg-Id: must be"},
		{"random id", subject, "b8a5c3b2-8a52-4b7e-9d0f-3f5f2f0a1b2c", body, "id: must be a UUIDv7"},
		{"type with a capital", "events.00000000-0000-7000-8000-000000000001.Card", id, body, "type: must be one to five words"},
		{"type of six words", "events.00000000-0000-7000-8000-000000000001.a.b.c.d.e.f", id, body, "type: must be one to five words"},
		{"type with an empty word", "events.00000000-0000-7000-8000-000000000001.a..b", id, body, "type: must be one to five words"},
		{"type too long", "events.00000000-0000-7000-8000-000000000001." + strings.Repeat("a", 129), id, body, "type: must be at most 128 bytes"},
		{"body empty", subject, id, "", "body: must be a JSON object"},
		{"body an array", subject, id, "[]", "body: must be a JSON object"},
		{"body with trailing data", subject, id, body + "x", "body: must be a JSON object"},
		{"body not UTF-8", subject, id, strings.Replace(body, "{}", "{\"a\":\"\xff\"}", 1), "body: must be UTF-8"},
		{"body of another type", subject, id, strings.Replace(body, "card.viewed", "card.saved", 1), "body.type: must be the event's type"},
		{"body without type", subject, id, `{"timestamp":"2026-01-31T12:00:00Z","data":{}}`, "body.type: must be the event's type"},
		{"type a number", subject, id, `{"type":1,"timestamp":"2026-01-31T12:00:00Z","data":{}}`, "body.type: must be the event's type"},
		{"type twice, the last another", subject, id, strings.Replace(body, `"data"`, `"type":"card.saved","data"`, 1), "body.type: must be the event's type"},
		{"keys in capitals", subject, id, strings.Replace(body, "type", "Type", 1), "body.type: must be the event's type"},
		{"no timestamp", subject, id, `{"type":"card.viewed","data":{}}`, "body.timestamp: must be a time"},
		{"timestamp in seconds", subject, id, `{"type":"card.viewed","timestamp":"1700000000","data":{}}`, "body.timestamp: must be a time"},
		{"data missing", subject, id, `{"type":"card.viewed","timestamp":"2026-01-31T12:00:00Z"}`, "body.data: must be a JSON object"},
		{"data an array", subject, id, strings.Replace(body, "{}", "[]", 1), "body.data: must be a JSON object"},
		{"nested 65 deep", subject, id, strings.Replace(body, "{}", `{"a":`+deep+`}`, 1), "body: must be nested at most 64 deep"},
		{"a byte too long", subject, id, strings.Replace(body, "{}", `{"a":"`+strings.Repeat("x", events.MaxBody-len(body)-5)+`"}`, 1), "body: must be at most 262144 bytes, not 262145"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			h := nats.Header{}
			if tt.id != "" {
				h.Set(nats.MsgIdHdr, tt.id)
			}
			_, err := events.Decode(tt.subject, h, []byte(tt.body))
			if !errors.Is(err, events.ErrInvalid) {
				t.Fatalf("got %v, want an invalid event", err)
			}
			if !strings.Contains(err.Error(), "invalid event: "+tt.want) {
				t.Errorf("got %q, want %q in it", err, tt.want)
			}
		})
	}
}

func TestDecodeAcceptsTheLimits(t *testing.T) {
	t.Parallel()
	typ := "a.b.c.d." + strings.Repeat("e", events.MaxType-8)
	nested := strings.Repeat("[", 62) + strings.Repeat("]", 62)
	body := fmt.Sprintf(`{"type":%q,"timestamp":"2026-01-31T12:00:00+01:00","data":{"a":%s,"b":"`, typ, nested)
	body += strings.Repeat("x", events.MaxBody-len(body)-3) + `"}}`
	h := nats.Header{}
	h.Set(nats.MsgIdHdr, "0198c2a0-0000-7000-8000-000000000001")
	e, err := events.Decode("events."+alice.String()+"."+typ, h, []byte(body))
	if err != nil {
		t.Fatal(err)
	}
	if want := time.Date(2026, 1, 31, 11, 0, 0, 0, time.UTC); !e.Time.Equal(want) || len(e.Body) != events.MaxBody {
		t.Errorf("time %s, body of %d bytes", e.Time, len(e.Body))
	}
}

func TestAttributesFitAHeader(t *testing.T) {
	t.Parallel()
	many := map[string]string{}
	for i := range events.MaxAttributes + 1 {
		many[fmt.Sprintf("a%d", i)] = ""
	}
	for _, tt := range []struct {
		name  string
		attrs map[string]string
		want  string
	}{
		{"one too many", many, "attributes: must be at most 16 entries"},
		{"name in capitals", map[string]string{"Viewer": ""}, "attributes: names must be"},
		{"name empty", map[string]string{"": ""}, "attributes: names must be"},
		{"value with a line break", map[string]string{"agent": "a\r\nNats-Msg-Id: x"}, "attributes.agent: must be UTF-8 text without control characters"},
		{"value not UTF-8", map[string]string{"agent": "\xff"}, "attributes.agent: must be UTF-8"},
		{"value too long", map[string]string{"agent": strings.Repeat("x", 1025)}, "attributes.agent: must be at most 1024 bytes"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			e, err := events.New(alice, events.CardViewed, struct{}{})
			if err != nil {
				t.Fatal(err)
			}
			e.Attributes = tt.attrs
			if err := e.Validate(); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want %q in it", err, tt.want)
			}
		})
	}
}

func TestATraceThatIsNoneIsLeftOut(t *testing.T) {
	t.Parallel()
	const good = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
	for _, tt := range []struct{ name, trace, want string }{
		{"a traceparent", good, good},
		{"none", "", ""},
		{"cut off", good[:54], ""},
		{"of another version", "01" + good[2:], ""},
		{"in capitals", strings.ToUpper(good), ""},
		{"a line break in it", good[:54] + "\n", ""},
		{"all zeros for the trace", "00-00000000000000000000000000000000-00f067aa0ba902b7-01", ""},
		{"all zeros for the span", "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			e, err := events.New(alice, events.CardViewed, struct{}{}, events.WithTrace(tt.trace))
			if err != nil {
				t.Fatal(err)
			}
			m := e.Msg()
			if got := m.Header.Get("traceparent"); got != tt.want {
				t.Errorf("published %q, want %q", got, tt.want)
			}
			m.Header["traceparent"] = []string{tt.trace}
			if got, err := events.Decode(m.Subject, m.Header, m.Data); err != nil || got.Trace != tt.want {
				t.Errorf("decoded %q, %v, want %q", got.Trace, err, tt.want)
			}
		})
	}
}

func FuzzDecode(f *testing.F) {
	f.Add("events.00000000-0000-7000-8000-000000000001.card.viewed", "0198c2a0-0000-7000-8000-000000000001",
		[]byte(`{"type":"card.viewed","timestamp":"2026-01-31T12:00:00Z","data":{"a":"\"]"}}`))
	f.Fuzz(func(t *testing.T, subject, id string, body []byte) {
		h := nats.Header{}
		h.Set(nats.MsgIdHdr, id)
		e, err := events.Decode(subject, h, body)
		if err != nil {
			if !errors.Is(err, events.ErrInvalid) {
				t.Fatalf("not an invalid event: %v", err)
			}
			if strings.Contains(err.Error(), "must be a JSON object with") && json.Unmarshal(body, &map[string]json.RawMessage{}) == nil {
				t.Fatalf("a JSON object is refused: %v", err)
			}
			return
		}
		if err := e.Validate(); err != nil {
			t.Fatalf("decoded, but not valid: %v", err)
		}
		if m := e.Msg(); m.Subject != subject || !json.Valid(m.Data) {
			t.Fatalf("subject %q became %q", subject, m.Subject)
		}
	})
}
