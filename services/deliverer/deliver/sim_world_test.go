package deliver

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/rs/zerolog"

	"github.com/cardwire/cardwire/events"
	"github.com/cardwire/cardwire/services/deliverer/sweep"
	"github.com/cardwire/cardwire/services/internal/delivery"
	"github.com/cardwire/cardwire/services/internal/process"
)

// simFaults are the odds of each fault, drawn anew for each schedule: most
// schedules have few kinds of fault, and those often.
type simFaults struct {
	fails       float64 // a statement or a publish fails and nothing is stored
	failsStored float64 // it fails and is stored all the same
	slow        float64 // it takes long
	ackLost     float64
	stays       float64 // the broker takes an ack and keeps the message all the same
	reorder     float64
	repeat      float64 // a message is handed out twice
	receiver    float64 // the receiver does not answer with success
	stubborn    float64 // and never will for this delivery, also when all else is well again
	crashes     int     // processes cut off in the middle of whatever they do
	stops       int     // processes told to stop
	wipes       int     // the broker loses its whole store
	lostFirst   float64 // fan-out's message is lost
}

// A simWorld is a schedule: a store, a bus, receivers and processes, and what
// goes wrong with them by the seed.
type simWorld struct {
	mu      sync.Mutex // nothing waits while it is held
	rnd     *rand.PCG
	faults  simFaults
	calm    bool // there are no more faults
	store   *simStore
	bus     *simBus
	nodes   []*simNode
	posts   map[uuid.UUID]*simPosts
	steps   Schedule
	attempt time.Duration
	faulty  bool // a process was cut off or stopped, or a statement failed or was slow
	failed  []string
}

// A simNode is a process: a Worker and a Sweeper. When it is dead, nothing that
// it does reaches anything.
type simNode struct {
	world *simWorld
	dead  bool
	stop  context.CancelFunc
	done  chan struct{}
}

func (w *simWorld) random() float64 { return rand.New(w.rnd).Float64() }

func (w *simWorld) happens(odds float64) bool { return !w.calm && odds > 0 && w.random() < odds }

func (w *simWorld) upTo(d time.Duration) time.Duration {
	return time.Duration(w.random() * float64(d))
}

func (w *simWorld) fail(format string, args ...any) {
	w.failed = append(w.failed, fmt.Sprintf("%s after the start: ", time.Since(simStart))+fmt.Sprintf(format, args...))
}

// simStart is when each bubble of synctest begins.
var simStart = time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)

// reach fails if the node is dead, or by the odds.
func (n *simNode) reach(odds float64) error {
	n.world.mu.Lock()
	defer n.world.mu.Unlock()
	if n.dead || n.world.happens(odds) {
		n.world.faulty = true
		return errSimFault
	}
	return nil
}

// query is the fault of a simConn.
func (n *simNode) query(ctx context.Context, after bool) error {
	f := n.world.faults
	if after {
		return n.reach(f.failsStored)
	}
	if err := n.reach(f.fails); err != nil {
		return err
	}
	n.world.mu.Lock()
	var wait time.Duration
	if n.world.happens(f.slow) {
		n.world.faulty = true
		wait = n.world.upTo(12 * time.Second) // longer than queryTimeout, sometimes
	}
	n.world.mu.Unlock()
	if wait == 0 {
		return nil
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return n.reach(0)
	}
}

// start starts a process.
func (w *simWorld) start() {
	n := &simNode{world: w, done: make(chan struct{})}
	deps := process.Deps{Log: zerolog.Nop(), JS: simJS{node: n}}
	conn := &simConn{store: w.store, fault: n.query}
	worker := newWorker(Config{AttemptTimeout: w.attempt, Schedule: w.steps, Concurrency: 8, PerEndpoint: 2, DisableAfter: time.Hour}, deps, conn, simKeyset, simGuard)
	worker.batches = n.batches
	worker.client = &http.Client{Transport: n}
	sweeper, err := sweep.Over(sweep.Config{SweepInterval: 500 * time.Millisecond, SweepGrace: time.Second}, deps, conn)
	if err != nil {
		panic(err) // settings of this file
	}
	ctx, stop := context.WithCancel(context.Background())
	n.stop = stop
	steps := []process.Step{worker}
	if w.store.broken != noSweeper {
		steps = append(steps, sweeper)
	}
	w.mu.Lock()
	w.nodes = append(w.nodes, n)
	w.mu.Unlock()
	go func() {
		defer close(n.done)
		if err := process.RunSteps(ctx, steps); err != nil {
			w.mu.Lock()
			w.fail("a process ended: %v", err)
			w.mu.Unlock()
		}
	}()
}

// end ends a process, by a crash or as told, and starts another after a while.
func (w *simWorld) end(crash bool) {
	w.mu.Lock()
	n := w.nodes[rand.New(w.rnd).IntN(len(w.nodes))]
	n.dead = n.dead || crash
	w.faulty = true
	pause := w.upTo(2 * time.Second)
	w.mu.Unlock()
	n.stop()
	if !crash {
		<-n.done
	}
	time.Sleep(pause)
	w.start()
}

// add makes an endpoint, or a delivery to one, as fan-out does.
func (w *simWorld) add(endpoint *simEndpoint) {
	event, err := events.NewAt(time.Now(), uuid.Max, events.CardViewed, struct{}{})
	if err != nil {
		panic(err)
	}
	d := delivery.Delivery{ID: delivery.ID(event.ID, endpoint.id), EventID: event.ID, EndpointID: endpoint.id}
	<-w.store.turn
	w.store.insert(d, event.Body)
	w.store.turn <- struct{}{}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.posts[event.ID] = &simPosts{gone: w.happens(w.faults.receiver / 100), stubborn: w.happens(w.faults.stubborn)}
	if !w.happens(w.faults.lostFirst) {
		w.bus.store(d.FirstMsg())
	}
}

// lost says what is not as it must be at the end; it is asked until it says nothing.
func (w *simWorld) lost() string {
	<-w.store.turn
	defer func() { w.store.turn <- struct{}{} }()
	w.mu.Lock()
	defer w.mu.Unlock()
	var b strings.Builder
	for _, d := range w.store.deliveries {
		p := w.posts[d.eventID]
		switch {
		case d.status == "pending":
			fmt.Fprintf(&b, "I1: %s still waits: next %s, leased %s, for %q\n", d.id, d.next, d.leased, d.waitsFor)
		case d.status == "success" && !p.success:
			fmt.Fprintf(&b, "I1: %s is a success, but the receiver has none\n", d.id)
		case d.reason == reasonExhausted && d.failures != len(w.steps)+1:
			fmt.Fprintf(&b, "I1: %s is exhausted after %d failures\n", d.id, d.failures)
		case d.reason == "interrupted" && w.store.interrupted[d.id] < maxInterruptions:
			fmt.Fprintf(&b, "I1: %s was given up after %d interruptions\n", d.id, w.store.interrupted[d.id])
		}
		if d.failures > len(w.steps)+1 {
			fmt.Fprintf(&b, "I4: %s has %d failures\n", d.id, d.failures)
		}
		if n := w.store.interrupted[d.id]; n > 0 && !w.faulty {
			fmt.Fprintf(&b, "I3: %s was cut off %d times though nothing went wrong\n", d.id, n)
		}
	}
	for _, a := range w.store.attempts {
		if a.outcome == "" {
			fmt.Fprintf(&b, "I2: attempt %d of %s has no end\n", a.n, a.deliveryID)
		}
	}
	return b.String()
}
