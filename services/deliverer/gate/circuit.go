package gate

import "time"

// State is what a circuit breaker is in.
type State string

// States of a circuit.
const (
	Closed   State = "closed"    // attempts are made
	Open     State = "open"      // none is made until a time
	HalfOpen State = "half_open" // one is made, to see
)

const (
	// tripAfter is how many failures in a row open a circuit. A timeout counts as
	// two: it costs a slot for as long as an attempt may take, where other
	// failures cost milliseconds.
	tripAfter = 5
	// firstPause is how long a circuit stays open at first: about what it takes
	// to restart a receiver. It doubles with each probe that fails, to maxPause,
	// which bounds how late an endpoint's recovery is noticed.
	firstPause = 5 * time.Second
	maxPause   = 5 * time.Minute
	// spread makes pauses up to that much longer, so that endpoints that failed
	// together are not probed together.
	spread = 0.1
)

// A circuit is the breaker of one endpoint.
type circuit struct {
	state    State
	reason   Reason // while it is not closed
	failures int    // in a row, while it is closed
	pause    time.Duration
	until    time.Time // while it is open
	probing  bool      // the one attempt of a half-open circuit is in flight
}

// admits says whether an attempt may begin at now. It turns an open circuit
// whose pause is over into a half-open one.
func (c *circuit) admits(now time.Time) bool {
	if c.state == Open && !now.Before(c.until) {
		c.state, c.probing = HalfOpen, false
	}
	return c.state == Closed || c.state == HalfOpen && !c.probing
}

// begin notes that an attempt begins, which admits allowed.
func (c *circuit) begin() { c.probing = c.state == HalfOpen }

// end notes what came of an attempt, or that it was not made.
func (c *circuit) end(r Result, now time.Time, rnd float64) {
	switch {
	case r.Ignore:
		c.probing = false
	case r.Success: // also one that began before the circuit opened: the endpoint lives
		*c = circuit{state: Closed}
	case r.RetryAfter > 0:
		// The receiver itself says until when. No reason to probe longer after that.
		if until := now.Add(r.RetryAfter); c.state != Open || until.After(c.until) {
			c.state, c.reason, c.until, c.probing = Open, Paused, until, false
		}
	case c.state == HalfOpen:
		c.open(now, rnd)
	case c.state == Closed:
		c.failures++
		if r.Timeout {
			c.failures++
		}
		if c.failures >= tripAfter {
			c.open(now, rnd)
		}
	}
}

func (c *circuit) open(now time.Time, rnd float64) {
	c.pause = min(max(firstPause, 2*c.pause), maxPause)
	c.state, c.reason, c.probing, c.failures = Open, CircuitOpen, false, 0
	c.until = now.Add(c.pause + time.Duration(spread*rnd*float64(c.pause)))
}
