package fanout

import (
	"encoding/json"
	"slices"
	"time"

	"github.com/google/uuid"

	"github.com/cardwire/cardwire/events"
	"github.com/cardwire/cardwire/services/internal/delivery"
	"github.com/cardwire/cardwire/sql/db"
)

// clockSkew is how much later than an event an endpoint may seem to have been
// made and still get it: the broker's clock dates the one, PostgreSQL's the
// other. An endpoint that was made just before an event must not miss it.
const clockSkew = 5 * time.Second

// An item is a message of EVENTS on its way through a batch.
type item struct {
	event   events.Event
	at      time.Time // when the stream stored it
	seq     uint64    // its sequence number in the stream
	matches []uuid.UUID
	waits   []uuid.UUID // of matches, those that seem to have deliveries parked
	parked  int         // deliveries that were parked at once, and are no longer in matches

	subject string // what follows is for dead events
	header  []byte
	body    []byte
	reason  string // why it is dead; empty for a live event
}

// match gives each live item the endpoints that get it: those of its owner that
// ask for its type and existed when the stream stored it. A test event goes to
// the endpoint that it names, whatever that asks for.
func match(items []*item, endpoints []db.MatchEndpointsRow) {
	byUser := make(map[uuid.UUID][]db.MatchEndpointsRow)
	for _, e := range endpoints {
		byUser[e.UserID] = append(byUser[e.UserID], e)
	}
	for _, it := range items {
		it.matches, it.waits, it.parked = nil, nil, 0
		if it.reason != "" {
			continue
		}
		wants := func(e db.MatchEndpointsRow) bool { return slices.Contains(e.Events, it.event.Type) }
		if it.event.Type == events.Test {
			tested := testedEndpoint(it.event.Body)
			wants = func(e db.MatchEndpointsRow) bool { return e.ID == tested }
		}
		for _, e := range byUser[it.event.UserID] {
			if wants(e) && !e.CreatedAt.After(it.at.Add(clockSkew)) {
				it.matches = append(it.matches, e.ID)
				if e.Waits {
					it.waits = append(it.waits, e.ID)
				}
			}
		}
	}
}

// testedEndpoint is the endpoint that a test event is for, and for no other: the
// member endpointId of its data. It is uuid.Nil, which is nobody's, if there is none.
func testedEndpoint(body []byte) uuid.UUID {
	var e struct {
		Data struct {
			EndpointID uuid.UUID `json:"endpointId"`
		} `json:"data"`
	}
	if json.Unmarshal(body, &e) != nil {
		return uuid.Nil
	}
	return e.Data.EndpointID
}

// trigger is what makes the item's deliveries pending.
func (it *item) trigger() string {
	if it.event.Type == events.Test {
		return delivery.TriggerTest
	}
	return delivery.TriggerEvent
}

// users lists the owners of live items, each once.
func users(items []*item) []uuid.UUID {
	seen := make(map[uuid.UUID]bool, len(items))
	var ids []uuid.UUID
	for _, it := range items {
		if it.reason == "" && !seen[it.event.UserID] {
			seen[it.event.UserID] = true
			ids = append(ids, it.event.UserID)
		}
	}
	return ids
}
