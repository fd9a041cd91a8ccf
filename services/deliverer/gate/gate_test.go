package gate

import (
	"slices"
	"testing"
	"time"

	"github.com/google/uuid"
	"pgregory.net/rapid"
)

// A bench drives a gate of numbered deliveries by a clock of its own.
type bench struct {
	t   rapid.TB
	g   *Gate[int]
	now time.Time
	n   int
}

func newBench(t rapid.TB, l Limits) *bench {
	b := &bench{t: t, g: New[int](l), now: time.Date(2026, 8, 1, 0, 0, 0, 0, time.UTC)}
	b.g.random = func() float64 { return 0 }
	return b
}

var small = Limits{InFlight: 100, PerEndpoint: 10, Queued: 1000}

// id is an endpoint by number.
func id(n int) uuid.UUID { return uuid.UUID{15: byte(n), 14: byte(n >> 8)} }

func (b *bench) offer(endpoint, lane int) Answer {
	b.n++
	return b.g.Offer(b.now, id(endpoint), lane, b.n)
}

func (b *bench) offerN(endpoint, n int) {
	b.t.Helper()
	for range n {
		if a := b.offer(endpoint, First); a.Full || a.Reason != "" {
			b.t.Fatalf("not held: %+v", a)
		}
	}
}

// begin picks what there is, and begins it; it returns how many attempts began, by endpoint.
func (b *bench) begin() map[uuid.UUID]int {
	begun := make(map[uuid.UUID]int)
	picks, _, _ := b.g.Next(b.now, 1000)
	for _, p := range picks {
		if b.g.Begin(b.now, p.EndpointID, p.Delivery) {
			begun[p.EndpointID]++
		}
	}
	return begun
}

func (b *bench) done(endpoint int, r Result) int { return len(b.g.Done(b.now, id(endpoint), r)) }

var (
	success = Result{Success: true}
	failure = Result{}
	timeout = Result{Timeout: true}
)

// grow lets an endpoint succeed until its whole cap is in use.
func (b *bench) grow(endpoint, cap int) {
	for range cap {
		b.offerN(endpoint, 1)
		b.begin()
		b.done(endpoint, success)
	}
}

func TestAnEndpointGrowsIntoItsCapAndNotBeyond(t *testing.T) {
	t.Parallel()
	b := newBench(t, small)
	b.offerN(1, 100)
	if n := b.begin()[id(1)]; n != firstWindow {
		t.Errorf("%d attempts at first, want %d", n, firstWindow)
	}
	inFlight := firstWindow
	for range 50 {
		inFlight += b.done(1, success) - 1 + b.begin()[id(1)]
		if inFlight > 10 {
			t.Fatalf("%d attempts in flight with a cap of 10", inFlight)
		}
	}
	if inFlight != 10 {
		t.Errorf("%d attempts in flight after many successes, want 10", inFlight)
	}
}

func TestOwnersCapHolds(t *testing.T) {
	t.Parallel()
	b := newBench(t, small)
	b.g.Configure(b.now, id(1), 1, 0)
	b.offerN(1, 5)
	if n := b.begin()[id(1)]; n != 1 {
		t.Errorf("%d attempts in flight with a cap of 1", n)
	}
}

func TestABacklogOfOneDoesNotQueueBeforeAnother(t *testing.T) {
	t.Parallel()
	b := newBench(t, Limits{InFlight: 100, PerEndpoint: 10, Queued: 1000})
	b.offerN(1, 400)
	b.offerN(2, 1)
	picks, _, _ := b.g.Next(b.now, 2)
	if len(picks) != 2 || picks[0].EndpointID == picks[1].EndpointID {
		t.Errorf("picked %v, want one of each endpoint", picks)
	}
}

func TestFirstTriesAndRetriesOfAnEndpointTakeTurns(t *testing.T) {
	t.Parallel()
	b := newBench(t, small)
	b.g.Configure(b.now, id(1), 4, 0)
	b.grow(1, 4)
	for range 3 {
		b.offer(1, Again)
	}
	b.offer(1, First) // the last offered
	picks, _, _ := b.g.Next(b.now, 2)
	if !slices.ContainsFunc(picks, func(p Pick[int]) bool { return p.Delivery == b.n }) {
		t.Errorf("picked %v, not the first try %d", picks, b.n)
	}
}

