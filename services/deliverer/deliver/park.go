package deliver

import (
	"context"
	"fmt"
	"time"

	"github.com/google/uuid"

	"github.com/cardwire/cardwire/services/deliverer/gate"
	"github.com/cardwire/cardwire/services/internal/delivery"
	"github.com/cardwire/cardwire/services/internal/retry"
	"github.com/cardwire/cardwire/sql/db"
)

const (
	// watchInterval is how often the gate is looked through for what it should
	// no longer hold, and changed circuits are noted.
	watchInterval = 200 * time.Millisecond
	// readyInterval is how often PostgreSQL is asked what is parked and may go on:
	// by other replicas, or before this one began.
	readyInterval = time.Second
	// surveyInterval is how often that is not taken from the notes, but from the
	// deliveries themselves.
	surveyInterval = 10 * time.Minute
	// maxReady bounds the endpoints of one such answer.
	maxReady = 10_000
)

// A parking is an item that is to wait in PostgreSQL, without a message.
type parking struct {
	*item
	reason gate.Reason
	until  time.Time
}

// park parks items and acks their messages. It waits while PostgreSQL is away,
// until ctx ends: then their messages come again.
func (w *Worker) park(ctx context.Context, list []parking) {
	if len(list) == 0 {
		return
	}
	p := db.ParkDeliveriesParams{Early: early.Seconds()}
	noted := make(map[uuid.UUID]bool)
	now := w.now()
	for _, it := range list {
		p.Ids = append(p.Ids, it.delivery.ID)
		p.Reasons = append(p.Reasons, string(it.reason))
		if id := it.delivery.EndpointID; !noted[id] {
			noted[id] = true
			p.EndpointIds = append(p.EndpointIds, id)
			p.EndpointReasons = append(p.EndpointReasons, string(it.reason))
			p.Waits = append(p.Waits, it.until.Sub(now).Seconds())
		}
	}
	p.Low, p.High = delivery.Bounds(p.Ids)
	err := retry.Until(ctx, w.log, "PostgreSQL to park deliveries", func(ctx context.Context) error {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), queryTimeout)
		defer cancel()
		return w.queries.ParkDeliveries(ctx, p)
	})
	if err != nil {
		return
	}
	for _, it := range list {
		w.ack(it.item)
	}
	now = w.now()
	for id := range noted {
		w.gate.HasParked(now, id)
	}
	w.log.Debug().Int("deliveries", len(list)).Int("endpoints", len(noted)).Msg("deliveries parked")
}

// watch parks what the gate held for too long, notes circuits that changed, and
// asks what is parked and may go on, until ctx ends.
func (w *Worker) watch(ctx context.Context) {
	var asked, surveyed time.Time
	for retry.Sleep(ctx, watchInterval) == nil {
		w.expire(ctx)
		w.noteCircuits(ctx)
		now := time.Now()
		if now.Sub(asked) < readyInterval {
			continue
		}
		asked = now
		w.askClosed(ctx)
		w.askReady(ctx, now.Sub(surveyed) >= surveyInterval)
		if now.Sub(surveyed) >= surveyInterval {
			surveyed = now
		}
		w.endPending(ctx)
	}
}

func (w *Worker) expire(ctx context.Context) {
	var list []parking
	var claimed []*item
	for _, x := range w.gate.Expire(w.now()) {
		if x.Claimed {
			claimed = append(claimed, x.Delivery)
		} else {
			w.held.remove(x.Delivery)
		}
		list = append(list, parking{x.Delivery, x.Reason, x.Until})
	}
	w.letGo(ctx, claimed)
	w.park(ctx, list)
}

// unclaim undoes the claims, those that were made, of items whose attempts were not
// begun. A claim as old as its lease stays: somebody else may be at the delivery, by
// a version that writes no claim_id.
func (w *Worker) unclaim(ctx context.Context, list []*item) error {
	var p db.UnclaimDeliveriesParams
	for _, it := range list {
		if w.now().Sub(it.claim.begun) < w.lease() {
			p.Ids = append(p.Ids, it.delivery.ID)
			p.ClaimIds = append(p.ClaimIds, it.claim.id)
		}
	}
	if len(p.Ids) == 0 {
		return nil
	}
	p.Low, p.High = delivery.Bounds(p.Ids)
	ctx, cancel := context.WithTimeout(ctx, queryTimeout)
	defer cancel()
	if err := w.queries.UnclaimDeliveries(ctx, p); err != nil {
		return fmt.Errorf("undo %d claims: %w", len(p.Ids), err)
	}
	return nil
}

// letGo is unclaim, once: if that fails, the leases run out.
func (w *Worker) letGo(ctx context.Context, list []*item) {
	if err := w.unclaim(ctx, list); err != nil {
		w.log.Warn().Err(err).Msg("claims not undone; their leases run out")
	}
}

// giveBack lets go of what is held, for other replicas to have at once: by its
// message, or parked.
func (w *Worker) giveBack(ctx context.Context) {
	offered, claimed := w.gate.Drain()
	w.letGo(ctx, claimed)
	ctx, cancel := context.WithTimeout(ctx, queryTimeout)
	defer cancel()
	var park []parking
	for _, it := range append(offered, claimed...) {
		if it.msg != nil {
			w.sent(it.msg.Nak())
		} else {
			park = append(park, parking{it, gate.AtCapacity, w.now()})
		}
	}
	w.park(ctx, park)
}

// askReady tells the gate which endpoints have parked deliveries that may go on.
func (w *Worker) askReady(ctx context.Context, survey bool) {
	ctx, cancel := context.WithTimeout(ctx, queryTimeout)
	defer cancel()
	ready, err := w.queries.ReadyEndpoints(ctx, maxReady)
	if err == nil && survey {
		var all []uuid.UUID
		all, err = w.queries.ParkedEndpoints(ctx, maxReady)
		ready = append(ready, all...)
	}
	if err != nil && ctx.Err() == nil {
		w.log.Warn().Err(err).Msg("endpoints with parked deliveries not known")
	}
	now := w.now()
	for _, id := range ready {
		w.gate.HasParked(now, id)
	}
}
