package deliver

import (
	"fmt"
	"strings"
	"time"

	"github.com/cardwire/cardwire/events/streams"
)

// jitter is how much longer than its step a wait may be, so that deliveries
// that failed together do not come back together.
const jitter = 0.1

// Limits of a schedule.
const (
	maxSteps = 20
	minStep  = 10 * time.Millisecond // shorter ones are for tests; a receiver wants seconds
)

// A Schedule is the pauses after the first, second, … failure of a delivery. A
// delivery has one attempt more than its schedule has steps. As text it is
// durations separated by commas: "30s,5m,30m".
type Schedule []time.Duration

// UnmarshalText reads the text form; an empty text is the schedule without retries.
func (s *Schedule) UnmarshalText(text []byte) error {
	*s = nil
	if len(text) == 0 {
		return nil
	}
	for part := range strings.SplitSeq(string(text), ",") {
		d, err := time.ParseDuration(strings.TrimSpace(part))
		if err != nil {
			return fmt.Errorf("%q is no duration such as 30s or 5m", part)
		}
		if d < minStep || d > streams.MaxStep || d%time.Millisecond != 0 {
			return fmt.Errorf("a step must be %s to %s in whole milliseconds, not %s", minStep, streams.MaxStep, d)
		}
		*s = append(*s, d)
	}
	if len(*s) > maxSteps {
		return fmt.Errorf("at most %d steps, not %d", maxSteps, len(*s))
	}
	return nil
}

// After returns what follows the n-th failure of a delivery (n from 1): the step
// whose delay line it waits in and the wait, which is the step with up to +10 %
// jitter. ok is false once the schedule is spent. rnd returns a number in [0, 1).
func (s Schedule) After(n int, rnd func() float64) (step, wait time.Duration, ok bool) {
	if n < 1 || n > len(s) {
		return 0, 0, false
	}
	step = s[n-1]
	return step, step + time.Duration(jitter*rnd()*float64(step)), true
}

// Steps lists the different steps, each of which has a delay line.
func (s Schedule) Steps() []time.Duration {
	seen := make(map[time.Duration]bool)
	var steps []time.Duration
	for _, d := range s {
		if !seen[d] {
			seen[d] = true
			steps = append(steps, d)
		}
	}
	return steps
}
