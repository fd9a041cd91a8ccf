package endpoints

import (
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
)

// operations lists what is registered, as "METHOD /path".
func (s *server) operations() []string {
	var list []string
	for path, item := range s.huma.OpenAPI().Paths {
		for method, there := range map[string]bool{
			"GET": item.Get != nil, "POST": item.Post != nil, "PUT": item.Put != nil,
			"PATCH": item.Patch != nil, "DELETE": item.Delete != nil,
		} {
			if there {
				list = append(list, method+" "+path)
			}
		}
	}
	slices.Sort(list)
	return list
}

// tenancy says of each route what its owner gets; what everybody else gets is
// the same for all. A route that is missing here fails the test.
var tenancy = map[string]struct {
	own  int
	body any
	memo bool // answered without the database
}{
	"POST /api/webhooks":                             {own: 201, body: map[string]any{"url": "https://example.com/", "events": []string{"card.viewed"}}},
	"GET /api/webhooks":                              {own: 200},
	"GET /api/webhooks/{id}":                         {own: 200},
	"DELETE /api/webhooks/{id}":                      {own: 204},
	"PATCH /api/webhooks/{id}/rotate-secret":         {own: 200},
	"PATCH /api/webhooks/{id}":                       {own: 200, body: map[string]any{"description": "changed"}},
	"GET /api/audit-log":                             {own: 200},
	"GET /api/event-types":                           {own: 200, memo: true},
	"GET /api/webhooks/{id}/deliveries":              {own: 200},
	"GET /api/webhooks/{id}/deliveries/{deliveryId}": {own: 200},

	"POST /api/webhooks/{id}/deliveries/{deliveryId}/resend": {own: 202},
	"POST /api/webhooks/{id}/recover":                        {own: 202, body: map[string]any{"since": time.Now().UTC().Truncate(24 * time.Hour)}},
	"GET /api/webhooks/{id}/recoveries":                      {own: 200},
	"GET /api/webhooks/{id}/recoveries/{recoveryId}":         {own: 200},
	"POST /api/webhooks/{id}/test":                           {own: 202},
	"GET /api/webhooks/{id}/summary":                         {own: 200},

	"POST /api/replays":                   {own: 202, body: `{"endpointId":"{id}","since":"` + rfc(time.Now().UTC().Truncate(24*time.Hour)) + `"}`},
	"GET /api/replays":                    {own: 200},
	"GET /api/replays/{replayId}":         {own: 200},
	"POST /api/replays/{replayId}/pause":  {own: 200},
	"POST /api/replays/{replayId}/resume": {own: 200},
	"POST /api/replays/{replayId}/cancel": {own: 200},
}

// filled is a body with what stands in the place of ids in it.
func filled(body any, ids *strings.Replacer) any {
	if text, ok := body.(string); ok {
		return ids.Replace(text)
	}
	return body
}

