package deliver

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/uuid"
	"github.com/rs/zerolog"

	"github.com/cardwire/cardwire/events/streams"
	"github.com/cardwire/cardwire/services/deliverer/gate"
	"github.com/cardwire/cardwire/services/deliverer/sweep"
	"github.com/cardwire/cardwire/services/internal/delivery"
	"github.com/cardwire/cardwire/services/internal/process"
	"github.com/cardwire/cardwire/services/internal/secrets"
	"github.com/cardwire/cardwire/sql/db"
)

// FAULTSIM_SCHEDULES says how many schedules TestFaultSchedules runs.
const (
	schedulesEnv     = "FAULTSIM_SCHEDULES"
	defaultSchedules = 1_000
)

// A sabotage is a fault built in, which the invariants must show.
type sabotage string

const (
	sound        sabotage = ""
	claimSkipped sabotage = "claims take what is done, not due or leased"
	noLease      sabotage = "claims hold for no time"
	settleLost   sabotage = "results are acked and never written"
	noSweeper    sabotage = "nobody sweeps"
)

var simEndpoints = [...]uuid.UUID{{1}, {2}}

// simulator is what all schedules share: settings, keys.
type simulator struct {
	worker  *Worker
	secrets map[uuid.UUID][]byte
}

func newSimulator(t testing.TB) *simulator {
	t.Helper()
	serial, err := secrets.NewKeyset()
	if err != nil {
		t.Fatal(err)
	}
	w, err := New(Config{
		EncryptionKeyset: serial, AttemptTimeout: time.Second, Concurrency: 8, PerEndpoint: 3,
		Schedule: Schedule{2 * time.Second, 10 * time.Second},
	}, process.Deps{Log: zerolog.Nop(), Streams: streams.DefaultConfig()})
	if err != nil {
		t.Fatal(err)
	}
	sim := &simulator{worker: w, secrets: make(map[uuid.UUID][]byte)}
	for _, id := range simEndpoints {
		if sim.secrets[id], err = w.keyset.Seal(id, []byte("a secret that signs what is simulated here")); err != nil {
			t.Fatal(err)
		}
	}
	return sim
}

// A schedule is one run: a few deliveries, processes that are killed, and faults
// for half a minute; then all must come to an end.
type schedule struct {
	sim     *simulator
	plan    *plan
	store   *simStore
	bus     *simBus
	kills   int
	slowest time.Duration // of the receivers
	process *simProcess

	mu         sync.Mutex
	posts      map[uuid.UUID]int // by event: POSTs that were received
	delivered  map[uuid.UUID]int // those of them whose 2xx arrived
	inFlight   map[uuid.UUID]int
	violations []string
}

func (s *schedule) violated(format string, args ...any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.violations = append(s.violations, fmt.Sprintf(format, args...))
}

// RoundTrip is the receivers.
func (s *schedule) RoundTrip(r *http.Request) (*http.Response, error) {
	process := s.process
	id := uuid.MustParse(r.Header.Get("Webhook-Id"))
	status, took := http.StatusOK, s.plan.between(0, s.slowest)
	switch f := s.plan.float(); {
	case f < 0.15:
		status = http.StatusInternalServerError
	case f < 0.2:
		took = s.plan.between(0, 2*time.Second) // perhaps a timeout
	case f < 0.23:
		status = http.StatusServiceUnavailable
	}
	s.mu.Lock()
	if process.dead.Load() {
		s.mu.Unlock()
		return nil, errSim
	}
	s.posts[id]++
	if s.inFlight[id]++; s.inFlight[id] > 1 {
		s.violations = append(s.violations, "I4: two attempts at once of event "+id.String())
	}
	s.mu.Unlock()
	defer func() {
		s.mu.Lock()
		s.inFlight[id]--
		s.mu.Unlock()
	}()
	timer := time.NewTimer(took)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-r.Context().Done():
		return nil, r.Context().Err()
	}
	if s.plan.draw(before) != none { // the answer is lost
		return nil, syscall.ECONNRESET
	}
	if status == http.StatusOK {
		s.mu.Lock()
		s.delivered[id]++
		s.mu.Unlock()
	}
	header := http.Header{}
	if status == http.StatusServiceUnavailable {
		header.Set("Retry-After", strconv.Itoa(1+int(s.plan.float()*20)))
	}
	return &http.Response{StatusCode: status, Header: header, Body: http.NoBody, Request: r}, nil
}

