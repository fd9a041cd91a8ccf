package check

import (
	"slices"
	"time"
)

// wanted (I1): no POST to an endpoint that did not ask for the event.
func (c *checker) wanted(p pair, posts []Received) {
	e, known := c.events[p.event]
	ep, ok := c.endpoints[p.endpoint]
	switch {
	case !known:
		c.object("I1", "%s: %d POSTs of an event that is not stored", p, len(posts))
	case !ok || !wants(ep, e):
		c.object("I1", "%s: %d POSTs to an endpoint that does not want it", p, len(posts))
	}
}

// genuine (I8, I3): each POST is signed, and all of them have the same bytes.
func (c *checker) genuine(p pair, posts []Received) {
	for _, r := range posts {
		if !r.Verified {
			c.object("I8", "%s: the signature of the POST at %s does not verify", p, r.At)
		}
		for _, n := range c.rotatedBefore(p) {
			if !slices.Contains(r.Rotated, n) {
				c.object("I8", "%s: the POST at %s is not signed with secret %d, which was there before its attempt", p, r.At, n)
			}
		}
		if e, ok := c.events[p.event]; ok && r.BodyHash != e.BodyHash {
			c.object("I3", "%s: the POST at %s has other bytes than the event", p, r.At)
		}
	}
}

// logged (I2): each POST has an attempt of its own, which began before it.
func (c *checker) logged(p pair, posts []Received) {
	attempts := c.attempts[c.deliveries[p].ID]
	for i, r := range posts {
		begun := 0
		for _, a := range attempts {
			if !a.Started.After(r.At.Add(c.rules.Slack)) {
				begun++
			}
		}
		if begun <= i {
			c.object("I2", "%s: POST %d at %s is in no attempt's row (%d attempts had begun, %d are logged)", p, i+1, r.At, begun, len(attempts))
			return
		}
	}
}

// repeated (I3): a POST follows a success only if a fault kept the success from
// being written down in time.
func (c *checker) repeated(p pair, posts []Received) {
	attempts := c.attempts[c.deliveries[p].ID]
	excused := c.unanswered(attempts, posts)
	var last *Received
	for i, r := range posts {
		if last != nil {
			c.counts.Repeated++
			if !c.cut(*last, r, attempts) && excused <= 0 {
				c.object("I3", "%s: the POST at %s repeats that of %s, which was answered with %d, and no fault hit it", p, r.At, last.At, last.Status)
			}
			excused--
		}
		if success(r.Status) {
			last = &posts[i]
		}
	}
	for i, a := range attempts {
		if a.Outcome != "success" || a.Finished.Sub(a.Started) > c.rules.Lease {
			continue
		}
		for _, later := range attempts[i+1:] {
			if later.Started.After(a.Finished) {
				c.object("I3", "%s: attempt %d began after attempt %d had succeeded", p, later.N, a.N)
			}
		}
	}
}

// unanswered is how many answers with success did not reach the deliverer in
// time: it says that it saw more failures than the receiver had.
func (c *checker) unanswered(attempts []Attempt, posts []Received) (n int) {
	for _, a := range attempts {
		if a.Outcome == "failure" {
			n++
		}
	}
	for _, r := range posts {
		if !success(r.Status) {
			n--
		}
	}
	return n
}

// cut says whether a fault was there that can keep what was answered from being
// settled, or hold back a POST until another was answered.
//
// A deliverer settles an answer within milliseconds, so a fault that explains a
// repeat began by then, but for Slack. It may take longer, up to Settle, if
// PostgreSQL makes it wait: then a later kill explains the repeat as well, but
// only if the attempt's row says that nobody ever settled it.
func (c *checker) cut(first, second Received, attempts []Attempt) bool {
	within := c.rules.Slack
	if unsettled(attempts, first.At.Add(c.rules.Slack)) {
		within += c.rules.Settle
	}
	for _, f := range c.rec.Faults {
		if f.Cuts && f.From.Before(first.At.Add(within)) && f.To.After(first.At.Add(-c.rules.Slack)) {
			return true
		}
		if f.Cuts && f.From.Before(second.At) && f.To.After(second.At.Add(-c.rules.Slack)) && f.To.After(first.At) && f.To.Sub(f.From) >= c.rules.Lease-c.rules.Slack {
			return true
		}
	}
	return false
}

// unsettled says whether the last attempt that had begun by some time was closed
// by somebody else than who made it.
func unsettled(attempts []Attempt, by time.Time) bool {
	for i := len(attempts) - 1; i >= 0; i-- {
		if !attempts[i].Started.After(by) {
			return attempts[i].Outcome == "interrupted" && attempts[i].Class == ""
		}
	}
	return false
}

// scheduled (I4): not more attempts than the schedule has, and no two at once
// but across a lease that ran out.
func (c *checker) scheduled(p pair, attempts []Attempt) {
	failures, succeeded := 0, false
	for i, a := range attempts {
		ran := a.Finished.Sub(a.Started)
		if a.Outcome == "failure" && (ran < c.rules.Lease || i == len(attempts)-1) {
			failures++ // one whose lease ran out before its result came spends nothing, if it was followed
		}
		if a.Outcome == "interrupted" && a.Class == "" && !succeeded && ran < c.rules.Lease-c.rules.Slack {
			c.object("I4", "%s: attempt %d was closed by somebody else after %s, before its lease ran out", p, a.N, ran)
		}
		succeeded = succeeded || a.Outcome == "success" // after all: what was begun meanwhile is closed
		if i == 0 {
			continue
		}
		before := attempts[i-1]
		if a.Started.Before(before.Finished) && a.Started.Sub(before.Started) < c.rules.Lease-c.rules.Slack {
			c.object("I4", "%s: attempts %d and %d overlap", p, before.N, a.N)
		}
	}
	if failures > c.rules.Steps+1 {
		c.object("I4", "%s: %d attempts failed, and the schedule has %d", p, failures, c.rules.Steps+1)
	}
}
