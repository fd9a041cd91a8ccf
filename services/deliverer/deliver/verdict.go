package deliver

import (
	"math/rand/v2"
	"time"
)

// Reasons why a delivery ends as failed.
const (
	reasonExhausted = "exhausted"
	reasonRefused   = "refused_address"
	reasonDisabled  = "endpoint_disabled"
	reasonDeleted   = "endpoint_deleted"
)

// What a delivery waits for in PostgreSQL, without a message.
const (
	waitsRetryAfter = "retry_after" // its receiver asked for longer than the schedule says
	waitsSchedule   = "schedule"    // its endpoint's schedule has a step of its own
)

// maxEndpointPause bounds for how long a Retry-After stops all deliveries to an
// endpoint. The delivery that was answered so waits for as long as was asked.
const maxEndpointPause = time.Hour

// A verdict is what follows from an attempt.
type verdict struct {
	reason   string        // why no attempt follows a failure; empty if one does
	wait     time.Duration // until the next attempt
	step     time.Duration // the delay line to wait in
	waitsFor string        // why it waits in PostgreSQL and in no line; empty if in a line
}

// judge decides what follows from the response to an attempt of a delivery
// that failed a number of times before. lines are the steps that have a delay
// line: whatever else it waits for it waits in PostgreSQL. Retry-After lengthens a
// wait, up to 24 h, and never shortens it (Standard Webhooks, "Retry-After").
func judge(s Schedule, lines map[time.Duration]bool, failures int, r Response, rnd func() float64) verdict {
	if r.Success {
		return verdict{}
	}
	if r.Gone() {
		return verdict{reason: reasonDisabled}
	}
	v := verdict{}
	if r.Interrupted() { // ours: it does not spend the schedule
		v.step = time.Second
		if len(s) > 0 {
			v.step = s[0]
		}
		v.wait = v.step
	} else {
		var ok bool
		v.step, v.wait, ok = s.After(failures+1, rnd)
		switch {
		case ok:
		case r.Refused():
			return verdict{reason: reasonRefused}
		default:
			return verdict{reason: reasonExhausted}
		}
	}
	switch {
	case r.RetryAfter > v.wait:
		v.wait, v.waitsFor = r.RetryAfter, waitsRetryAfter
	case !lines[v.step]:
		v.waitsFor = waitsSchedule
	}
	return v
}

// judge is judge with the settings.
func (w *Worker) judge(r result) verdict {
	return judge(r.schedule, w.lines, r.Failures, r.Response, rand.Float64)
}
