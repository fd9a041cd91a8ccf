package endpoints

import (
	"net/http"
	"strings"
	"testing"
)

func TestBadUpdates(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	id := s.create(t, alice).ID
	before := s.call(t, alice, "GET", "/api/webhooks/"+id.String(), nil).body
	for _, tt := range []struct{ name, body, sentence string }{
		{"nothing", "{}", "body: must have at least 1 member"},
		{"an array", `[{"op":"replace"}]`, "body: must be a JSON object"},
		{"null", "null", "body: must be a JSON object"},
		{"no text", "", "body: must be a JSON object, not empty"},
		{"a member unknown", `{"id":"x"}`, "id: is not known here"},
		{"the secret", `{"secret":"whsec_x"}`, "secret: is not known here"},
		{"the reason", `{"disabledReason":"gone"}`, "disabledReason: is not known here"},
		{"a member twice", `{"isActive":true,"isActive":false}`, `body: has the member "isActive" twice`},
		{"url null", `{"url":null}`, "url: must "},
		{"url a number", `{"url":1}`, "url: must be a string"},
		{"url empty", `{"url":""}`, "url: must have at least 1 character"},
		{"events null", `{"events":null}`, "events: must "},
		{"events empty", `{"events":[]}`, "events: must have at least 1 entry"},
		{"events unknown", `{"events":["card.deleted"]}`, `events[0]: "card.deleted" is not known`},
		{"events twice", `{"events":["card.viewed","card.viewed"]}`, `events[1]: "card.viewed" is there twice`},
		{"events a string", `{"events":"card.viewed"}`, "events: must be an array"},
		{"an event a number", `{"events":[1]}`, "events[0]: must be a string"},
		{"1000 events", `{"events":["card.viewed"` + strings.Repeat(`,"card.viewed"`, 999) + `]}`, "events: must have at most 20 entries"},
		{"description of two lines", `{"description":"a\nb"}`, "description: must be one line"},
		{"description too long", `{"description":"` + strings.Repeat("a", 257) + `"}`, "description: must have at most 256 characters"},
		{"description a number", `{"description":1}`, "description: must be a string"},
		{"isActive null", `{"isActive":null}`, "isActive: must "},
		{"isActive a string", `{"isActive":"false"}`, "isActive: must be true or false"},
		{"isActive a number", `{"isActive":0}`, "isActive: must be true or false"},
		{"asymmetric null", `{"asymmetric":null}`, "asymmetric: must "},
		{"maxInFlight 0", `{"maxInFlight":0}`, "maxInFlight: must be at least 1"},
		{"maxInFlight 101", `{"maxInFlight":101}`, "maxInFlight: must be at most 100"},
		{"rateLimit 1001", `{"rateLimit":1001}`, "rateLimit: must be at most 1000"},
		{"rateLimit a fraction", `{"rateLimit":0.5}`, "rateLimit: must be "},
		{"a pause too short", `{"retrySchedule":["1ms"]}`, "retrySchedule[0]: must be a duration from 1s to 24h"},
		{"21 retries", `{"retrySchedule":["1s"` + strings.Repeat(`,"1s"`, 20) + `]}`, "retrySchedule: must have at most 20 entries"},
		{"one right, one wrong", `{"description":"x","maxInFlight":0}`, "maxInFlight: must be at least 1"},
		{"lone surrogate", `{"description":"\ud800"}`, "body: must be valid Unicode"},
		{"NUL", `{"description":"\u0000"}`, "body: must not contain NUL characters"},
		{"too deep", `{"description":` + strings.Repeat("[", 9) + strings.Repeat("]", 9) + `}`, "body: must be nested at most 8 deep"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			a := s.call(t, alice, "PATCH", "/api/webhooks/"+id.String(), tt.body)
			if a.status != http.StatusBadRequest || !strings.HasPrefix(a.sentence(t), tt.sentence) {
				t.Errorf("%d %s, want %s", a.status, a.body, tt.sentence)
			}
			checkProblem(t, a)
			if after := s.call(t, alice, "GET", "/api/webhooks/"+id.String(), nil).body; after != before {
				t.Errorf("it changed something: %s", after)
			}
		})
	}
	if a := s.call(t, alice, "PATCH", "/api/webhooks/"+id.String(), strings.Repeat(" ", 1<<17)); a.status != http.StatusRequestEntityTooLarge {
		t.Errorf("a large one: %d %s", a.status, a.body)
	}
}
