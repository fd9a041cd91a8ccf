package gate

import (
	"time"

	"github.com/google/uuid"
)

// An Expired delivery was held for too long, or its endpoint's circuit opened
// meanwhile. It is to be parked. If it was claimed, that is to be undone first.
type Expired[T any] struct {
	Pick[T]
	Answer
	Claimed bool
}

// Expire takes out what is to be parked, and has an eye on endpoints that hang.
// It is to be called a few times a second.
func (g *Gate[T]) Expire(now time.Time) (list []Expired[T]) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for id, e := range g.endpoints {
		if e.posting > 0 && now.Sub(maxTime(e.ended, e.busySince)) > hangsAfter {
			g.prove(e, false)
		}
		if now.Sub(e.paceAt) >= time.Second {
			e.pace, e.finished, e.paceAt = e.finished, 0, now
		}
		shut := e.circuit.state == Open && now.Before(e.circuit.until)
		answer := Answer{Reason: AtCapacity, Until: now.Add(capacityWait)}
		if reason, until := e.blocked(now); shut || reason == RateLimited {
			answer = Answer{Reason: reason, Until: maxTime(until, answer.Until)}
		}
		for _, h := range e.expire(now, shut) {
			g.queued--
			list = append(list, Expired[T]{Pick[T]{id, h.v}, answer, false})
		}
		for len(e.waiting) > 0 && (shut || now.Sub(e.waiting[0].since) > hangsAfter) {
			list = append(list, Expired[T]{Pick[T]{id, e.waiting[0].v}, answer, true})
			e.waiting = e.waiting[1:]
			e.claimed--
			g.freed(e, now)
		}
		if e.idle() && now.Sub(e.used) > forgetAfter {
			delete(g.endpoints, id)
		}
	}
	if len(list) > 0 {
		signal(g.room)
	}
	return list
}

// Drain takes out all that is held: what was offered, and what was claimed and
// has not begun. Nothing is to be offered or picked after it.
func (g *Gate[T]) Drain() (offered, claimed []T) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, e := range g.endpoints {
		for _, h := range e.expire(time.Time{}, true) {
			offered = append(offered, h.v)
			g.queued--
		}
		for _, h := range e.waiting {
			claimed = append(claimed, h.v)
			e.claimed--
			g.freed(e, h.since)
		}
		e.waiting = nil
	}
	return offered, claimed
}

// A Change is the state of a circuit that has changed.
type Change struct {
	EndpointID uuid.UUID
	State      State
	Reason     Reason    // unless it is closed
	Until      time.Time // if it is open
}

// Changes returns what has changed since it was called last.
func (g *Gate[T]) Changes() (list []Change) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for id, e := range g.changed {
		list = append(list, Change{id, e.circuit.state, e.circuit.reason, e.circuit.until})
	}
	clear(g.changed)
	return list
}

// Shut lists the endpoints whose circuit is open for now.
func (g *Gate[T]) Shut(now time.Time) (ids []uuid.UUID) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for id, e := range g.endpoints {
		if e.circuit.state == Open && now.Before(e.circuit.until) {
			ids = append(ids, id)
		}
	}
	return ids
}

// Held is how many deliveries wait in the gate, and how many attempts are in flight.
func (g *Gate[T]) Held() (queued, inFlight int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.queued, g.inFlight
}
