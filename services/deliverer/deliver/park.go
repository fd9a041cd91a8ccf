package deliver

import (
	"context"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

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

// refill fetches parked deliveries for endpoints that could do with them. They
// have no message: should this process end before they are claimed, the sweeper
// finds them.
func (w *Worker) refill(ctx context.Context, refills []gate.Refill) {
	var p db.ReleaseDeliveriesParams
	for _, r := range refills {
		p.EndpointIds = append(p.EndpointIds, r.EndpointID)
		p.Limits = append(p.Limits, int32(r.N))
	}
	ctx, cancel := context.WithTimeout(ctx, queryTimeout)
	defer cancel()
	rows, err := w.queries.ReleaseDeliveries(ctx, p)
	if err != nil {
		w.log.Warn().Err(err).Int("endpoints", len(refills)).Msg("parked deliveries not fetched")
	}
	found := make(map[uuid.UUID]int)
	for _, row := range rows {
		found[row.EndpointID]++
	}
	more := make(map[uuid.UUID]bool)
	var last db.ReleaseDeliveriesParams
	for _, r := range refills {
		switch {
		case err != nil:
		case found[r.EndpointID] == r.N:
			more[r.EndpointID] = true
		default:
			last.EndpointIds, last.Limits = append(last.EndpointIds, r.EndpointID), append(last.Limits, int32(r.N))
		}
	}
	rest, still := w.releaseLast(ctx, last)
	for _, id := range still {
		more[id] = true
	}
	fetched := make(map[uuid.UUID][]*item)
	for _, row := range append(rows, rest...) {
		it := &item{delivery: delivery.Delivery{ID: row.ID, EventID: row.EventID, EndpointID: row.EndpointID}}
		if isNew, _ := w.held.add(it); isNew {
			fetched[row.EndpointID] = append(fetched[row.EndpointID], it)
		}
	}
	now := w.now()
	for _, r := range refills {
		w.gate.Refilled(now, r.EndpointID, fetched[r.EndpointID], more[r.EndpointID])
	}
}

// releaseLast has the last parked deliveries of endpoints go on, and notes that
// they have none any more, so that fan-out publishes their deliveries again: it
// parks none meanwhile. still are those that have more than were to be released.
func (w *Worker) releaseLast(ctx context.Context, p db.ReleaseDeliveriesParams) (rows []db.ReleaseDeliveriesRow, still []uuid.UUID) {
	if len(p.EndpointIds) == 0 {
		return nil, nil
	}
	err := pgx.BeginFunc(ctx, w.pool, func(tx pgx.Tx) (err error) {
		q := w.queries.WithTx(tx)
		if err = q.LockWaiting(ctx, p.EndpointIds); err != nil {
			return err
		}
		if rows, err = q.ReleaseDeliveries(ctx, p); err != nil {
			return err
		}
		if err = q.ClearWaiting(ctx, p.EndpointIds); err != nil {
			return err
		}
		still, err = q.StillWaiting(ctx, p.EndpointIds)
		return err
	})
	if err != nil { // what was released all the same has no message: the sweeper finds it
		w.log.Warn().Err(err).Msg("endpoints not noted as ready")
		return nil, nil
	}
	return rows, still
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
	w.unclaim(ctx, claimed)
	w.park(ctx, list)
}

// unclaim undoes the claims of items whose attempts were not begun. If that
// fails, their leases run out.
func (w *Worker) unclaim(ctx context.Context, list []*item) {
	if len(list) == 0 {
		return
	}
	var p db.UnclaimDeliveriesParams
	for _, it := range list {
		p.Ids = append(p.Ids, it.DeliveryID)
		p.Ns = append(p.Ns, int32(it.N))
	}
	p.Low, p.High = delivery.Bounds(p.Ids)
	ctx, cancel := context.WithTimeout(ctx, queryTimeout)
	defer cancel()
	if err := w.queries.UnclaimDeliveries(ctx, p); err != nil {
		w.log.Warn().Err(err).Int("deliveries", len(list)).Msg("claims not undone; their leases run out")
	}
}

// giveBack lets go of what is held, for other replicas to have at once.
func (w *Worker) giveBack(ctx context.Context) {
	offered, claimed := w.gate.Drain()
	w.unclaim(ctx, claimed)
	for _, it := range append(offered, claimed...) {
		if it.msg != nil {
			w.sent(it.msg.Nak())
		}
	}
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
