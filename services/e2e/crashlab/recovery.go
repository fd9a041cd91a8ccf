package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/cardwire/cardwire/services/e2e/crashlab/check"
	"github.com/cardwire/cardwire/sql/db"
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

// quantile is the least of times that a share q of them does not exceed; 0 of none.
func quantile(times []time.Duration, q float64) time.Duration {
	if len(times) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(times))
	at := 0
	for at < len(sorted)-1 && float64(at+1) < q*float64(len(sorted)) {
		at++
	}
	return sorted[at]
}

// repeat does a breakdown as often as asked, some side by side.
func (l *lab) repeat(ctx context.Context, res *recovered) error {
	parallel := res.parallel
	if parallel == 0 {
		parallel = l.cfg.Parallel
	}
	turns := make(chan int, l.cfg.Times)
	for i := range l.cfg.Times {
		turns <- i
	}
	close(turns)
	var slots sync.WaitGroup
	errs := make([]error, min(parallel, l.cfg.Times))
	for i := range errs {
		slots.Go(func() {
			s, err := l.openSlot(ctx)
			if err != nil {
				errs[i] = err
				return
			}
			for turn := range turns {
				s.breakOnce(ctx, res, turn)
			}
			errs[i] = s.postgres.Close()
		})
	}
	slots.Wait()
	return errors.Join(errors.Join(errs...), context.Cause(ctx))
}

// breakOnce does a breakdown once and adds what came of it.
func (s *slot) breakOnce(ctx context.Context, res *recovered, turn int) {
	name := fmt.Sprintf("%s-%d", strings.Map(letters, res.name), turn)
	r := &run{dir: filepath.Join(s.dir, name)}
	took, came, err := s.measure(ctx, r, res.breakdown, name)
	if r.stack != nil {
		r.stack.close()
	}
	if ctx.Err() != nil {
		return
	}
	switch {
	case err != nil || len(came.Violations) > 0:
		for _, v := range came.Violations {
			err = errors.Join(err, fmt.Errorf("%s: %s", v.Invariant, v.Text))
		}
		err = fmt.Errorf("%s, time %d: %w (kept: %s)", res.name, turn+1, err, r.dir)
	case !s.cfg.Keep:
		err = os.RemoveAll(r.dir)
	}
	res.mu.Lock()
	defer res.mu.Unlock()
	fmt.Printf("%s, time %d: well again after %.1f s; accepted %d, lost %d, repeated %d\n",
		res.name, turn+1, took.Seconds(), came.Counts.Accepted, came.Counts.Lost, came.Counts.Repeated)
	res.took = append(res.took, took)
	res.counts.Accepted += came.Counts.Accepted
	res.counts.Posts += came.Counts.Posts
	res.counts.Lost += came.Counts.Lost
	res.counts.Repeated += came.Counts.Repeated
	if err != nil {
		res.wrong = append(res.wrong, err)
	}
}

// letters leaves of a name what a directory and a database may be called.
func letters(r rune) rune {
	if r >= 'a' && r <= 'z' || r >= '0' && r <= '9' {
		return r
	}
	return -1
}

// measure breaks a fresh stack under load, and has the checker judge the whole.
func (s *slot) measure(ctx context.Context, r *run, b breakdown, name string) (took time.Duration, came result, err error) {
	if err := os.Mkdir(r.dir, 0o755); err != nil {
		return 0, came, fmt.Errorf("make directory: %w", err)
	}
	if r.stack, err = s.open(ctx, r.dir, name, nil); err != nil {
		return 0, came, err
	}
	if err := r.openWell(ctx); err != nil {
		return 0, came, err
	}
	rate := steadily
	if b.parallel > 0 {
		rate = lightly
	}
	stop := r.publisher.steadily(ctx, rate)
	defer stop()
	dues := r.watchDue(ctx)
	defer dues.stop()
	if err := sleep(ctx, warmUp); err != nil {
		return 0, came, err
	}
	var ended time.Time
	line := check.Fault{Name: b.name, Cuts: b.cuts, From: time.Now()}
	if err := b.does(ctx, r.stack, r, func() { ended = time.Now() }); err != nil {
		return 0, came, fmt.Errorf("%s: %w", b.name, err)
	}
	line.To = time.Now()
	r.faulted.Write(line)
	wrong, err := r.awaitReceived(ctx, ended, b.asked+spare)
	if err != nil {
		return 0, came, err
	}
	if err := sleep(ctx, coolDown); err != nil {
		return 0, came, err
	}
	stop()
	accepted, err := r.acceptedEvents()
	if err != nil {
		return 0, came, err
	}
	if err := r.stack.awaitQuiet(ctx, accepted, s.cfg.Quiet); err != nil {
		wrong = append(wrong, err)
	}
	dues.stop()
	r.receiver.close()
	if err := r.judge(ctx, &came, wrong); err != nil {
		return 0, came, err
	}
	published, err1 := check.ReadJournal[check.Published](r.journal("published"))
	received, err2 := check.ReadJournal[check.Received](r.journal("received"))
	took = max(wellAgain(ended, r.pairs(published), received), dues.last.Sub(ended), 0)
	return took, came, errors.Join(err1, err2)
}

