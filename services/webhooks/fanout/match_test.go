package fanout

import (
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"github.com/cardwire/cardwire/events"
	"github.com/cardwire/cardwire/sql/db"
)

func TestMatch(t *testing.T) {
	t.Parallel()
	at := time.Date(2026, 1, 31, 12, 0, 0, 0, time.UTC)
	alice, bob := uuid.New(), uuid.New()
	event := events.Event{UserID: alice, Type: "card.viewed", Body: []byte(`{"type":"card.viewed","timestamp":"2026-01-31T12:00:00Z","data":{"source":"qr"}}`)}
	for _, tt := range []struct {
		name     string
		endpoint db.MatchEndpointsRow
		want     bool
	}{
		{"the owner's, asks for the type", db.MatchEndpointsRow{UserID: alice, Events: []string{"contact.saved", "card.viewed"}, CreatedAt: at.Add(-time.Hour)}, true},
		{"asks for another type", db.MatchEndpointsRow{UserID: alice, Events: []string{"contact.saved"}, CreatedAt: at.Add(-time.Hour)}, false},
		{"asks for a longer type", db.MatchEndpointsRow{UserID: alice, Events: []string{"card.viewed.again"}, CreatedAt: at.Add(-time.Hour)}, false},
		{"somebody else's", db.MatchEndpointsRow{UserID: bob, Events: []string{"card.viewed"}, CreatedAt: at.Add(-time.Hour)}, false},
		{"made just after the event, within the clocks' difference", db.MatchEndpointsRow{UserID: alice, Events: []string{"card.viewed"}, CreatedAt: at.Add(clockSkew)}, true},
		{"asks for a prefix", db.MatchEndpointsRow{UserID: alice, Events: []string{"card.*"}, CreatedAt: at}, true},
		{"asks for another prefix", db.MatchEndpointsRow{UserID: alice, Events: []string{"contact.*"}, CreatedAt: at}, false},
		{"asks for everything", db.MatchEndpointsRow{UserID: alice, Events: []string{"*"}, CreatedAt: at}, true},
		{"asks for everything, but was made later", db.MatchEndpointsRow{UserID: alice, Events: []string{"*"}, CreatedAt: at.Add(clockSkew + 1)}, false},
		{"has a filter that the event passes", db.MatchEndpointsRow{UserID: alice, Events: []string{"card.viewed"}, Filter: []byte(`{"source":["qr","nfc"]}`), CreatedAt: at}, true},
		{"has a filter that the event does not pass", db.MatchEndpointsRow{UserID: alice, Events: []string{"*"}, Filter: []byte(`{"source":"link"}`), CreatedAt: at}, false},
		{"has a filter for another type", db.MatchEndpointsRow{UserID: alice, Events: []string{"contact.saved"}, Filter: []byte(`{"source":"qr"}`), CreatedAt: at}, false},
		{"has a filter of a newer version: too much is not lost", db.MatchEndpointsRow{UserID: alice, Events: []string{"card.viewed"}, Filter: []byte(`{"source":{"like":"q*"}}`), CreatedAt: at}, true},
		{"made later", db.MatchEndpointsRow{UserID: alice, Events: []string{"card.viewed"}, CreatedAt: at.Add(clockSkew + 1)}, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			tt.endpoint.ID = uuid.New()
			it := &item{event: event, at: at}
			newMatcher([]db.MatchEndpointsRow{tt.endpoint}).match(it)
			if got := len(it.matches) == 1 && it.matches[0] == tt.endpoint.ID; got != tt.want {
				t.Errorf("matches: %v, want %v", got, tt.want)
			}
		})
	}
}

func TestATestEventMatchesTheEndpointThatItNames(t *testing.T) {
	t.Parallel()
	at := time.Now()
	alice, bob, named := uuid.New(), uuid.New(), uuid.New()
	endpoint := func(user, id uuid.UUID, types ...string) db.MatchEndpointsRow {
		return db.MatchEndpointsRow{ID: id, UserID: user, Events: types, CreatedAt: at.Add(-time.Hour)}
	}
	data := func(id string) string { return `{"type":"webhook.test","data":{"endpointId":"` + id + `"}}` }
	for _, tt := range []struct {
		name, body string
		endpoint   db.MatchEndpointsRow
		want       bool
	}{
		{"whatever it asks for", data(named.String()), endpoint(alice, named, "card.viewed"), true},
		{"not another one, even if that asks for tests", data(named.String()), endpoint(alice, uuid.New(), events.Test), false},
		{"not somebody else's", data(named.String()), endpoint(bob, named, events.Test), false},
		{"nobody if it names none", `{"type":"webhook.test","data":{}}`, endpoint(alice, named, events.Test), false},
		{"nobody if it names nothing that is an id", data("x"), endpoint(alice, named, events.Test), false},
		{"nobody if its data is no object", `{"type":"webhook.test","data":[]}`, endpoint(alice, named, events.Test), false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			it := &item{event: events.Event{UserID: alice, Type: events.Test, Body: []byte(tt.body)}, at: at}
			newMatcher([]db.MatchEndpointsRow{tt.endpoint}).match(it)
			if got := len(it.matches) == 1; got != tt.want || it.trigger() != "test" {
				t.Errorf("matches: %v, want %v; trigger %s", got, tt.want, it.trigger())
			}
		})
	}
}

func TestDeadItemsMatchNothing(t *testing.T) {
	t.Parallel()
	user := uuid.New()
	it := &item{event: events.Event{UserID: user, Type: "card.viewed"}, at: time.Now(), reason: "broken"}
	newMatcher([]db.MatchEndpointsRow{{ID: uuid.New(), UserID: user, Events: []string{"card.viewed"}}}).match(it)
	if len(it.matches) != 0 || len(users([]*item{it})) != 0 {
		t.Error("a dead item was matched")
	}
}

func TestChunksBoundATransaction(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		matches []int
		want    []string
	}{
		{nil, nil},
		{[]int{0, 0, 0}, []string{"0-3"}},
		{[]int{maxRows, 0, 1}, []string{"0-2", "2-3"}},
		{[]int{3000, 2000, 1, 5000}, []string{"0-2", "2-3", "3-4"}},
		{[]int{3 * maxRows, 3 * maxRows}, []string{"0-1", "1-2"}},
	} {
		var items []*item
		for _, n := range tt.matches {
			items = append(items, &item{matches: make([]uuid.UUID, n)})
		}
		var got []string
		for from, to := range chunks(items, func(*item) {}) {
			got = append(got, fmt.Sprintf("%d-%d", from, to))
		}
		if diff := cmp.Diff(tt.want, got); diff != "" {
			t.Errorf("%v: %s", tt.matches, diff)
		}
	}
}
