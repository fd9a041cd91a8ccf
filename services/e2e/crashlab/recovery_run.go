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
			if res.parallel > 0 && sleep(ctx, time.Duration(i)*apart) != nil {
				return
			}
			s, err := l.openSlot(ctx)
			if err != nil {
				errs[i] = err
				return
			}
			for turn := range turns {
				if s.breakOnce(ctx, res, turn) {
					continue
				}
				if errs[i] = s.close(); errs[i] != nil || ctx.Err() != nil {
					return
				}
				if s, errs[i] = l.openSlot(ctx); errs[i] != nil {
					return
				}
			}
			errs[i] = s.close()
		})
	}
	slots.Wait()
	return errors.Join(errors.Join(errs...), context.Cause(ctx))
}

// breakOnce does a breakdown once and adds what came of it. If it could not be
// measured, the slot is no good any more.
func (s *slot) breakOnce(ctx context.Context, res *recovered, turn int) (measured bool) {
	name := fmt.Sprintf("%s-%d", strings.Map(letters, res.name), turn)
	r := &run{dir: filepath.Join(s.dir, name)}
	took, came, err := s.measure(ctx, r, res.breakdown, name)
	if r.stack != nil {
		r.stack.close()
	}
	if ctx.Err() != nil {
		return false
	}
	measured = err == nil
	switch {
	case err != nil || len(came.Violations) > 0:
		for _, v := range came.Violations[:min(len(came.Violations), shown)] {
			err = errors.Join(err, fmt.Errorf("%s: %s", v.Invariant, v.Text))
		}
		err = fmt.Errorf("%s, time %d: %w (kept: %s)", res.name, turn+1, err, r.dir)
	case !s.cfg.Keep:
		err = os.RemoveAll(r.dir)
	}
	res.mu.Lock()
	defer res.mu.Unlock()
	if err != nil {
		res.wrong = append(res.wrong, err)
	}
	if !measured {
		fmt.Printf("%s, time %d: could not be measured\n", res.name, turn+1)
		return false
	}
	fmt.Printf("%s, time %d: well again after %.1f s; accepted %d, lost %d, repeated %d\n",
		res.name, turn+1, took.Seconds(), came.Counts.Accepted, came.Counts.Lost, came.Counts.Repeated)
	res.took = append(res.took, took)
	res.counts.Accepted += came.Counts.Accepted
	res.counts.Posts += came.Counts.Posts
	res.counts.Lost += came.Counts.Lost
	res.counts.Repeated += came.Counts.Repeated
	return true
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