// A receiver that answers in less time than a claim takes must not wait for claims.
func TestAFastEndpointIsClaimedAheadAndPostedWithinItsCap(t *testing.T) {
	t.Parallel()
	b := newBench(t, Limits{InFlight: 500, PerEndpoint: 10, Queued: 5000})
	b.grow(1, 10)
	for range 2000 {
		b.offerN(1, 1)
		b.begin()
		b.done(1, success)
	}
	b.offerN(1, 500)
	picks, _, _ := b.g.Next(b.now, 1000)
	if len(picks) != 10+2010/aheadPart {
		t.Errorf("claimed %d, want %d", len(picks), 10+2010/aheadPart)
	}
	begun := 0
	for _, p := range picks {
		if b.g.Begin(b.now, p.EndpointID, p.Delivery) {
			begun++
		}
	}
	if begun != 10 {
		t.Errorf("%d attempts in flight, want 10", begun)
	}
	if n := b.done(1, success); n != 1 {
		t.Errorf("%d attempts begun when one ended, want 1", n)
	}
	b.now = b.now.Add(hangsAfter + time.Second) // now it hangs
	claimed := 0
	for _, x := range b.g.Expire(b.now) {
		if x.Claimed {
			claimed++
		}
	}
	if want := len(picks) - 11; claimed != want {
		t.Errorf("%d claims given up, want %d", claimed, want)
	}
}

func TestCircuit(t *testing.T) {
	t.Parallel()
	b := newBench(t, small)
	fail := func(n int, r Result) {
		for range n {
			b.offerN(1, 1)
			if got := b.begin()[id(1)]; got != 1 {
				t.Fatalf("%d attempts, want 1", got)
			}
			b.done(1, r)
		}
	}
	state := func(want State) {
		t.Helper()
		changes := b.g.Changes()
		if len(changes) != 1 || changes[0].State != want {
			t.Fatalf("changes %v, want %s", changes, want)
		}
	}
	fail(4, failure)
	b.offerN(1, 1)
	b.begin()
	b.done(1, success) // in between: begins the count anew
	fail(5, failure)
	state(Open)
	if a := b.offer(1, First); a.Reason != CircuitOpen || !a.Until.Equal(b.now.Add(firstPause)) {
		t.Fatalf("answer %+v while it is open, want circuit_open for 5 s", a)
	}
	b.g.HasParked(b.now, id(1))
	if _, draws, next := b.g.Next(b.now, 10); len(draws) != 0 || !next.Equal(b.now.Add(firstPause)) {
		t.Fatalf("asks for %v and then at %v", draws, next)
	}
	for pause := firstPause; pause < 4*maxPause; pause *= 2 {
		b.now = b.now.Add(min(pause, maxPause))
		_, draws, _ := b.g.Next(b.now, 10)
		if len(draws) != 1 || draws[0].N != 1 {
			t.Fatalf("asks for %v after the pause, want one to probe with", draws)
		}
		b.n++
		b.g.Drawn(b.now, id(1), uuid.Max, true)
		b.offerN(1, 3)
		if picks, draws, _ := b.g.Next(b.now, 10); len(picks)+len(draws) != 0 {
			t.Fatalf("%v and %v beside the probe, want none", picks, draws)
		}
		if !b.g.Begin(b.now, id(1), b.n) {
			t.Fatal("the probe does not begin")
		}
		state(HalfOpen)
		b.done(1, failure)
		state(Open)
		for _, x := range b.g.Expire(b.now) {
			if x.Reason != CircuitOpen {
				t.Fatalf("parked for %s", x.Reason)
			}
		}
	}
	b.g.Drawn(b.now, id(1), uuid.Nil, false)
	b.now = b.now.Add(maxPause)
	b.offerN(1, 5)
	if n := b.begin()[id(1)]; n != 1 {
		t.Fatalf("%d attempts at once while half-open, want 1", n)
	}
	b.g.Changes()
	b.done(1, success)
	state(Closed)
	if n := b.begin()[id(1)]; n < 2 {
		t.Errorf("%d attempts once it is closed", n)
	}
}

func TestParkedDeliveriesTakeTurnsWithThoseThatAreHeld(t *testing.T) {
	t.Parallel()
	b := newBench(t, small)
	b.grow(1, 10)
	b.g.HasParked(b.now, id(1))
	b.offerN(1, 10)
	picks, draws, _ := b.g.Next(b.now, 1000)
	if len(picks) != 5 || len(draws) != 1 || draws[0].N != 5 {
		t.Errorf("%d of those that are held, and %v", len(picks), draws)
	}
}