// live runs a worker and a sweeper, the real ones, until stop or kill is called.
func (s *schedule) live(ctx context.Context) (stop, kill func()) {
	p := &simProcess{store: s.store, plan: s.plan}
	s.process = p
	js := &simJS{simBus: s.bus, process: p}
	base := s.sim.worker
	w := &Worker{
		cfg: base.cfg, log: zerolog.Nop(), js: js, pool: p, queries: db.New(p), streams: base.streams, keyset: base.keyset, guard: base.guard,
		client: &http.Client{Transport: s}, lines: base.lines, now: time.Now, held: held{items: make(map[uuid.UUID]*item)}, counts: base.counts,
		gate: gate.New[*item](gate.Limits{InFlight: base.cfg.Concurrency, PerEndpoint: base.cfg.PerEndpoint, Queued: mostHeld}),
	}
	sweeper := sweep.Over(sweep.Config{SweepInterval: 2 * time.Second, SweepGrace: 2 * time.Second}, js, p, base.streams)
	ctx, cancel := context.WithCancel(ctx)
	var running sync.WaitGroup
	running.Go(func() { _ = w.Run(ctx) })
	if s.store.sabotaged != noSweeper {
		running.Go(func() { _ = sweeper.Run(ctx) })
	}
	stop = func() { cancel(); running.Wait() }
	kill = func() { p.dead.Store(true); stop() }
	return stop, kill
}

// run runs the schedule of a seed in virtual time and returns what it violated.
func (sim *simulator) run(seed uint64, broken sabotage) (violations []string) {
	rnd := rand.New(rand.NewPCG(seed, 0))
	s := &schedule{
		sim: sim, plan: &plan{rnd: rnd, rate: []float64{0, 0.02, 0.1, 0.3}[seed%4], until: time.Now().Add(30 * time.Second)},
		store: newSimStore(), posts: make(map[uuid.UUID]int), delivered: make(map[uuid.UUID]int), inFlight: make(map[uuid.UUID]int),
	}
	s.bus = newSimBus(s.plan)
	s.slowest = []time.Duration{20 * time.Millisecond, 100 * time.Millisecond, 900 * time.Millisecond}[seed/4%3]
	s.store.url, s.store.sabotaged = "http://receiver.test/", broken
	s.store.secret = func(id uuid.UUID) []byte { return sim.secrets[id] }
	for i := range 3 {
		event := uuid.UUID{6: 0x70, 8: 0x80, 15: byte(i)}
		d := delivery.Delivery{ID: delivery.ID(event, simEndpoints[i%2]), EventID: event, EndpointID: simEndpoints[i%2]}
		s.store.add(d.ID, event, d.EndpointID, time.Now())
		if s.plan.float() < 0.8 { // else fan-out died before it published
			m := d.FirstMsg()
			time.AfterFunc(s.plan.between(0, 6*time.Second), func() { s.bus.put(m.Subject, m.Data) })
		}
	}
	s.faults()
	return s.check()
}

// faults lives through kills, stops and wipes, and then for as long as it takes.
func (s *schedule) faults() {
	ctx := context.Background()
	stop, kill := s.live(ctx)
	if s.plan.rate > 0 {
		for range int(s.plan.float() * 4) {
			time.Sleep(s.plan.between(0, 6*time.Second))
			switch f := s.plan.float(); {
			case f < 0.25:
				s.bus.wipe()
				continue
			case f < 0.75:
				s.kills++
				kill()
			default:
				stop()
			}
			time.Sleep(s.plan.between(0, 3*time.Second))
			stop, kill = s.live(ctx)
		}
	}
	for deadline := time.Now().Add(time.Hour); time.Now().Before(deadline) && s.pending(); {
		time.Sleep(2 * time.Second)
	}
	stop()
}

