package check

import (
	"fmt"
	"slices"
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
}

// A Record is all that is known of a run.
type Record struct {
	Published []Published
	Received  []Received
	Faults    []Fault
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

// A pair is an event and an endpoint: what a delivery is.
type pair struct{ event, endpoint uuid.UUID }

func (p pair) String() string { return fmt.Sprintf("event %s at endpoint %s", p.event, p.endpoint) }

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
	}
	c.index()
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
		c.endpoints[e.ID] = e
	}
	for _, d := range c.rec.Deliveries {
		c.deliveries[pair{d.EventID, d.EndpointID}] = d
	}
	for _, a := range c.rec.Attempts {
		c.attempts[a.DeliveryID] = append(c.attempts[a.DeliveryID], a)
	}
	for _, list := range c.attempts {
		slices.SortFunc(list, func(a, b Attempt) int { return a.N - b.N })
	}
	for _, r := range c.rec.Received {
		p := pair{r.EventID, r.EndpointID}
		c.posts[p] = append(c.posts[p], r)
	}
	for _, list := range c.posts {
		slices.SortStableFunc(list, func(a, b Received) int { return a.At.Compare(b.At) })
	}
	for _, p := range c.rec.Published {
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

func (c *checker) object(invariant, format string, args ...any) {
	c.violations = append(c.violations, Violation{invariant, fmt.Sprintf(format, args...)})
}

// success says whether a status is one.
func success(status int) bool { return status/100 == 2 }
