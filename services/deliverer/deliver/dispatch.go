package deliver

import (
	"context"
	"errors"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/cardwire/cardwire/services/deliverer/gate"
	"github.com/cardwire/cardwire/services/internal/retry"
)

// idle is how long the dispatcher sleeps at most when nothing wakes it.
const idle = time.Second

// dispatch claims what the gate lets through and starts the attempts, until ctx
// ends and all of them have ended.
func (w *Worker) dispatch(ctx context.Context, results chan<- result) {
	var running sync.WaitGroup
	defer running.Wait()
	defer func() { w.giveBack(context.WithoutCancel(ctx)) }() // first, so that no attempt is begun any more
	for ctx.Err() == nil {
		picks, draws, next := w.gate.Next(w.now(), claimBatch)
		begin := func(work []*item) {
			now := w.now()
			for _, it := range work {
				if w.gate.Begin(now, it.EndpointID, it) {
					running.Go(func() { w.work(context.WithoutCancel(ctx), it, &running, results) })
				}
			}
		}
		if len(picks) > 0 {
			w.start(ctx, picks, begin)
		}
		if len(draws) > 0 {
			w.draw(ctx, draws, &running, begin)
		}
		if len(picks)+len(draws) > 0 {
			continue
		}
		pause := idle
		if !next.IsZero() {
			pause = min(pause, max(next.Sub(w.now()), 0))
		}
		timer := time.NewTimer(pause)
		select {
		case <-ctx.Done():
		case <-w.gate.Wake():
		case <-timer.C:
		}
		timer.Stop()
	}
}

// start claims deliveries and begins their attempts, those that their endpoint's
// cap allows at once, the others as it does.
func (w *Worker) start(ctx context.Context, picks []gate.Pick[*item], begin func([]*item)) {
	items := make(map[uuid.UUID]*item, len(picks))
	for _, p := range picks {
		w.held.remove(p.Delivery)
		items[p.Delivery.delivery.ID] = p.Delivery
	}
	work, err := w.prepare(ctx, items)
	begin(work)
	for _, it := range work {
		delete(items, it.DeliveryID)
	}
	now := w.now()
	for _, it := range items { // not to be attempted
		w.gate.Drop(now, it.delivery.EndpointID)
		if err == nil {
			w.ack(it)
		} else {
			it.leave()
		}
	}
}

// prepare claims items. It waits while PostgreSQL is away, until ctx ends. With
// an error nothing is to be attempted, and no message to be acked: they come again.
// A claim whose answer did not come may have been made: it is undone before the next one.
func (w *Worker) prepare(ctx context.Context, items map[uuid.UUID]*item) (work []*item, err error) {
	finish := context.WithoutCancel(ctx) // what was begun is finished
	var doubtful []*item
	err = retry.Until(ctx, w.log, "PostgreSQL to claim deliveries", func(context.Context) (err error) {
		if w.unsettled.Load() {
			return errUnsettled
		}
		if err := w.unclaim(finish, doubtful); err != nil {
			return err
		}
		doubtful = slices.Collect(maps.Values(items))
		work, err = w.claim(finish, items)
		return err
	})
	if err != nil {
		return nil, err
	}
	if err := w.inTime(work); err != nil {
		w.letGo(finish, work)
		return nil, err
	}
	return work, nil
}

// errUnsettled says why nothing is claimed.
var errUnsettled = errors.New("results are to be taken first")

// inTime objects to claims that took so long that an attempt could outlast its
// lease. They are not to be attempted.
func (w *Worker) inTime(work []*item) error {
	if len(work) == 0 || w.now().Sub(work[0].claim.begun) <= leaseMargin/2 {
		return nil
	}
	w.log.Error().Int("deliveries", len(work)).Msg("claimed deliveries given up: claiming took too long")
	return errors.New("claiming took so long that an attempt could outlast its lease")
}

// work makes an attempt, and then those of the same endpoint that it made way for.
func (w *Worker) work(ctx context.Context, it *item, running *sync.WaitGroup, results chan<- result) {
	for it != nil {
		r := w.attempt(ctx, it)
		results <- r
		begun := w.gate.Done(w.now(), it.EndpointID, gate.Result{
			Success: r.Success, Ignore: r.Interrupted() || r.Class == classUnsendable,
			Timeout: r.Class == classTimeout, SlowDown: r.SlowDown(), RetryAfter: min(r.RetryAfter, maxEndpointPause),
		})
		it = nil
		for i, other := range begun {
			if i == 0 {
				it = other
				continue
			}
			running.Go(func() { w.work(ctx, other, running, results) })
		}
	}
}