func (s *schedule) pending() bool {
	s.store.turn <- struct{}{}
	defer func() { <-s.store.turn }()
	for _, d := range s.store.rows {
		if d.status == "pending" {
			return true
		}
	}
	return false
}

// check holds what was stored and received to the invariants.
func (s *schedule) check() []string {
	steps := len(s.sim.worker.cfg.Schedule)
	for _, d := range s.store.rows {
		posts, repeats := s.posts[d.event], max(s.delivered[d.event]-1, 0)
		for _, a := range d.log {
			if a.outcome == "" {
				s.violated("I2: attempt %d has no outcome: %+v", a.n, *d)
			}
		}
		switch {
		case d.status == "pending":
			s.violated("I1: %s is still pending: %+v", d.event, *d)
		case d.status == "success" && s.delivered[d.event] == 0:
			s.violated("I1: %s is a success that nobody received", d.event)
		case d.status == "failed" && d.reason == reasonExhausted && int(d.failures) != steps+1:
			s.violated("I1: %s was given up after %d failures", d.event, d.failures)
		}
		if posts > len(d.log) {
			s.violated("I2: %d POSTs and %d attempts", posts, len(d.log))
		}
		if repeats > d.expired {
			s.violated("I3: %d successes after the first, %d leases ran out", repeats, d.expired)
		}
		if d.expired > 0 && s.kills+s.plan.faults == 0 {
			s.violated("I3: %d leases ran out although nothing went wrong", d.expired)
		}
		// A result that comes after its lease ran out does not spend the schedule.
		if len(d.log)-d.expired > steps+1 {
			s.violated("I4: %d attempts, %d leases ran out: %+v", len(d.log), d.expired, *d)
		}
	}
	return s.violations
}

// in runs fn for each seed from and below, each in a bubble of its own, until it
// says that it is enough.
func (sim *simulator) in(t *testing.T, from, below uint64, broken sabotage, fn func(seed uint64, violations []string) (enough bool)) {
	t.Helper()
	enough := false
	for seed := from; seed < below && !enough; seed++ {
		synctest.Test(t, func(*testing.T) { enough = fn(seed, sim.run(seed, broken)) })
	}
}

func TestFaultSchedules(t *testing.T) {
	t.Parallel()
	schedules := uint64(defaultSchedules)
	if v := os.Getenv(schedulesEnv); v != "" {
		n, err := strconv.ParseUint(v, 10, 32)
		if err != nil {
			t.Fatalf("%s: %v", schedulesEnv, err)
		}
		schedules = n
	}
	sim := newSimulator(t)
	const parts = 2
	for part := range uint64(parts) {
		t.Run(fmt.Sprintf("part %d of %d", part+1, parts), func(t *testing.T) {
			t.Parallel()
			sim.in(t, part*schedules/parts, (part+1)*schedules/parts, sound, func(seed uint64, violations []string) bool {
				if len(violations) > 0 {
					t.Errorf("seed %d:\n%s", seed, strings.Join(violations, "\n"))
				}
				return t.Failed()
			})
		})
	}
}

// What is broken on purpose is found within so many schedules, or the
// simulation proves nothing.
func TestSabotageIsFound(t *testing.T) {
	t.Parallel()
	const within = 50
	sim := newSimulator(t)
	for _, broken := range []sabotage{claimSkipped, noLease, settleLost, noSweeper} {
		t.Run(string(broken), func(t *testing.T) {
			t.Parallel()
			found := false
			sim.in(t, 0, within, broken, func(seed uint64, violations []string) bool {
				if found = len(violations) > 0; found {
					t.Logf("seed %d: %s", seed, violations[0])
				}
				return found
			})
			if !found {
				t.Errorf("not found within %d schedules", within)
			}
		})
	}
}
