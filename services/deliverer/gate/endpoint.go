package gate

import (
	"slices"
	"time"

	"github.com/google/uuid"
	"golang.org/x/time/rate"
)

// A held delivery knows since when.
type held[T any] struct {
	v     T
	since time.Time
}

// An endpoint is what the gate knows of one.
type endpoint[T any] struct {
	id      uuid.UUID
	cap     int // most attempts in flight
	window  int // how many it has grown to, 1 to cap
	limiter *rate.Limiter
	perSec  int // of limiter
	circuit circuit
	claimed int       // slots of deliveries that were picked and have not begun
	posting int       // slots of attempts in flight
	full    bool      // it was at its most, and is to be claimed for again when half of what is claimed ahead is used
	waiting []held[T] // claimed, and waiting for an attempt to end
	proven  bool      // it answers

	queue   [lanes][]held[T]
	turn    int       // the lane that is next; lanes: those that are parked
	parked  bool      // PostgreSQL has deliveries of it that are parked
	drawn   uuid.UUID // the last of them that was claimed
	drawnAt time.Time // when the oldest were last looked for

	used      time.Time // when something last concerned it
	busySince time.Time // when it last went from none to one in flight
	ended     time.Time // when an attempt last ended
	pace      int       // attempts that ended in the last second
	finished  int       // those in this one
	paceAt    time.Time

	in    *ring[T]  // the ring that it is listed in
	timer time.Time // when a timer considers it again; zero: none
}

func (e *endpoint[T]) slots() int { return e.claimed + e.posting }

// ahead is how many deliveries may be claimed before they can begin.
func (e *endpoint[T]) ahead() int { return min(max(e.pace, e.finished)/aheadPart, mostAhead) }

// most is how many slots it may have.
func (e *endpoint[T]) most() int { return e.window + e.ahead() }

// enough says that it has claims for a while: a claim for many deliveries costs
// little more than for one.
func (e *endpoint[T]) enough() bool {
	ahead := e.ahead()
	return ahead >= worthABatch && e.claimed > ahead/2
}

// mayBegin says whether an attempt of a claimed delivery may begin.
func (e *endpoint[T]) mayBegin() bool { return e.circuit.state != Open && e.posting < e.window }

func (e *endpoint[T]) queued() int { return len(e.queue[First]) + len(e.queue[Again]) }

// pop takes out the delivery that is next, the oldest of either lane or of what
// is parked by turns. Of a parked one it knows nothing but that there may be one.
func (e *endpoint[T]) pop() (v T, parked, ok bool) {
	for range lanes + 1 {
		lane := e.turn
		e.turn = (e.turn + 1) % (lanes + 1)
		if lane == lanes {
			if e.parked {
				return v, true, true
			}
			continue
		}
		if len(e.queue[lane]) == 0 {
			continue
		}
		v = e.queue[lane][0].v
		e.queue[lane][0] = held[T]{}
		if e.queue[lane] = e.queue[lane][1:]; len(e.queue[lane]) == 0 {
			e.queue[lane] = nil // lets go of the array
		}
		return v, false, true
	}
	return v, false, false
}

// drawFrom is where to look for parked deliveries: after those that were claimed
// last, as an index has what is gone for a while; and now and then from the start.
func (e *endpoint[T]) drawFrom(now time.Time) uuid.UUID {
	if e.drawn == uuid.Nil || now.Sub(e.drawnAt) > drawAnew {
		e.drawn, e.drawnAt = uuid.Nil, now
	}
	return e.drawn
}

// expire takes out what is held too long, or all of it.
func (e *endpoint[T]) expire(now time.Time, all bool) (list []held[T]) {
	for lane := range e.queue {
		n := 0
		for n < len(e.queue[lane]) && (all || now.Sub(e.queue[lane][n].since) > parkAfter) {
			n++
		}
		list = append(list, e.queue[lane][:n]...)
		if e.queue[lane] = e.queue[lane][n:]; len(e.queue[lane]) == 0 {
			e.queue[lane] = nil
		}
	}
	return list
}

func (e *endpoint[T]) configure(cap, perSecond int) {
	if cap != e.cap {
		e.cap = cap
		e.window = min(max(e.window, 1), cap)
	}
	if perSecond != e.perSec {
		e.perSec, e.limiter = perSecond, nil
		if perSecond > 0 {
			// A burst of a second's worth: what came at once may go at once.
			e.limiter = rate.NewLimiter(rate.Limit(perSecond), perSecond)
		}
	}
}

// blocked says why no attempt may begin now; empty if one may. until is when
// that ends by itself; zero if an attempt has to end first.
func (e *endpoint[T]) blocked(now time.Time) (reason Reason, until time.Time) {
	if !e.circuit.admits(now) {
		if e.circuit.state == Open {
			return e.circuit.reason, e.circuit.until
		}
		return CircuitOpen, time.Time{} // the probe is in flight
	}
	if e.slots() >= e.most() || e.full && e.enough() || e.circuit.state == HalfOpen && e.slots() > 0 {
		return AtCapacity, time.Time{}
	}
	if e.limiter != nil {
		if tokens := e.limiter.TokensAt(now) - float64(e.claimed); tokens < 1 { // what is claimed takes one when it begins
			wait := time.Duration((1 - tokens) / float64(e.perSec) * float64(time.Second))
			return RateLimited, now.Add(wait + time.Millisecond)
		}
	}
	return "", time.Time{}
}

// idle says that nothing would be lost if it were forgotten.
func (e *endpoint[T]) idle() bool {
	return e.slots() == 0 && e.queued() == 0 && !e.parked && e.in == nil && e.timer.IsZero() && e.circuit.state == Closed
}

// A ring has endpoints in order of their coming. An endpoint is in one at most.
type ring[T any] struct{ list []*endpoint[T] }

func (r *ring[T]) push(e *endpoint[T]) {
	e.in = r
	r.list = append(r.list, e)
}

func (r *ring[T]) pop() *endpoint[T] {
	for len(r.list) > 0 {
		e := r.list[0]
		r.list[0] = nil
		r.list = r.list[1:]
		if e != nil {
			e.in = nil
			return e
		}
	}
	return nil
}

// remove takes e out, if it is in this ring.
func (r *ring[T]) remove(e *endpoint[T]) {
	if e.in == r {
		r.list[slices.Index(r.list, e)] = nil
		e.in = nil
	}
}
