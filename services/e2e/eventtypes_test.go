package e2e

import (
	"encoding/json"
	"net/http"
	"sync/atomic"
	"testing"

	"github.com/google/uuid"

	"github.com/cardwire/cardwire/events"
	"github.com/cardwire/cardwire/services/internal/eventtypes"
)

// viewed is the data of a card.viewed, for tests that publish events themselves.
var viewed = map[string]any{"cardId": nil, "viewerId": nil, "username": "alice", "source": "link"}

// followsSchema holds what a receiver got to the schema of its type.
func followsSchema(t *testing.T, catalog *eventtypes.Catalog, body []byte) {
	t.Helper()
	var is struct{ Type string }
	if err := json.Unmarshal(body, &is); err != nil {
		t.Errorf("%s: %v", body, err)
		return
	}
	eventType, ok := catalog.Type(is.Type)
	if !ok {
		t.Errorf("%s: type is not in the catalog", body)
		return
	}
	if err := eventType.Validate(body); err != nil {
		t.Errorf("%s: %v", body, err)
	}
}

// receiver holds each body to the schema of its type; this test sees to it that
// there is one of every type.
func TestWhatIsPublishedOfEachTypeFollowsItsSchema(t *testing.T) {
	t.Parallel()
	p := start(t)
	p.deliver()
	catalog, err := eventtypes.Load("")
	if err != nil {
		t.Fatal(err)
	}
	listener, posts := receiver(t, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) })
	asked, err := json.Marshal(map[string]any{"url": listener, "events": catalog.Subscribable()})
	if err != nil {
		t.Fatal(err)
	}
	p.call(alice, "POST", p.webhooks+"/api/webhooks", string(asked), 201, nil)
	var answer atomic.Int32
	answer.Store(http.StatusInternalServerError)
	url, tested := receiver(t, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(int(answer.Load())) })
	unwell, _ := p.register(alice, url)
	api := p.webhooks + "/api/webhooks/" + unwell
	until := func(posts chan post, want string) {
		t.Helper()
		for {
			var is struct{ Type string }
			if err := json.Unmarshal((<-posts).body, &is); err != nil {
				t.Fatal(err)
			}
			if is.Type == want {
				return
			}
		}
	}

	p.call(uuid.Nil, "GET", p.views+"/api/u/alice", "", 200, nil)
	until(posts, events.CardViewed)
	until(posts, events.AttemptExhausted)
	var failed log
	p.call(alice, "GET", api+"/deliveries?status=failed", "", 200, &failed)
	answer.Store(http.StatusOK)
	p.call(alice, "POST", api+"/deliveries/"+failed.Data[0].ID+"/resend", "", 202, nil)
	until(posts, events.AttemptRecovered)
	p.call(bob, "POST", p.views+"/api/cards/"+card.String()+"/save", "", 201, nil)
	until(posts, events.ContactSaved)
	until(tested, events.ContactSaved)
	answer.Store(http.StatusGone)
	p.call(alice, "POST", api+"/test", "", 202, nil)
	until(tested, events.Test)
	until(posts, events.EndpointDisabled)
}
