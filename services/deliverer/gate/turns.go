package gate

import (
	"time"

	"github.com/google/uuid"
)

// A Pick is a delivery that may be claimed. Each is followed by one Begin, if it
// is to be attempted, or Drop.
type Pick[T any] struct {
	EndpointID uuid.UUID
	Delivery   T
}

// A Draw asks for the oldest N parked deliveries of an endpoint, to be claimed
// where they are. It is followed by Drawn, and for each of the N by a Begin, or
// by a Drop if there are fewer.
type Draw struct {
	EndpointID uuid.UUID
	N          int
	After      uuid.UUID // those before it are gone, as far as is known
}

// Next returns up to most deliveries that may be claimed now, one of each
// endpoint by turns: those that are held, and how many of those that are parked.
// next is when there may be more without anything else happening; zero if never.
func (g *Gate[T]) Next(now time.Time, most int) (picks []Pick[T], draws []Draw, next time.Time) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.timers.due(now, func(e *endpoint[T]) { g.consider(e, now) })
	for room := g.mostUnproven() - g.unproven; room > 0; {
		e := g.held.pop()
		if e == nil {
			break
		}
		if g.consider(e, now); e.in != nil {
			room--
		}
	}
	drawn := make(map[uuid.UUID]int) // of draws
	for taken := 0; taken < most && g.inFlight < g.limits.InFlight; {
		e := g.ready.pop()
		if e == nil {
			break
		}
		if reason, _ := e.blocked(now); reason != "" {
			g.consider(e, now)
			continue
		}
		if !e.proven && g.unproven >= g.mostUnproven() {
			g.held.push(e)
			continue
		}
		v, parked, ok := e.pop()
		if !ok {
			continue
		}
		if parked {
			i, known := drawn[e.id]
			if !known {
				i = len(draws)
				drawn[e.id] = i
				draws = append(draws, Draw{EndpointID: e.id, After: e.drawFrom(now)})
			}
			draws[i].N++
		} else {
			picks = append(picks, Pick[T]{e.id, v})
			g.queued--
		}
		taken++
		g.pick(e)
		g.consider(e, now)
	}
	if len(picks) > 0 {
		signal(g.room)
	}
	return picks, draws, g.timers.next()
}

// Drawn says which parked delivery of an endpoint was the last that was claimed,
// and whether there may be more: there are not, if there were fewer than asked for.
func (g *Gate[T]) Drawn(now time.Time, id, last uuid.UUID, more bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	e := g.endpoint(id, now)
	if e.parked, e.drawn = more, last; !more {
		e.drawn = uuid.Nil
	}
	g.consider(e, now)
}

// HasParked says that an endpoint has deliveries that are parked, perhaps older
// ones than were claimed last.
func (g *Gate[T]) HasParked(now time.Time, id uuid.UUID) {
	g.mu.Lock()
	defer g.mu.Unlock()
	e := g.endpoint(id, now)
	e.parked, e.drawn = true, uuid.Nil
	g.consider(e, now)
}

// A Result is how an attempt ended, as far as the gate cares.
type Result struct {
	Success    bool
	Ignore     bool          // it was not made, or cut off by us: it says nothing of the endpoint
	Timeout    bool          // a failure by taking too long
	SlowDown   bool          // a failure by which the receiver says that it is overloaded
	RetryAfter time.Duration // the pause that it asks for; 0: none
}

// Begin says whether the attempt of a pick, now claimed, is to be made at once. If
// not, some Done returns it when it is its turn, or else Expire does.
func (g *Gate[T]) Begin(now time.Time, id uuid.UUID, v T) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	e := g.endpoint(id, now)
	if e.mayBegin() && len(e.waiting) == 0 {
		g.begin(e, now)
		return true
	}
	e.waiting = append(e.waiting, held[T]{v, now})
	return false
}

// Drop gives the slot of a pick back that was not begun.
func (g *Gate[T]) Drop(now time.Time, id uuid.UUID) {
	g.mu.Lock()
	defer g.mu.Unlock()
	e := g.endpoint(id, now)
	e.claimed--
	e.circuit.end(Result{Ignore: true}, now, 0)
	g.freed(e, now)
}

// Done frees the slot of an attempt that was begun. It returns deliveries of
// the same endpoint whose attempts are to be begun now: each is followed by a
// Done of its own.
func (g *Gate[T]) Done(now time.Time, id uuid.UUID, r Result) (begun []T) {
	g.mu.Lock()
	defer g.mu.Unlock()
	e := g.endpoint(id, now)
	before := e.circuit.state
	e.circuit.end(r, now, g.random())
	e.posting--
	g.freed(e, now)
	if !r.Ignore {
		e.ended, e.finished = now, e.finished+1
		g.prove(e, r.Success || e.proven && e.circuit.state == Closed)
	}
	switch {
	case r.Success:
		e.window = min(e.window+1, e.cap)
	case e.circuit.state != Closed:
		e.window = min(firstWindow, e.cap)
	case r.SlowDown || r.Timeout:
		e.window = max(e.window/2, 1)
	}
	if e.circuit.state != before || e.circuit.state == Open {
		g.changed[id] = e
	}
	for len(e.waiting) > 0 && e.mayBegin() {
		begun = append(begun, e.waiting[0].v)
		e.waiting = e.waiting[1:]
		g.begin(e, now)
	}
	g.consider(e, now)
	return begun
}
