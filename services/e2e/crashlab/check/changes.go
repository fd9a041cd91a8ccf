package check

import (
	"github.com/google/uuid"
)

// of finds a change of an endpoint.
func (c *checker) of(endpoint uuid.UUID, kind string) (Change, bool) {
	for _, ch := range c.changed[endpoint] {
		if ch.Kind == kind {
			return ch, true
		}
	}
	return Change{}, false
}

// due says whether an event must have a delivery at an endpoint that wants it:
// the endpoint was there before the event was published, and is there still or
// was when the event was fanned out. In between it is free.
func (c *checker) due(e Event, ep Endpoint) bool {
	if created, ok := c.of(ep.ID, Created); ok {
		at, known := c.begun[e.ID]
		if created.State != Accepted || !known || !created.Answered.Before(at) {
			return false
		}
	}
	deleted, ok := c.of(ep.ID, Deleted)
	if !ok {
		return ep.Active && !ep.Deleted
	}
	at, known := c.fannedOut[e.ID]
	return ep.Active && known && at.Before(deleted.Asked)
}

// goneBefore says whether an endpoint had been deleted before an event was published.
func (c *checker) goneBefore(e Event, ep Endpoint) bool {
	deleted, ok := c.of(ep.ID, Deleted)
	at, known := c.begun[e.ID]
	return ok && known && deleted.State == Accepted && deleted.Answered.Before(at)
}

// rotatedBefore lists the further secrets that each POST of a pair must be signed
// with: they were there before its first attempt.
func (c *checker) rotatedBefore(p pair) (secrets []int) {
	attempts := c.attempts[c.deliveries[p].ID]
	if len(attempts) == 0 {
		return nil
	}
	for _, ch := range c.changed[p.endpoint] {
		if ch.Kind == Rotated && ch.State == Accepted && attempts[0].Started.After(ch.Answered.Add(c.rules.Slack)) {
			secrets = append(secrets, ch.Secret)
		}
	}
	return secrets
}

// answered (I9, I1): what the endpoints API called done is done, once, and whole.
func (c *checker) answered() {
	replays := make(map[uuid.UUID]Replay)
	made := make(map[uuid.UUID]int)
	for _, r := range c.rec.Replays {
		replays[r.ID] = r
	}
	for _, d := range c.rec.Deliveries {
		if d.ReplayID != uuid.Nil {
			made[d.ReplayID]++
		}
	}
	for id, r := range replays {
		if r.State == "running" {
			c.object("I7", "replay %s has not ended", id)
		}
		if made[id] != r.Made {
			c.object("I9", "replay %s says that it made %d deliveries, and %d are there", id, r.Made, made[id])
		}
	}
	for _, ch := range c.rec.Changes {
		ep, there := c.endpoints[c.id(ch.Endpoint)]
		switch {
		case ch.State != Accepted:
		case !there:
			c.object("I9", "endpoint %s was %s, the API said, and is nowhere", ch.Endpoint, ch.Kind)
		case ch.Kind == Deleted && !ep.Deleted:
			c.object("I9", "endpoint %s was deleted, the API said, and is there", ch.Endpoint)
		case ch.Kind == Replayed:
			if _, ok := replays[ch.Replay]; !ok {
				c.object("I9", "replay %s was begun, the API said, and is nowhere", ch.Replay)
			}
			c.replayed(ch, ep)
		}
	}
	for id := range made {
		if _, ok := replays[id]; !ok {
			c.object("I9", "%d deliveries are of replay %s, which is nowhere", made[id], id)
		}
	}
}

// replayed (I1): a replay of all has a delivery of each event that had one when
// it was asked for. That it had one an attempt shows that had begun: the time when
// a row was made is that of its statement's beginning, which may have waited for a lock.
func (c *checker) replayed(ch Change, ep Endpoint) {
	if _, deleted := c.of(ep.ID, Deleted); deleted || !ep.Active {
		return // it may have stopped
	}
	for _, d := range c.rec.Deliveries {
		attempts := c.attempts[d.ID]
		if d.EndpointID != ep.ID || d.ReplayID != uuid.Nil || len(attempts) == 0 || !attempts[0].Started.Before(ch.Asked) {
			continue
		}
		p := pair{d.EventID, ep.ID, ch.Replay}
		if _, ok := c.deliveries[p]; !ok {
			c.counts.Lost++
			c.object("I1", "%s: there is no delivery", p)
		}
	}
}
