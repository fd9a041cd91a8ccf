package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/cardwire/cardwire/services/e2e/crashlab/check"
)

// Numbers of a repetition.
const (
	// warmUp is how long the load runs before the fault.
	warmUp = 4 * time.Second
	// late is what I7 allows: what is due for longer waits for something that is broken.
	late = 5 * time.Second
	// coolDown is how long the load runs on once all seems well: longer than late, so
	// that what got stuck meanwhile is seen.
	coolDown = late + 2*time.Second
	// spare is how much longer than asked a recovery is waited for.
	spare = time.Minute
	// apart is how long one after the other stacks begin whose fault is long, so that
	// each recovers while the others wait.
	apart = 10 * time.Second
	// lightly is how many events are published per second where many stacks share the machine.
	lightly = 10
	// steadily is how many where they don't.
	steadily = 40
)

// A breakdown is a fault whose end is a moment: when what was broken is started
// again. Recovery is measured from there.
type breakdown struct {
	name     string
	cuts     bool          // see check.Fault
	asked    time.Duration // of the recovery, at p95
	parallel int           // stacks side by side; 0 is as --parallel says
	// does breaks something, calls ended as it is started again, and returns when
	// it runs.
	does func(ctx context.Context, s *stack, r *run, ended func()) error
}

// breakdowns are those whose recovery is promised. outage is how long the broker
// is down where it is for long.
func breakdowns(outage time.Duration) []breakdown {
	return []breakdown{
		{"broker killed", false, 10 * time.Second, 0, killedAndStarted(brokerName)},
		{fmt.Sprintf("broker down for %s", outage), false, 30 * time.Second, 10, func(ctx context.Context, s *stack, _ *run, ended func()) error {
			s.procs[brokerName].kill()
			select {
			case <-ctx.Done():
				return context.Cause(ctx)
			case <-time.After(outage):
			}
			ended()
			return s.procs[brokerName].startReady()
		}},
		{"broker's store wiped", false, time.Minute, 0, func(ctx context.Context, s *stack, r *run, ended func()) error {
			resume, err := s.caughtUp(ctx, r)
			if err != nil {
				return err
			}
			s.procs[brokerName].kill()
			resume()
			if err := os.RemoveAll(s.store()); err != nil {
				return err
			}
			ended()
			return s.procs[brokerName].startReady()
		}},
		{"PostgreSQL stopped at once", true, 15 * time.Second, 0, func(ctx context.Context, s *stack, _ *run, ended func()) error {
			if err := s.postgres.StopNow(); err != nil {
				return err
			}
			ended()
			return s.postgres.Restart(ctx)
		}},
		{"deliverer killed", true, lease + late, 0, killedAndStarted(deliverer1)},
	}
}

// killedAndStarted kills a process and starts it at once, as a supervisor does.
func killedAndStarted(name string) func(context.Context, *stack, *run, func()) error {
	return func(_ context.Context, s *stack, _ *run, ended func()) error {
		ended() // a kill is over as it happens
		s.procs[name].kill()
		return s.procs[name].startReady()
	}
}

// A recovered is what came of the repetitions of a breakdown.
type recovered struct {
	breakdown
	mu     sync.Mutex
	took   []time.Duration
	counts check.Counts
	wrong  []error
}

// recovery does each breakdown --times times and writes the table. The error
// says that one took longer than is asked, or broke an invariant.
func (l *lab) recovery(ctx context.Context) error {
	table := fmt.Sprintf(recoveryHead, l.cfg.Times, late, steadily, lightly, attemptTimeout, lease, late)
	var wrong []error
	for _, b := range breakdowns(l.cfg.Outage) {
		if l.cfg.Fault != "" && !strings.Contains(b.name, string(l.cfg.Fault)) {
			continue
		}
		res := &recovered{breakdown: b}
		if err := l.repeat(ctx, res); err != nil {
			return err
		}
		row, err := res.row()
		fmt.Print(row)
		table += row
		wrong = append(wrong, err)
	}
	return errors.Join(errors.Join(wrong...), l.writeTable("Recovery", table))
}

// recoveryHead says in the table what its figures are.
const recoveryHead = `How long the pipeline takes to be well again by itself, %d times each. The clock starts as what was broken is started again; for a kill that is the kill. It stops once

- all that was accepted before the clock started has been answered with success by every endpoint that wants it, and
- nothing waits for more than %s: no event accepted since (in the stream, in the outbox or as a delivery), and no delivery that is due in PostgreSQL.

Load goes on throughout: %d events/s in all three ways in (%d where ten stacks run side by side), to endpoints that are well. Attempts time out after %s, so
a lease is %s; asked of a deliverer's kill is a lease and %s. "lost" and "repeated" are the checker's.

| fault | asked at p95 | p50 | p95 | most | events | POSTs | lost | repeated |
|---|---|---|---|---|---|---|---|---|
`

// row is the line of the table, and what is wrong with it.
func (r *recovered) row() (string, error) {
	p50, p95, most := quantile(r.took, 0.5), quantile(r.took, 0.95), quantile(r.took, 1)
	row := fmt.Sprintf("| %s | %.0f s | %.1f s | %.1f s | %.1f s | %d | %d | %d | %d |\n",
		r.name, r.asked.Seconds(), p50.Seconds(), p95.Seconds(), most.Seconds(), r.counts.Accepted, r.counts.Posts, r.counts.Lost, r.counts.Repeated)
	wrong := r.wrong
	if p95 > r.asked {
		wrong = append(wrong, fmt.Errorf("%s: recovery takes %s at p95, asked is %s", r.name, p95, r.asked))
	}
	return row, errors.Join(wrong...)
}
