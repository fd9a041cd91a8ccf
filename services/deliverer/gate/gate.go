// Package gate decides which delivery is attempted next, and which must wait:
// no endpoint may hold more slots than its share, none may queue before
// another, and one that fails is left alone for a while. It is pure state: no
// I/O, no goroutine, and the clock is passed in.
//
// An endpoint has a cap on attempts in flight, which it grows into as attempts
// succeed, perhaps a rate limit, and a circuit breaker. Endpoints that have not
// shown that they answer (new ones, failing ones, ones that hang) share a part
// of the slots, so that however many they are, the others always have the rest.
package gate

import (
	"math/rand/v2"
	"sync"
	"time"

	"github.com/google/uuid"
)

// Reason is why deliveries of an endpoint wait. The texts are those of the
// database.
type Reason string

// Reasons.
const (
	AtCapacity  Reason = "at_capacity"  // its cap is reached
	RateLimited Reason = "rate_limited" // its rate is reached
	CircuitOpen Reason = "circuit_open" // it failed too often in a row
	Paused      Reason = "paused"       // it asked for a pause, by Retry-After
)

// Limits of a gate.
type Limits struct {
	InFlight    int // attempts at once, of all endpoints
	PerEndpoint int // attempts at once of an endpoint that has no cap of its own
	Queued      int // deliveries held, of both lanes
}

const (
	// provenShare is the part of all slots that only endpoints that answer get.
	provenShare = 4 // a quarter
	// firstWindow is how many attempts at once an endpoint begins with.
	firstWindow = 2
	// roomy is how many deliveries an endpoint may have queued while less than
	// half of the queue is in use.
	roomy = 1024
	// holdSeconds is for how long deliveries of an endpoint may be held, by its
	// pace, meanwhile. Less than parkAfter.
	holdSeconds = 3
	// hangsAfter is when an endpoint with attempts in flight, none of which has
	// ended, no longer counts as one that answers.
	hangsAfter = 2 * time.Second
	// parkAfter is how long a delivery is held before it is parked: well within
	// the ack wait of its message, as parking takes a moment too.
	parkAfter = 5 * time.Second
	// capacityWait is when those that are parked for want of capacity are looked
	// at again, if nobody has before.
	capacityWait = time.Second
	// drawAnew is how often the oldest parked deliveries of an endpoint are looked
	// for from the start: some may have been parked that are older than what was
	// claimed last.
	drawAnew = time.Second
	// aheadPart is the part of a second for which deliveries of an endpoint are
	// claimed ahead, by the pace at which it answers: a claim takes longer than
	// most attempts, and its cap would else bound claims and not attempts.
	aheadPart = 20
	// mostAhead bounds that.
	mostAhead = 256
	// worthABatch is from how many on claims ahead are made a half of them at once.
	worthABatch = 8
	// forgetAfter is how long an endpoint that has nothing to do is remembered.
	forgetAfter = 10 * time.Minute
)

// Lanes of a gate: an endpoint's turn goes to each, and to what is parked, by turns.
const (
	First = 0 // first tries
	Again = 1 // whatever comes again
	lanes = 2
)

// A Gate holds the deliveries T that wait for a slot. It is safe for concurrent use.
type Gate[T any] struct {
	mu        sync.Mutex
	limits    Limits
	random    func() float64
	endpoints map[uuid.UUID]*endpoint[T]
	ready     ring[T] // have work and may begin
	held      ring[T] // would be ready, but the slots of the unproven are taken
	timers    timers[T]
	queued    int
	inFlight  int
	unproven  int // of inFlight, those to endpoints that are not proven
	changed   map[uuid.UUID]*endpoint[T]
	wake      chan struct{}
	room      chan struct{}
}

// New makes an empty gate.
func New[T any](limits Limits) *Gate[T] {
	return &Gate[T]{
		limits: limits, random: rand.Float64,
		endpoints: make(map[uuid.UUID]*endpoint[T]), changed: make(map[uuid.UUID]*endpoint[T]),
		wake: make(chan struct{}, 1), room: make(chan struct{}, 1),
	}
}

// Wake delivers when Next may have something that it did not have before.
func (g *Gate[T]) Wake() <-chan struct{} { return g.wake }

// Room delivers when Offer may have room that it did not have before.
func (g *Gate[T]) Room() <-chan struct{} { return g.room }

// An Answer is what became of an offered delivery.
type Answer struct {
	Full   bool      // no room: offer it again after Room
	Reason Reason    // not empty: it is not held and is to be parked
	Until  time.Time // when the first that is parked may go, as far as is known
}

