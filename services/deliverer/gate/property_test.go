package gate

import (
	"testing"
	"time"

	"github.com/google/uuid"
	"pgregory.net/rapid"
)

// TestGateKeepsItsPromises drives a gate at random: each delivery comes out once,
// by whatever way; no limit is exceeded; and what may begin does.
func TestGateKeepsItsPromises(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		limits := Limits{
			InFlight:    rapid.IntRange(1, 20).Draw(t, "in flight"),
			PerEndpoint: rapid.IntRange(1, 5).Draw(t, "per endpoint"),
			Queued:      rapid.IntRange(1, 50).Draw(t, "queued"),
		}
		m := &model{bench: newBench(t, limits), in: make(map[int]int), parked: make(map[int][]int), claimed: make(map[int]int), posting: make(map[int][]int)}
		t.Repeat(map[string]func(*rapid.T){
			"offer":  m.offer,
			"next":   m.next,
			"begin":  m.beginOrDrop,
			"done":   m.end,
			"expire": func(*rapid.T) { m.expire() },
			"wait": func(t *rapid.T) {
				m.now = m.now.Add(time.Duration(rapid.Int64Range(0, int64(10*time.Second)).Draw(t, "wait")))
			},
			"": m.check,
		})
		m.finish(t)
	})
}

// A model knows where each delivery is: held, claimed, in flight or parked.
type model struct {
	*bench
	in      map[int]int   // held, delivery → endpoint
	parked  map[int][]int // by endpoint
	picked  []Pick[int]
	claimed map[int]int   // claimed and waiting in the gate, delivery → endpoint
	posting map[int][]int // by endpoint
}

func (m *model) offer(t *rapid.T) {
	e := rapid.IntRange(1, 5).Draw(t, "endpoint")
	m.n++
	a := m.g.Offer(m.now, id(e), rapid.IntRange(0, 1).Draw(t, "lane"), m.n)
	switch {
	case a.Full:
	case a.Reason != "":
		m.park(e, m.n)
	default:
		m.in[m.n] = e
	}
}

func (m *model) park(e, v int) {
	m.parked[e] = append(m.parked[e], v)
	m.g.HasParked(m.now, id(e))
}

func number(u uuid.UUID) int { return int(u[14])<<8 | int(u[15]) }

func (m *model) next(t *rapid.T) {
	m.take(rapid.IntRange(1, 30).Draw(t, "most"))
}

// take claims what the gate lets through; of draws, as much as is parked.
func (m *model) take(most int) {
	picks, draws, _ := m.g.Next(m.now, most)
	taken := len(picks)
	for _, p := range picks {
		m.leave(p.Delivery, number(p.EndpointID))
	}
	m.picked = append(m.picked, picks...)
	for _, d := range draws {
		taken += d.N
		e := number(d.EndpointID)
		n := min(d.N, len(m.parked[e]))
		for _, v := range m.parked[e][:n] {
			m.picked = append(m.picked, Pick[int]{d.EndpointID, v})
		}
		m.parked[e] = m.parked[e][n:]
		for range d.N - n {
			m.g.Drop(m.now, d.EndpointID)
		}
		m.g.Drawn(m.now, d.EndpointID, uuid.Max, n == d.N)
	}
	if taken > most {
		m.t.Fatalf("%d taken, asked for %d", taken, most)
	}
}

func (m *model) leave(v, e int) {
	if m.in[v] != e {
		m.t.Fatalf("delivery %d of endpoint %d came out, which is not held", v, e)
	}
	delete(m.in, v)
}

func (m *model) beginOrDrop(t *rapid.T) {
	if len(m.picked) == 0 {
		return
	}
	p := m.picked[0]
	m.picked = m.picked[1:]
	e := number(p.EndpointID)
	switch {
	case rapid.IntRange(0, 9).Draw(t, "claim refused") == 0:
		m.g.Drop(m.now, p.EndpointID)
	case m.g.Begin(m.now, p.EndpointID, p.Delivery):
		m.posting[e] = append(m.posting[e], p.Delivery)
	default:
		m.claimed[p.Delivery] = e
	}
}

func (m *model) end(t *rapid.T) {
	e := rapid.IntRange(1, 5).Draw(t, "endpoint")
	if len(m.posting[e]) == 0 {
		return
	}
	m.result(e, rapid.SampledFrom([]Result{success, success, failure, timeout, {Ignore: true}, {SlowDown: true, RetryAfter: 3 * time.Second}}).Draw(t, "result"))
}

func (m *model) result(e int, r Result) {
	m.posting[e] = m.posting[e][1:]
	for _, v := range m.g.Done(m.now, id(e), r) {
		if m.claimed[v] != e {
			m.t.Fatalf("delivery %d begun, which was not claimed", v)
		}
		delete(m.claimed, v)
		m.posting[e] = append(m.posting[e], v)
	}
}

func (m *model) expire() {
	for _, x := range m.g.Expire(m.now) {
		e := number(x.EndpointID)
		if x.Claimed {
			delete(m.claimed, x.Delivery)
		} else {
			m.leave(x.Delivery, e)
		}
		m.park(e, x.Delivery)
	}
}

func (m *model) check(t *rapid.T) {
	slots := len(m.picked) + len(m.claimed)
	for e, list := range m.posting {
		slots += len(list)
		if len(list) > m.g.limits.PerEndpoint {
			t.Fatalf("endpoint %d has %d attempts in flight, its cap is %d", e, len(list), m.g.limits.PerEndpoint)
		}
	}
	queued, inFlight := m.g.Held()
	if inFlight != slots || inFlight > m.g.limits.InFlight {
		t.Fatalf("the gate counts %d slots of %d, and %d are in use", inFlight, m.g.limits.InFlight, slots)
	}
	if queued != len(m.in) {
		t.Fatalf("the gate counts %d deliveries, and holds %d", queued, len(m.in))
	}
	unproven := 0
	for _, e := range m.g.endpoints {
		if !e.proven {
			unproven += e.slots()
		}
	}
	if unproven != m.g.unproven {
		t.Fatalf("the gate counts %d slots of the unproven, not %d", m.g.unproven, unproven)
	}
}

// finish lets everything succeed from now on: then nothing may stay behind.
func (m *model) finish(t *rapid.T) {
	for range 10_000 {
		left := len(m.in) + len(m.picked) + len(m.claimed)
		for e := 1; e <= 5; e++ {
			left += len(m.parked[e]) + len(m.posting[e])
			for len(m.posting[e]) > 0 {
				m.result(e, success)
			}
		}
		if left == 0 {
			return
		}
		m.now = m.now.Add(time.Second)
		m.expire()
		m.take(100)
		for _, p := range m.picked {
			if m.g.Begin(m.now, p.EndpointID, p.Delivery) {
				m.posting[number(p.EndpointID)] = append(m.posting[number(p.EndpointID)], p.Delivery)
			} else {
				m.claimed[p.Delivery] = number(p.EndpointID)
			}
		}
		m.picked = nil
	}
	t.Fatalf("left behind: held %v, claimed %v, parked %v", m.in, m.claimed, m.parked)
}
