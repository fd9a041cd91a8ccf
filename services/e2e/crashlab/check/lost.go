package check

import "slices"

// accepted (I1, I9): each accepted event is known, as it was published.
func (c *checker) accepted() {
	for id, p := range c.published {
		if p.State != Accepted {
			c.counts.Refused++
			continue
		}
		c.counts.Accepted++
		e, ok := c.events[id]
		switch {
		case !ok:
			c.counts.Lost++
			c.object("I1", "event %s was accepted by %s at %s and is nowhere", id, p.Via, p.At)
		case p.BodyHash != "" && p.BodyHash != e.BodyHash:
			c.object("I3", "event %s is stored with another body than was published", id)
		}
	}
	if c.rec.Dead > 0 {
		c.object("I1", "%d messages were set aside as no events; all were events", c.rec.Dead)
	}
}

// delivered (I1, I9): each event that is known, and each endpoint that wants it,
// have a delivery, and that ended as it says.
func (c *checker) delivered() {
	for _, e := range c.rec.Events {
		for _, ep := range c.rec.Endpoints {
			if !wants(ep, e) {
				continue
			}
			p := pair{event: e.ID, endpoint: ep.ID}
			if _, ok := c.deliveries[p]; !ok && c.due(e, ep) {
				c.counts.Lost++
				c.object("I1", "%s: there is no delivery", p)
			} else if ok && c.goneBefore(e, ep) {
				c.object("I1", "%s: there is a delivery, and the endpoint had been deleted before it was published", p)
			}
		}
	}
	for p, d := range c.deliveries {
		if ep, ok := c.endpoints[p.endpoint]; ok {
			c.ended(p, d, ep)
		}
		if ep, ok := c.endpoints[p.endpoint]; !ok || !wants(ep, c.events[p.event]) {
			c.object("I1", "%s: there is a delivery, and the endpoint does not want it", p)
		}
	}
}

// wants says whether an endpoint is to get an event, if it is active.
func wants(ep Endpoint, e Event) bool {
	return ep.UserID == e.UserID && slices.Contains(ep.Types, e.Type)
}

// ended judges what a delivery says of its end.
func (c *checker) ended(p pair, d Delivery, ep Endpoint) {
	got := slices.ContainsFunc(c.posts[p], func(r Received) bool { return success(r.Status) })
	lost := ""
	switch {
	case d.Status == "success" && !got:
		lost = "is said to be delivered, and the receiver has none that it took"
	case d.Status == "pending":
		c.object("I7", "%s: still pending", p)
		if !got {
			lost = "is still pending"
		}
	case d.Status == "failed" && d.Reason == "exhausted" && c.failures(d) <= c.rules.Steps:
		lost = "is said to be exhausted, with attempts left"
	case d.Status == "failed" && d.Reason == "endpoint_disabled" && ep.Active,
		d.Status == "failed" && d.Reason == "endpoint_deleted" && !ep.Deleted:
		lost = "ended as " + d.Reason + ", which it is not"
	case d.Status == "failed" && d.Reason == "interrupted" && !got:
		lost = "was given up because we were cut off too often"
	}
	if lost != "" {
		c.counts.Lost++
		c.object("I1", "%s: %s", p, lost)
	}
}

func (c *checker) failures(d Delivery) (n int) {
	for _, a := range c.attempts[d.ID] {
		if a.Outcome == "failure" {
			n++
		}
	}
	return n
}

// left (I7): nothing waits any more.
func (c *checker) left() {
	if c.rec.Outbox > 0 {
		c.object("I7", "%d rows are left in the outbox", c.rec.Outbox)
	}
	for _, a := range c.rec.Attempts {
		if a.Outcome == "" {
			c.object("I7", "attempt %d of delivery %s has no end", a.N, a.DeliveryID)
		}
	}
}
