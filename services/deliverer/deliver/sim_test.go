package deliver

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/uuid"

	"github.com/cardwire/cardwire/services/internal/delivery"
	"github.com/cardwire/cardwire/services/internal/egress"
	"github.com/cardwire/cardwire/services/internal/secrets"
	"github.com/cardwire/cardwire/services/internal/signing"
)

// The simulator runs real Workers and Sweepers on a store, a bus and receivers
// in memory, in the virtual time of testing/synctest, and has faults happen to
// them by a seed. A seed decides which faults come and how often, not how the
// goroutines take turns: one that failed once is to be run a few times.
var (
	simSchedules = flag.Int("schedules", 1_000, "how many schedules the simulator runs")
	simSeed      = flag.Uint64("seed", 0, "run this schedule alone, 20 times")
)

// What all schedules share; making them takes longer than a schedule.
var (
	simKeyset *secrets.Keyset
	simGuard  *egress.Guard
	simSecret = signing.NewSecret()
	simShared = sync.OnceFunc(func() {
		serial, err := secrets.NewKeyset()
		if err == nil {
			simKeyset, err = secrets.ParseKeyset(serial)
		}
		if err == nil {
			simGuard, err = egress.New(egress.Config{})
		}
		if err != nil {
			panic(err)
		}
	})
)

const (
	// simBound is how long after the last fault all must be well again. Most is
	// in seconds, but an endpoint that does nothing but fail is asked only once in
	// five minutes until its deliveries are given up.
	simBound = 2 * time.Hour
	simPoll  = 250 * time.Millisecond
)

// draw draws what goes wrong in a schedule.
func draw(r *rand.Rand) (f simFaults) {
	odds := func(chance, most float64) float64 {
		if r.Float64() < chance {
			return most * r.Float64()
		}
		return 0
	}
	f = simFaults{
		fails: odds(0.4, 0.2), failsStored: odds(0.4, 0.2), slow: odds(0.15, 0.1), ackLost: odds(0.3, 0.3),
		reorder: odds(0.3, 0.5), repeat: odds(0.3, 0.3), receiver: odds(0.7, 0.8), lostFirst: odds(0.3, 0.5), stubborn: odds(0.1, 0.3),
	}
	if r.Float64() < 0.4 {
		f.crashes = 1 + r.IntN(3)
	}
	if r.Float64() < 0.2 {
		f.stops = 1 + r.IntN(2)
	}
	if r.Float64() < 0.3 {
		f.wipes = 1 + r.IntN(2)
	}
	f.stays = odds(0.15, 0.3)
	return f
}

// simulate runs one schedule and returns what was wrong at its end.
func simulate(t *testing.T, seed uint64, steps Schedule, broken sabotage) (failed []string) {
	synctest.Test(t, func(t *testing.T) {
		w := &simWorld{
			rnd: rand.NewPCG(seed, 1), store: newSimStore(), steps: steps, attempt: 200 * time.Millisecond, posts: make(map[uuid.UUID]*simPosts),
		}
		w.store.broken = broken
		w.bus = &simBus{simWorld: w, changed: make(chan struct{})}
		r := rand.New(w.rnd)
		w.faults = draw(r)
		w.run(r)
		failed = w.failed
	})
	return failed
}

// run is a schedule: deliveries come while processes, broker and store have
// their faults; then the faults end, and all must come out well.
func (w *simWorld) run(r *rand.Rand) {
	for range 1 + r.IntN(2) {
		if err := w.store.addEndpoint(r); err != nil {
			panic(err) // of a keyset that is sound
		}
	}
	deliveries := 1 + r.IntN(8)
	var acts []func()
	for range w.faults.crashes {
		acts = append(acts, func() { w.end(true) })
	}
	for range w.faults.stops {
		acts = append(acts, func() { w.end(false) })
	}
	for range w.faults.wipes {
		acts = append(acts, func() {
			w.mu.Lock()
			w.bus.wipe()
			w.mu.Unlock()
		})
	}
	for range deliveries {
		e := w.store.endpoints[r.IntN(len(w.store.endpoints))]
		acts = append(acts, func() { w.add(e) })
	}
	r.Shuffle(len(acts), func(i, j int) { acts[i], acts[j] = acts[j], acts[i] })
	pauses := make([]time.Duration, len(acts))
	for i := range pauses {
		pauses[i] = time.Duration(r.Float64() * float64(400*time.Millisecond))
	}

	for range 1 + r.IntN(2) {
		w.start()
	}
	for i, act := range acts {
		time.Sleep(pauses[i])
		act()
	}
	w.mu.Lock()
	w.calm = true
	w.mu.Unlock()
	calm := time.Now()
	lost := w.lost()
	for ; lost != "" && time.Since(calm) < simBound; lost = w.lost() {
		time.Sleep(simPoll)
	}
	for _, n := range w.nodes {
		n.stop()
		<-n.done
	}
	if lost != "" {
		w.fail("%s", lost)
	}
}

