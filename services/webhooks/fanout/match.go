package fanout

import (
	"encoding/json"
	"time"

	"github.com/google/uuid"

	"github.com/cardwire/cardwire/events"
	"github.com/cardwire/cardwire/services/internal/delivery"
	"github.com/cardwire/cardwire/services/internal/subscription"
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

// A matcher knows the endpoints of the owners in a batch.
type matcher struct {
	byUser map[uuid.UUID][]candidate
}

// A candidate is an endpoint of an item's owner.
type candidate struct {
	db.MatchEndpointsRow
	filter *subscription.Filter // read when it is first needed
}

func newMatcher(endpoints []db.MatchEndpointsRow) matcher {
	m := matcher{make(map[uuid.UUID][]candidate)}
	for _, e := range endpoints {
		m.byUser[e.UserID] = append(m.byUser[e.UserID], candidate{MatchEndpointsRow: e})
	}
	return m
}

// match gives a live item the endpoints that get it: those of its owner that
// ask for its type, whose filter it passes, and that existed when the stream
// stored it. A test event goes to the endpoint that it names, whatever that asks
// for. The item's data is read once, and only if somebody has a filter.
func (m matcher) match(it *item) {
	it.matches, it.waits, it.parked = nil, nil, 0
	if it.reason != "" {
		return
	}
	if it.event.Type == events.Test {
		m.matchTest(it)
		return
	}
	list := m.byUser[it.event.UserID]
	var data *subscription.Data
	for i := range list {
		e := &list[i]
		if !subscription.WantsType(e.Events, it.event.Type) || e.CreatedAt.After(it.at.Add(clockSkew)) {
			continue
		}
		if e.Filter != nil {
			if data == nil {
				d := subscription.ReadData(it.event.Body)
				data = &d
			}
			if !e.passes(*data) {
				continue
			}
		}
		it.matches = append(it.matches, e.ID)
		if e.Waits {
			it.waits = append(it.waits, e.ID)
		}
	}
}

// passes reads the filter once for a batch. One that can't be read, which a
// newer version must have written, lets everything pass: too much is not lost.
func (e *candidate) passes(d subscription.Data) bool {
	if e.filter == nil {
		f, err := subscription.ParseFilter(e.Filter)
		if err != nil {
			f = subscription.Filter{}
		}
		e.filter = &f
	}
	return e.filter.Passes(d)
}

func (m matcher) matchTest(it *item) {
	tested := testedEndpoint(it.event.Body)
	for _, e := range m.byUser[it.event.UserID] {
		if e.ID == tested && !e.CreatedAt.After(it.at.Add(clockSkew)) {
			it.matches = []uuid.UUID{e.ID}
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
