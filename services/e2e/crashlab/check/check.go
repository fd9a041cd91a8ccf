package check

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
)

// Rules are the settings that the services ran with.
type Rules struct {
	Steps int           // of the retry schedule
	Lease time.Duration // of a claim
	// Slack is what a busy machine may add between something that happened and
	// the line or row that says so.
	Slack time.Duration
	// Settle is how long the deliverer may try to write a result before it gives
	// up that try, as its contract says.
	Settle time.Duration
	// Publish is how long before it was accepted a page's event may have been
	// published. Of others the journal says when they were about to be.
	Publish time.Duration
}

// A Record is all that is known of a run.
type Record struct {
	Published []Published
	Received  []Received
	Faults    []Fault
	Changes   []Change
	Rows
}

// A Violation is a broken invariant.
type Violation struct {
	Invariant string `json:"invariant"` // I1 … I9
	Text      string `json:"text"`
}

// Counts are the figures of a run.
type Counts struct {
	Refused    int `json:"refused"` // events: not taken, or nobody knows
	Accepted   int `json:"accepted"`
	Deliveries int `json:"deliveries"`
	Posts      int `json:"posts"`
	Lost       int `json:"lost"`     // pairs of event and endpoint, and accepted events without a row
	Repeated   int `json:"repeated"` // POSTs after one that was answered with success
}

// A pair is an event and an endpoint, perhaps by a replay: what a delivery is.
type pair struct{ event, endpoint, replay uuid.UUID }

func (p pair) String() string {
	if p.replay != uuid.Nil {
		return fmt.Sprintf("event %s at endpoint %s by replay %s", p.event, p.endpoint, p.replay)
	}
	return fmt.Sprintf("event %s at endpoint %s", p.event, p.endpoint)
}

// A checker has the record by key.
type checker struct {
	rules      Rules
	rec        Record
	events     map[uuid.UUID]Event
	endpoints  map[uuid.UUID]Endpoint
	deliveries map[pair]Delivery
	attempts   map[uuid.UUID][]Attempt // by delivery, in order
	posts      map[pair][]Received     // in order of time
	published  map[uuid.UUID]Published // the last of each event, an accepted one before others
	begun      map[uuid.UUID]time.Time // when an event was published at the earliest
	fannedOut  map[uuid.UUID]time.Time // when the first delivery of an event was made
	changed    map[uuid.UUID][]Change  // by the endpoint's id
	names      map[uuid.UUID]uuid.UUID // of endpoints, to their ids
	counts     Counts
	violations []Violation
}

// Run judges a record.
func Run(rules Rules, rec Record) (Counts, []Violation) {
	c := &checker{
		rules: rules, rec: rec,
		events: make(map[uuid.UUID]Event), endpoints: make(map[uuid.UUID]Endpoint),
		deliveries: make(map[pair]Delivery), attempts: make(map[uuid.UUID][]Attempt),
		posts: make(map[pair][]Received), published: make(map[uuid.UUID]Published),
		begun: make(map[uuid.UUID]time.Time), fannedOut: make(map[uuid.UUID]time.Time),
		changed: make(map[uuid.UUID][]Change), names: make(map[uuid.UUID]uuid.UUID),
	}
	c.index()
	c.answered()
	c.accepted()
	c.delivered()
	c.left()
	for p, posts := range c.posts {
		c.wanted(p, posts)
		c.genuine(p, posts)
		c.logged(p, posts)
		c.repeated(p, posts)
	}
	for p, d := range c.deliveries {
		c.scheduled(p, c.attempts[d.ID])
	}
	slices.SortFunc(c.violations, func(a, b Violation) int {
		if a.Invariant != b.Invariant {
			return int(a.Invariant[1]) - int(b.Invariant[1])
		}
		return 0
	})
	return c.counts, c.violations
}

func (c *checker) index() {
	for _, e := range c.rec.Events {
		c.events[e.ID] = e
	}
	for _, e := range c.rec.Endpoints {
		if _, twice := c.names[e.Name]; twice {
			c.object("I9", "an endpoint is there twice: %s", e.Name)
		}
		c.endpoints[e.ID], c.names[e.Name] = e, e.ID
	}
	for _, ch := range c.rec.Changes {
		c.changed[c.id(ch.Endpoint)] = append(c.changed[c.id(ch.Endpoint)], ch)
	}
	for _, d := range c.rec.Deliveries {
		c.deliveries[pair{d.EventID, d.EndpointID, d.ReplayID}] = d
		if at, ok := c.fannedOut[d.EventID]; d.ReplayID == uuid.Nil && (!ok || d.Created.Before(at)) {
			c.fannedOut[d.EventID] = d.Created
		}
	}
	for _, a := range c.rec.Attempts {
		c.attempts[a.DeliveryID] = append(c.attempts[a.DeliveryID], a)
	}
	for _, list := range c.attempts {
		slices.SortFunc(list, func(a, b Attempt) int { return a.N - b.N })
	}
	for _, r := range c.rec.Received {
		p := pair{r.EventID, c.id(r.EndpointID), r.ReplayID}
		c.posts[p] = append(c.posts[p], r)
	}
	for _, list := range c.posts {
		slices.SortStableFunc(list, func(a, b Received) int { return a.At.Compare(b.At) })
	}
	for _, p := range c.rec.Published {
		begun := p.At
		if strings.HasPrefix(p.Via, "page") {
			begun = begun.Add(-c.rules.Publish)
		}
		if at, ok := c.begun[p.EventID]; !ok || begun.Before(at) {
			c.begun[p.EventID] = begun
		}
		if known, ok := c.published[p.EventID]; ok {
			if known.State == Accepted {
				p.State = Accepted
			}
			if p.BodyHash == "" {
				p.BodyHash = known.BodyHash
			}
		}
		c.published[p.EventID] = p
	}
	c.counts.Deliveries, c.counts.Posts = len(c.rec.Deliveries), len(c.rec.Received)
}

// id is the id of an endpoint that a journal names, or that name if there is none.
func (c *checker) id(name uuid.UUID) uuid.UUID {
	if id, ok := c.names[name]; ok {
		return id
	}
	return name
}

func (c *checker) object(invariant, format string, args ...any) {
	c.violations = append(c.violations, Violation{invariant, fmt.Sprintf(format, args...)})
}

// success says whether a status is one.
func success(status int) bool { return status/100 == 2 }