// openWell opens what is never broken: journals, receiver and publisher, with
// two endpoints of each user, which are well.
func (r *run) openWell(ctx context.Context) error {
	if err := r.openJournals(); err != nil {
		return err
	}
	var owners []uuid.UUID
	for range users {
		owner := uuid.Must(uuid.NewV7())
		owners = append(owners, owner)
		for range 2 {
			t, err := newTarget(owner, well, common, viewed, rare)
			if err != nil {
				return err
			}
			r.targets = append(r.targets, t)
		}
	}
	return r.openReceiver(ctx, owners)
}

// mostAtOnce bounds the publishes under way: while the broker is away each goes on for a while.
const mostAtOnce = 256

// steadily publishes perSecond until stop is called, which returns when no
// publish is under way any more.
func (p *publisher) steadily(ctx context.Context, perSecond int) (stop func()) {
	done := make(chan struct{})
	var running sync.WaitGroup
	running.Go(func() {
		tick := time.NewTicker(time.Second / time.Duration(perSecond))
		defer tick.Stop()
		room := make(chan struct{}, mostAtOnce)
		rnd := rand.New(rand.NewPCG(1, 4))
		for i := 0; ; i++ {
			select {
			case <-done:
				return
			case <-tick.C:
			}
			user, dice := p.users[rnd.IntN(len(p.users))], rnd.Float64()
			room <- struct{}{}
			running.Go(func() {
				defer func() { <-room }()
				p.paused.RLock()
				defer p.paused.RUnlock()
				p.one(ctx, i, user, dice)
			})
		}
	})
	return sync.OnceFunc(func() { close(done); running.Wait() })
}

func sleep(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-time.After(d):
		return nil
	}
}

// A due is an accepted event that an endpoint is to get.
type due struct {
	event, endpoint uuid.UUID
	since           time.Time // accepted
}

// pairs are what each endpoint is to get of what was accepted. An event that was
// published again counts from its first acceptance.
func (r *run) pairs(published []check.Published) (all []due) {
	seen := make(map[uuid.UUID]bool)
	for _, p := range published {
		if p.State != check.Accepted || seen[p.EventID] {
			continue
		}
		seen[p.EventID] = true
		for _, t := range r.targets {
			if t.user == p.UserID && slices.Contains(t.types, p.Type) {
				all = append(all, due{p.EventID, t.id, p.At})
			}
		}
	}
	return all
}

// wellAgain is how long after a fault's end the last pair waited that had been
// accepted before it, or waited for longer than late. What never came waits for
// the checker to object.
func wellAgain(ended time.Time, pairs []due, received []check.Received) (took time.Duration) {
	first := make(map[[2]uuid.UUID]time.Time, len(received))
	for _, r := range received {
		key := [2]uuid.UUID{r.EventID, r.EndpointID}
		if at, ok := first[key]; r.Status/100 == 2 && (!ok || r.Answered.Before(at)) {
			first[key] = r.Answered
		}
	}
	for _, p := range pairs {
		at, ok := first[[2]uuid.UUID{p.event, p.endpoint}]
		if ok && (p.since.Before(ended) || at.Sub(p.since) > late) {
			took = max(took, at.Sub(ended))
		}
	}
	return took
}

// settled is how long after an acceptance it is in the journal or the service's log.
const settled = time.Second

// awaitReceived waits until the endpoints have all that was accepted before a
// time, while load goes on. wrong says that they have not within limit.
func (r *run) awaitReceived(ctx context.Context, before time.Time, limit time.Duration) (wrong []error, err error) {
	if err := sleep(ctx, time.Until(before.Add(settled))); err != nil {
		return nil, err
	}
	published, err1 := check.ReadJournal[check.Published](r.journal("published"))
	pages, err2 := r.pagesAccepted()
	if err := errors.Join(err1, err2); err != nil {
		return nil, err
	}
	missing := slices.DeleteFunc(r.pairs(append(published, pages...)), func(d due) bool { return !d.since.Before(before) })
	for end := time.Now().Add(limit); ; {
		r.receiver.mu.Lock()
		missing = slices.DeleteFunc(missing, func(d due) bool { return r.receiver.seen[[2]uuid.UUID{d.event, d.endpoint}] > 0 })
		r.receiver.mu.Unlock()
		switch {
		case len(missing) == 0:
			return nil, nil
		case time.Now().After(end):
			return []error{fmt.Errorf("%d deliveries of events accepted before the fault had ended were not made within %s", len(missing), limit)}, nil
		}
		if err := sleep(ctx, quietPoll); err != nil {
			return nil, err
		}
	}
}

// A dueWatch looks at PostgreSQL's oldest due delivery, again and again.
type dueWatch struct {
	last time.Time // when one was due for longer than late; valid once stopped
	stop func()
}

func (r *run) watchDue(ctx context.Context) *dueWatch {
	ctx, cancel := context.WithCancel(ctx)
	w := &dueWatch{}
	var running sync.WaitGroup
	w.stop = func() { cancel(); running.Wait() }
	queries := db.New(r.stack.admin)
	running.Go(func() {
		for sleep(ctx, quietPoll) == nil {
			if age, err := queries.OldestDueDelivery(ctx); err == nil && age > late.Seconds() {
				w.last = time.Now()
			}
		}
	})
	return w
}
