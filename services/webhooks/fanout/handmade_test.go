package fanout_test

import (
	"cmp"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/nats-io/nats.go"

	"github.com/cardwire/cardwire/services/internal/steptest"
	"github.com/cardwire/cardwire/services/webhooks/fanout"
)

// TestAHandMadeMessageIsAnEventOrDeadWithAReason: what any NATS client may publish, by
// the convention of docs/publishing.md or not quite by it.
func TestAHandMadeMessageIsAnEventOrDeadWithAReason(t *testing.T) {
	t.Parallel()
	const (
		subject = "events.00000000-0000-7000-8000-000000000001.card.viewed"
		good    = `{"type":"card.viewed","timestamp":"2026-11-24T12:00:00Z","data":{"cardId":null,"viewerId":null,"username":"alice","source":"qr"}}`
	)
	replaced := func(from, to string) string { return strings.Replace(good, from, to, 1) }
	id := func() string { return uuid.Must(uuid.NewV7()).String() }
	rows := []struct {
		name, subject, body string
		header              []string // names and values, beside an id
		id                  string   // "-": none
		reason              string   // empty: it is an event
		checked             string   // the reason if fan-out holds it to its type
	}{
		{name: "as documented", body: good},
		{name: "indented, with further members", body: replaced(`{"type"`, "{\n  \"more\": [1],\n  \"type\"")},
		{name: "another time zone", body: replaced("12:00:00Z", "13:00:00.5+01:00")},
		{name: "a header that nobody knows", body: good, header: []string{"X-Client", "nats.ws"}},
		{name: "a trace", body: good, header: []string{"traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"}},
		{name: "a trace that is none", body: good, header: []string{"traceparent", "x"}},
		{name: "id in capitals", body: good, id: strings.ToUpper(id())},
		{
			name: "a type that nobody declared", subject: strings.Replace(subject, "card.viewed", "order.paid", 1), body: replaced("card.viewed", "order.paid"),
			checked: "invalid event: type: is not declared in EVENT_TYPES_FILE: order.paid",
		},
		{name: "data that breaks its schema", body: replaced(`"qr"`, `"SECRET"`), checked: `invalid event: data: at "/source": breaks "pattern" of the schema of its type`},
		{name: "data that lacks a member", body: replaced(`,"source":"qr"`, ""), checked: `invalid event: data: at "": breaks "required" of the schema of its type`},
		{name: "no id", body: good, id: "-", reason: "header Nats-Msg-Id: must be the event's id, a UUIDv7"},
		{name: "id in another spelling", body: good, id: strings.ReplaceAll(id(), "-", ""), reason: "header Nats-Msg-Id: must be"},
		{name: "a random id", body: good, id: uuid.NewString(), reason: "id: must be a UUIDv7"},
		{name: "an id of long ago", body: good, id: "01860000-0000-7000-8000-000000000001", reason: "id: its time, "},
		{name: "no body", body: "", reason: "body: must be a JSON object"},
		{name: "text", body: "card 7 was viewed", reason: "body: must be a JSON object"},
		{name: "the data alone", body: `{"source":"qr"}`, reason: "body.type: must be the event's type, card.viewed"},
		{name: "another type in the body", body: replaced("card.viewed", "card.saved"), reason: "body.type: must be the event's type, card.viewed"},
		{name: "seconds for a time", body: replaced(`"2026-11-24T12:00:00Z"`, "1795460000"), reason: "body.timestamp: must be a time"},
		{name: "data that is text", body: replaced(`{"cardId":null,"viewerId":null,"username":"alice","source":"qr"}`, `"qr"`), reason: "body.data: must be a JSON object"},
		{name: "not UTF-8", body: replaced("alice", "\xff"), reason: "body: must be UTF-8"},
		{name: "a user that is no UUID", subject: "events.alice.card.viewed", body: good, reason: "subject: the user id must be a UUID in lower case"},
		{name: "no type in the subject", subject: "events.00000000-0000-7000-8000-000000000001", body: good, reason: "subject: must be events.<user_id>.<type>"},
		{name: "a type in capitals", subject: strings.Replace(subject, "card", "Card", 1), body: good, reason: "type: must be one to five words"},
		{name: "an attribute in capitals", body: good, header: []string{"Cardwire-Attr-Viewer", "x"}, reason: "attributes: names must be"},
	}
	for _, check := range []bool{false, true} {
		t.Run(fmt.Sprintf("held to types: %v", check), func(t *testing.T) {
			t.Parallel()
			e := steptest.New(t)
			f, err := fanout.New(fanout.Config{Retention: 30 * 24 * time.Hour, FanoutBatch: 100, CheckNATSEvents: check}, e.Deps("webhooks"))
			if err != nil {
				t.Fatal(err)
			}
			var msgs []*nats.Msg
			for _, tt := range rows {
				m := nats.NewMsg(cmp.Or(tt.subject, subject))
				m.Data = []byte(tt.body)
				if tt.id != "-" {
					m.Header.Set(nats.MsgIdHdr, cmp.Or(tt.id, id()))
				}
				for i := 0; i < len(tt.header); i += 2 {
					m.Header.Set(tt.header[i], tt.header[i+1])
				}
				msgs = append(msgs, m)
			}
			publish(e, msgs...)
			e.Run(f)
			awaitAcked(e, uint64(len(msgs)))
			for i, tt := range rows {
				t.Run(tt.name, func(t *testing.T) {
					want := tt.reason
					if check && want == "" {
						want = tt.checked
					}
					seq := i + 1
					if n := e.Count(`SELECT count(*) FROM events WHERE stream_seq = $1 AND body = $2`, seq, []byte(tt.body)); (n == 1) != (want == "") {
						t.Errorf("%d events", n)
					}
					var reason string
					err := e.DB.QueryRow(t.Context(), `SELECT coalesce(min(reason), '') FROM dead_events WHERE stream_seq = $1`, seq).Scan(&reason)
					if err != nil || (reason == "") != (want == "") || !strings.Contains(reason, want) || strings.Contains(reason, "SECRET") {
						t.Errorf("dead for %q, want %q: %v", reason, want, err)
					}
				})
			}
		})
	}
}