// addEndpoint registers an endpoint, perhaps with limits and a schedule of its own.
func (s *simStore) addEndpoint(r *rand.Rand) (err error) {
	e := &simEndpoint{id: uuid.Must(uuid.NewV7()), active: true}
	if r.Float64() < 0.2 {
		e.maxInFlight = 1
	}
	if r.Float64() < 0.1 {
		e.rate = 2
	}
	e.secret, err = simKeyset.Seal(e.id, []byte(simSecret))
	s.endpoints = append(s.endpoints, e)
	return err
}

// insert writes a delivery, due at once.
func (s *simStore) insert(d delivery.Delivery, body []byte) {
	s.events[d.EventID] = body
	row := &simDelivery{id: d.ID, eventID: d.EventID, endpointID: d.EndpointID, status: "pending", next: simNow()}
	i := 0
	for i < len(s.deliveries) && s.deliveries[i].id.String() < d.ID.String() {
		i++
	}
	s.deliveries = append(s.deliveries[:i:i], append([]*simDelivery{row}, s.deliveries[i:]...)...)
}

// short is a schedule of a few seconds, with one step that is longer than early:
// what comes before its time must wait.
var short = Schedule{2 * time.Second, 50 * time.Millisecond, 200 * time.Millisecond}

// TestSimulatedSchedules runs as many schedules as the flag says, each with other
// faults, and the invariants I1 to I4 of RELIABILITY.md hold in all. CI runs
// 100,000 (make faultsim).
func TestSimulatedSchedules(t *testing.T) {
	t.Parallel()
	simShared()
	if *simSeed != 0 {
		for range 20 {
			for _, what := range simulate(t, *simSeed, short, sound) {
				t.Error(what)
			}
		}
		return
	}
	begun := time.Now()
	var seed, failures atomic.Uint64
	for worker := range 2 {
		t.Run(fmt.Sprint("worker ", worker+1), func(t *testing.T) {
			t.Parallel()
			for n := seed.Add(1); n <= uint64(*simSchedules) && failures.Load() < 5; n = seed.Add(1) {
				if failed := simulate(t, n, short, sound); len(failed) > 0 {
					failures.Add(1)
					t.Errorf("seed %d (again: -run %s -seed %d):\n%s", n, "TestSimulatedSchedules", n, failed)
				}
			}
		})
	}
	t.Cleanup(func() { t.Logf("%d schedules in %s", *simSchedules, time.Since(begun).Round(time.Millisecond)) })
}

// The schedule of the settings: hours, in milliseconds.
func TestSimulatedHours(t *testing.T) {
	t.Parallel()
	simShared()
	for seed := uint64(1); seed <= 20; seed++ {
		for _, what := range simulate(t, seed, Schedule{30 * time.Second, 5 * time.Minute}, sound) {
			t.Errorf("seed %d: %s", seed, what)
		}
	}
}

// A simulator that finds nothing proves nothing: each thing that is broken on
// purpose is found within a number of schedules.
func TestSimulatorFindsWhatIsBroken(t *testing.T) {
	t.Parallel()
	simShared()
	const within = 3_000
	for _, broken := range []sabotage{
		claimsLeased, claimsDone, noLease, losesResults, forgetsFailures, leavesOpen, noSweeper, ignoresNotBefore,
	} {
		t.Run(string(broken), func(t *testing.T) {
			t.Parallel()
			for seed := uint64(1); seed <= within; seed++ {
				if failed := simulate(t, seed, short, broken); len(failed) > 0 {
					t.Logf("found by seed %d: %s", seed, failed[0])
					return
				}
			}
			t.Errorf("not found within %d schedules", within)
		})
	}
}