// Offer hands over a delivery of an endpoint. It is held until Next or Expire
// returns it, unless the answer says otherwise.
func (g *Gate[T]) Offer(now time.Time, id uuid.UUID, lane int, v T) Answer {
	g.mu.Lock()
	defer g.mu.Unlock()
	e := g.endpoint(id, now)
	if e.circuit.state == Open && now.Before(e.circuit.until) {
		return Answer{Reason: e.circuit.reason, Until: e.circuit.until}
	}
	most := max(roomy, holdSeconds*e.pace)
	if g.queued >= g.limits.Queued/2 {
		most = max(2*e.cap, e.pace)
	}
	full := g.queued >= g.limits.Queued
	if blocked, until := e.blocked(now); e.queued() >= most || full && blocked != "" {
		if blocked == "" {
			blocked = AtCapacity
		}
		return Answer{Reason: blocked, Until: maxTime(until, now.Add(capacityWait))}
	}
	if full {
		return Answer{Full: true}
	}
	g.queued++
	e.queue[lane] = append(e.queue[lane], held[T]{v, now})
	g.consider(e, now)
	return Answer{}
}

// Probe has an open circuit let one attempt through now, to see: somebody asks
// for it. What is offered next is what it will be made with.
func (g *Gate[T]) Probe(now time.Time, id uuid.UUID) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if e := g.endpoint(id, now); e.circuit.state == Open && now.Before(e.circuit.until) {
		e.circuit.until = now
	}
}

// Configure gives an endpoint the limits that its owner set: 0 is the default
// cap, and no rate limit.
func (g *Gate[T]) Configure(now time.Time, id uuid.UUID, mostInFlight int, perSecond int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	e := g.endpoint(id, now)
	if mostInFlight == 0 {
		mostInFlight = g.limits.PerEndpoint
	}
	e.configure(mostInFlight, perSecond)
	g.consider(e, now)
}

// Open opens the circuit of an endpoint until a time, as when another process
// had opened it before this one began.
func (g *Gate[T]) Open(now time.Time, id uuid.UUID, reason Reason, until time.Time) {
	g.mu.Lock()
	defer g.mu.Unlock()
	e := g.endpoint(id, now)
	e.circuit = circuit{state: Open, reason: reason, until: until}
	g.consider(e, now)
}

func (g *Gate[T]) mostUnproven() int {
	return max(1, g.limits.InFlight-g.limits.InFlight/provenShare)
}

func (g *Gate[T]) endpoint(id uuid.UUID, now time.Time) *endpoint[T] {
	e := g.endpoints[id]
	if e == nil {
		e = &endpoint[T]{id: id, circuit: circuit{state: Closed}}
		e.configure(g.limits.PerEndpoint, 0)
		e.window = min(firstWindow, e.cap)
		g.endpoints[id] = e
	}
	e.used = now
	return e
}

// pick takes a slot for an attempt of e.
func (g *Gate[T]) pick(e *endpoint[T]) {
	e.full = e.full && e.enough()
	e.claimed++
	e.full = e.full || e.slots() >= e.most()
	g.inFlight++
	if !e.proven {
		g.unproven++
	}
	if e.circuit.state == HalfOpen {
		g.changed[e.id] = e
	}
	e.circuit.begin()
}

// begin turns a slot that was taken into an attempt.
func (g *Gate[T]) begin(e *endpoint[T], now time.Time) {
	if e.posting == 0 {
		e.busySince = now
	}
	e.claimed--
	e.posting++
	if e.limiter != nil {
		e.limiter.AllowN(now, 1) // it does: blocked left one for each claim
	}
}

// freed accounts for a slot of e that was given back.
func (g *Gate[T]) freed(e *endpoint[T], now time.Time) {
	g.inFlight--
	if !e.proven {
		g.unproven--
	}
	g.consider(e, now)
	signal(g.wake) // a slot is free, whoever gets it
}

// prove says whether an endpoint answers.
func (g *Gate[T]) prove(e *endpoint[T], proven bool) {
	if e.proven == proven {
		return
	}
	e.proven = proven
	if proven {
		g.unproven -= e.slots()
		g.held.remove(e)
	} else {
		g.unproven += e.slots()
	}
}

// consider puts e among those that are ready, if it has something to do and may,
// or sees to it that it is considered again when it may.
func (g *Gate[T]) consider(e *endpoint[T], now time.Time) {
	if e.queued() == 0 && !e.parked {
		return
	}
	if e.in != nil {
		return // it is listed already
	}
	switch reason, until := e.blocked(now); {
	case reason == "":
		g.ready.push(e)
		signal(g.wake)
	case until.After(now):
		if g.timers.add(e, until) {
			signal(g.wake) // the dispatcher sleeps until the time that it knows of
		}
	}
}

func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

func maxTime(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}