func TestADrawGoesOnWhereTheLastOneEnded(t *testing.T) {
	t.Parallel()
	b := newBench(t, small)
	draw := func() uuid.UUID {
		t.Helper()
		_, draws, _ := b.g.Next(b.now, 1)
		if len(draws) != 1 {
			t.Fatalf("draws %v, want one", draws)
		}
		b.g.Drop(b.now, id(1))
		return draws[0].After
	}
	b.g.HasParked(b.now, id(1))
	first := draw()
	b.g.Drawn(b.now, id(1), id(7), true)
	second := draw()
	b.g.HasParked(b.now, id(1)) // perhaps older ones
	third := draw()
	b.g.Drawn(b.now, id(1), id(8), true)
	b.now = b.now.Add(drawAnew + 1)
	fourth := draw()
	if want := []uuid.UUID{uuid.Nil, id(7), uuid.Nil, uuid.Nil}; !slices.Equal([]uuid.UUID{first, second, third, fourth}, want) {
		t.Errorf("drawn after %v, %v, %v and %v, want %v", first, second, third, fourth, want)
	}
	b.g.Drawn(b.now, id(1), uuid.Nil, false)
	if _, draws, _ := b.g.Next(b.now, 1); len(draws) != 0 {
		t.Errorf("draws %v when nothing is parked any more", draws)
	}
}

func TestADrawThatFindsNothingSpendsNoRate(t *testing.T) {
	t.Parallel()
	b := newBench(t, small)
	b.g.Configure(b.now, id(1), 10, 5)
	b.grow(1, 4)
	b.now = b.now.Add(time.Second)
	b.g.HasParked(b.now, id(1))
	_, draws, _ := b.g.Next(b.now, 100)
	for range draws[0].N {
		b.g.Drop(b.now, id(1))
	}
	b.g.Drawn(b.now, id(1), uuid.Nil, false)
	b.offerN(1, 10)
	if n := b.begin()[id(1)]; n != 5 {
		t.Errorf("%d attempts begun in a second whose rate is 5", n)
	}
}

func TestThreeTimeoutsOpenACircuit(t *testing.T) {
	t.Parallel()
	b := newBench(t, small)
	for range 3 {
		b.offerN(1, 1)
		b.begin()
		b.done(1, timeout)
	}
	if a := b.offer(1, First); a.Reason != CircuitOpen {
		t.Errorf("answer %+v, want circuit_open", a)
	}
}

func TestWhatWasCutOffByUsDoesNotCount(t *testing.T) {
	t.Parallel()
	b := newBench(t, small)
	for range 20 {
		b.offerN(1, 1)
		b.begin()
		b.done(1, Result{Ignore: true})
	}
	b.offerN(1, 1)
}

func TestRetryAfterPausesTheEndpoint(t *testing.T) {
	t.Parallel()
	b := newBench(t, small)
	b.offerN(1, 1)
	b.begin()
	b.done(1, Result{SlowDown: true, RetryAfter: time.Minute})
	if a := b.offer(1, First); a.Reason != Paused || !a.Until.Equal(b.now.Add(time.Minute)) {
		t.Errorf("answer %+v, want paused for a minute", a)
	}
	b.now = b.now.Add(time.Minute)
	b.offerN(1, 2)
	if n := b.begin()[id(1)]; n != 1 {
		t.Errorf("%d attempts after the pause, want 1 to see", n)
	}
}

func TestRateLimit(t *testing.T) {
	t.Parallel()
	b := newBench(t, small)
	b.grow(1, 10)
	b.g.Configure(b.now, id(1), 0, 3)
	b.offerN(1, 100)
	begun := 0
	for range 10 * 10 { // ten seconds
		n := b.begin()[id(1)]
		for range n {
			begun++
			begun += b.done(1, success)
		}
		b.now = b.now.Add(100 * time.Millisecond)
	}
	if most := 3 + 3*10; begun > most || begun < most-3 {
		t.Errorf("%d attempts in 10 s, want 3 at once and 3 a second", begun)
	}
	b.g.Configure(b.now, id(1), 0, 1)
	b.begin()
	_, _, next := b.g.Next(b.now, 10)
	if next.IsZero() || next.Sub(b.now) > time.Second+time.Millisecond {
		t.Errorf("next at %v, want within a second", next)
	}
	b.now = b.now.Add(10 * time.Millisecond)
	for _, x := range b.g.Expire(b.now) {
		if x.Reason != RateLimited {
			t.Errorf("parked for %s, want rate_limited", x.Reason)
		}
	}
}