func TestEveryRouteKeepsTenantsApart(t *testing.T) {
	t.Parallel()
	shared := newServer(t)
	operations := shared.operations()
	if known := slices.Sorted(maps.Keys(tenancy)); !slices.Equal(known, operations) {
		t.Fatalf("routes with a row: %q\nroutes registered: %q", known, operations)
	}
	for _, operation := range operations {
		t.Run(operation, func(t *testing.T) {
			t.Parallel()
			s := newServer(t)
			method, path, _ := strings.Cut(operation, " ")
			row := tenancy[operation]
			own, deleted, foreign := s.create(t, alice), s.create(t, alice), s.create(t, bob)
			delivery := s.deliver(t, own.ID, 1)[0]
			foreignDelivery := s.deliver(t, foreign.ID, 1)[0]
			ownRecovery, foreignRecovery := s.finishedRecovery(t, own.ID), s.finishedRecovery(t, foreign.ID)
			ownReplay, foreignReplay := s.oldReplay(t, alice, own.ID), s.oldReplay(t, bob, foreign.ID)
			recovery, replay := ownRecovery, ownReplay
			if a := s.call(t, alice, "DELETE", "/api/webhooks/"+deleted.ID.String(), nil); a.status != 204 {
				t.Fatalf("delete: %d", a.status)
			}
			call := func(user uuid.UUID, id, delivery string) answer {
				ids := strings.NewReplacer("{id}", id, "{deliveryId}", delivery, "{recoveryId}", recovery.String(), "{replayId}", replay.String())
				return s.call(t, user, method, ids.Replace(path), filled(row.body, ids))
			}
			expect := func(what string, a answer, status int, sentence string) {
				t.Helper()
				if a.status != status || sentence != "" && a.sentence(t) != sentence {
					t.Errorf("%s: %d %s, want %d %s", what, a.status, a.body, status, sentence)
				}
			}

			for _, id := range []string{own.ID.String(), foreign.ID.String(), "x"} {
				expect("nobody", call(uuid.Nil, id, delivery.ID.String()), 401, "Unauthorized")
			}
			if strings.Contains(path, "{id}") {
				missing := call(alice, uuid.NewString(), delivery.ID.String())
				expect("missing", missing, 404, "there is no such endpoint")
				for what, id := range map[string]uuid.UUID{"foreign": foreign.ID, "deleted": deleted.ID} {
					if a := call(alice, id.String(), delivery.ID.String()); a.status != missing.status || a.body != missing.body {
						t.Errorf("%s: %d %s, but missing: %d %s", what, a.status, a.body, missing.status, missing.body)
					}
				}
				expect("foreign with its own delivery", call(alice, foreign.ID.String(), foreignDelivery.ID.String()), 404, "there is no such endpoint")
				for _, id := range malformedIDs {
					expect("malformed "+id, call(alice, id, delivery.ID.String()), 400, "id: must be a UUID of 36 characters")
				}
			}
			if strings.Contains(path, "{deliveryId}") {
				for _, id := range []uuid.UUID{foreignDelivery.ID, uuid.New(), uuid.Nil, uuid.Max} {
					expect("delivery of nobody or another", call(alice, own.ID.String(), id.String()), 404, "there is no such delivery")
				}
				for _, id := range malformedIDs {
					expect("malformed delivery "+id, call(alice, own.ID.String(), id), 400, "deliveryId: must be a UUID of 36 characters")
				}
			}
			if strings.Contains(path, "{recoveryId}") {
				for _, id := range []uuid.UUID{foreignRecovery, uuid.New()} {
					recovery = id
					expect("recovery of nobody or another", call(alice, own.ID.String(), ""), 404, "there is no such recovery")
				}
				recovery = ownRecovery
			}
			if strings.Contains(path, "{replayId}") {
				for _, id := range []uuid.UUID{foreignReplay, uuid.New()} {
					replay = id
					expect("replay of nobody or another", call(alice, own.ID.String(), ""), 404, "there is no such replay")
				}
				replay = ownReplay
			}
			expect("own", call(alice, own.ID.String(), delivery.ID.String()), row.own, "")

			// Bob's endpoint went through all that unchanged.
			a := s.call(t, bob, "GET", "/api/webhooks/"+foreign.ID.String(), nil)
			if a.status != http.StatusOK || !decode[Endpoint](t, a).UpdatedAt.Equal(foreign.UpdatedAt) {
				t.Errorf("foreign endpoint afterwards: %d %s", a.status, a.body)
			}
			if list, err := s.Store().Secrets(t.Context(), foreign.ID); err != nil || !slices.Equal(list, []string{foreign.Secret}) {
				t.Errorf("its secrets changed: %d of them, %v", len(list), err)
			}
		})
	}
}

var malformedIDs = []string{
	"x", "1", "null", "%00", "%20", "..%2f..", "00000000-0000-7000-8000-00000000000g",
	"00000000000070008000000000000001", "%7B00000000-0000-7000-8000-000000000001%7D",
	"urn:uuid:00000000-0000-7000-8000-000000000001", "00000000-0000-7000-8000-000000000001x",
	strings.Repeat("a", 4000), "%ff%fe", "'%20OR%201=1--",
}

func TestUnknownRoutesAndMethods(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	id := s.create(t, alice).ID.String()
	tests := []struct {
		name, method, path string
		status             int
		sentence, allow    string
	}{
		{"unknown route", "GET", "/api/nothing", 404, "there is nothing here", ""},
		{"a route too deep", "GET", "/api/webhooks/" + id + "/nothing", 404, "there is nothing here", ""},
		{"the library's own page of schemas is off", "GET", "/schemas/Endpoint", 404, "there is nothing here", ""},
		{"list does not take PUT", "PUT", "/api/webhooks", 405, "this method is not allowed here", "GET, HEAD, POST"},
		{"endpoint does not take POST", "POST", "/api/webhooks/" + id, 405, "this method is not allowed here", "DELETE, GET, HEAD, PATCH"},
		{"rotation does not take POST", "POST", "/api/webhooks/" + id + "/rotate-secret", 405, "this method is not allowed here", "PATCH"},
		{"docs don't take POST", "POST", "/docs", 405, "this method is not allowed here", "GET, HEAD"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			a := s.call(t, alice, tt.method, tt.path, nil)
			if a.status != tt.status || a.sentence(t) != tt.sentence || a.header.Get("Allow") != tt.allow {
				t.Errorf("got %d, Allow %q, %s", a.status, a.header.Get("Allow"), a.body)
			}
		})
	}
}