func TestEndpointsThatNeverAnsweredLeaveAQuarterToTheOthers(t *testing.T) {
	t.Parallel()
	b := newBench(t, small)
	b.grow(1, 10)
	for n := 2; n < 200; n++ {
		b.offerN(n, 2)
	}
	total := 0
	for _, n := range b.begin() {
		total += n
	}
	if total != 75 {
		t.Errorf("%d attempts to endpoints that never answered, want 75 of 100", total)
	}
	b.offerN(1, 20)
	if n := b.begin()[id(1)]; n < 10 {
		t.Errorf("%d attempts to the one that answers, want at least 10", n)
	}
	b.done(2, success) // makes room, and is proven
	if n := b.begin(); len(n) == 0 {
		t.Error("nobody got the slot that was freed")
	}
}

func TestAnEndpointThatHangsNoLongerCountsAsOneThatAnswers(t *testing.T) {
	t.Parallel()
	b := newBench(t, small)
	for n := 1; n <= 8; n++ {
		b.grow(n, 10)
		b.offerN(n, 10)
	}
	b.begin() // 80 in flight, and all hang
	b.now = b.now.Add(hangsAfter + time.Millisecond)
	b.g.Expire(b.now)
	b.offerN(9, 1)
	if n := b.begin()[id(9)]; n != 0 {
		t.Error("a slot for one that never answered, though those that don't hold three quarters")
	}
	b.g.prove(b.g.endpoints[id(9)], true)
	b.g.consider(b.g.endpoints[id(9)], b.now)
	if n := b.begin()[id(9)]; n != 1 {
		t.Error("no slot for one that answers")
	}
}

func TestAFullGateParksWhatCannotBeginAndHoldsTheRest(t *testing.T) {
	t.Parallel()
	b := newBench(t, Limits{InFlight: 4, PerEndpoint: 2, Queued: 10})
	b.grow(1, 2)
	b.offerN(1, 2)
	b.begin() // at its cap
	var last Answer
	held := 0
	for last.Reason == "" && !last.Full && held < 100 {
		if last = b.offer(1, First); last.Reason == "" {
			held++
		}
	}
	if last.Reason != AtCapacity || last.Full || held > 10 {
		t.Fatalf("held %d, then %+v; want at_capacity within 10", held, last)
	}
	for n := 2; ; n++ {
		if a := b.offer(n, First); a.Full {
			break
		} else if a.Reason != "" || n > 20 {
			t.Fatalf("endpoint %d, which may begin: %+v", n, a)
		}
	}
}

func TestWhatWaitsForLongIsParked(t *testing.T) {
	t.Parallel()
	b := newBench(t, small)
	b.offerN(1, 5)
	b.begin()
	if list := b.g.Expire(b.now.Add(parkAfter)); len(list) != 0 {
		t.Fatalf("parked %d too early", len(list))
	}
	list := b.g.Expire(b.now.Add(parkAfter + time.Millisecond))
	if len(list) != 3 || list[0].Reason != AtCapacity || list[0].Claimed {
		t.Errorf("parked %+v, want the 3 that wait", list)
	}
}

func TestCircuitsThatWereOpenStayOpen(t *testing.T) {
	t.Parallel()
	b := newBench(t, small)
	b.g.Open(b.now, id(1), Paused, b.now.Add(time.Minute))
	if a := b.offer(1, First); a.Reason != Paused {
		t.Errorf("answer %+v, want paused", a)
	}
}

func TestAProbeIsMadeThoughTheCircuitIsOpen(t *testing.T) {
	t.Parallel()
	b := newBench(t, small)
	b.g.Open(b.now, id(1), CircuitOpen, b.now.Add(time.Minute))
	b.g.Probe(b.now, id(1))
	b.offerN(1, 2)
	if n := b.begin()[id(1)]; n != 1 {
		t.Fatalf("%d attempts, want 1", n)
	}
	b.done(1, failure)
	if a := b.offer(1, First); a.Reason != CircuitOpen {
		t.Errorf("answer %+v after the probe failed, want circuit_open", a)
	}
}

func TestWhatIsIdleIsForgotten(t *testing.T) {
	t.Parallel()
	b := newBench(t, small)
	b.grow(1, 3)
	b.g.Expire(b.now.Add(forgetAfter + time.Second))
	if n := len(b.g.endpoints); n != 0 {
		t.Errorf("%d endpoints remembered", n)
	}
}
