package deliver

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/cardwire/cardwire/services/deliverer/gate"
	"github.com/cardwire/cardwire/services/internal/delivery"
	"github.com/cardwire/cardwire/services/internal/retry"
	"github.com/cardwire/cardwire/sql/db"
)

// drawPause is how long an endpoint is left alone whose parked deliveries are all
// about to be claimed by others.
const drawPause = 50 * time.Millisecond

// draw claims parked deliveries where they are, and begins their attempts. They
// have no message: should this process end before it settles them, their leases
// run out. What a draw that failed would have claimed askReady finds again, once
// what it may have claimed is parked again.
func (w *Worker) draw(ctx context.Context, draws []gate.Draw, running *sync.WaitGroup, begin func([]*item)) {
	work, parked, err := w.claimParked(context.WithoutCancel(ctx), draws)
	if err == nil {
		err = w.inTime(work)
	}
	if err != nil {
		w.log.Warn().Err(err).Int("endpoints", len(draws)).Msg("parked deliveries not claimed")
		doubtful := work
		running.Go(func() { w.parkAgain(ctx, doubtful) })
		work = nil
	}
	begin(work)
	begun := make(map[uuid.UUID]int, len(draws))
	for _, it := range work {
		begun[it.EndpointID]++
	}
	now := w.now()
	short := make(map[uuid.UUID]bool) // by endpoint: whether some were found
	for _, d := range draws {
		for range d.N - begun[d.EndpointID] {
			w.gate.Drop(now, d.EndpointID)
		}
		found := parked[d.EndpointID]
		w.gate.Drawn(now, d.EndpointID, found.last, err == nil && found.n == d.N)
		if err == nil && found.n < d.N {
			short[d.EndpointID] = found.n > 0
		}
	}
	if len(short) > 0 {
		running.Go(func() { w.emptied(context.WithoutCancel(ctx), short) })
	}
}

// found is what a draw found of an endpoint.
type found struct {
	n    int
	last uuid.UUID
}

// parkAgain undoes claims of parked deliveries, which may have been made, and parks
// them. It waits while PostgreSQL is away, until ctx ends.
func (w *Worker) parkAgain(ctx context.Context, list []*item) {
	err := retry.Until(ctx, w.log, "PostgreSQL to undo claims", func(ctx context.Context) error {
		return w.unclaim(context.WithoutCancel(ctx), list)
	})
	if err != nil {
		return
	}
	var park []parking
	for _, it := range list {
		park = append(park, parking{it, gate.AtCapacity, w.now()})
	}
	w.park(ctx, park)
}

// claimParked claims parked deliveries, and says what it found. With an error, work is
// what may have been claimed all the same.
func (w *Worker) claimParked(ctx context.Context, draws []gate.Draw) (work []*item, parked map[uuid.UUID]found, err error) {
	if w.unsettled.Load() {
		return nil, nil, errUnsettled
	}
	ctx, cancel := context.WithTimeout(ctx, queryTimeout)
	defer cancel()
	var p db.LockParkedParams
	for _, d := range draws {
		p.EndpointIds = append(p.EndpointIds, d.EndpointID)
		p.Afters = append(p.Afters, d.After)
		p.Limits = append(p.Limits, int32(d.N))
	}
	var rows []db.ClaimDeliveriesRow
	var tried []*item
	c := w.newClaim()
	err = pgx.BeginFunc(ctx, w.pool, func(tx pgx.Tx) error {
		q := w.queries.WithTx(tx)
		locked, err := q.LockParked(ctx, p)
		if err != nil {
			return fmt.Errorf("lock parked deliveries: %w", err)
		}
		parked = make(map[uuid.UUID]found, len(draws))
		ids := make([]uuid.UUID, 0, len(locked))
		for _, row := range locked { // of each endpoint in the order of their ids
			ids = append(ids, row.ID)
			tried = append(tried, &item{delivery: delivery.Delivery{ID: row.ID, EndpointID: row.EndpointID}, claim: c})
			parked[row.EndpointID] = found{parked[row.EndpointID].n + 1, row.ID}
		}
		if len(ids) == 0 {
			return nil
		}
		claim := w.claimParams(ids, c)
		claim.Parked = true
		if rows, err = q.ClaimDeliveries(ctx, claim); err != nil {
			return fmt.Errorf("claim %d parked deliveries: %w", len(ids), err)
		}
		return nil
	})
	if err != nil {
		return tried, nil, err
	}
	for _, row := range rows {
		work = append(work, &item{delivery: delivery.Delivery{ID: row.ID, EventID: row.EventID, EndpointID: row.EndpointID}, claim: c})
	}
	w.claimed(work, rows)
	return work, parked, nil
}

// emptied notes that endpoints have no parked deliveries left, if so: then fan-out
// publishes their deliveries again. It parks none meanwhile. Those that have some
// all the same are to be drawn from again; where none was found others are about to
// claim them.
func (w *Worker) emptied(ctx context.Context, some map[uuid.UUID]bool) {
	var ids, still []uuid.UUID
	for id := range some {
		ids = append(ids, id)
	}
	ctx, cancel := context.WithTimeout(ctx, queryTimeout)
	defer cancel()
	err := pgx.BeginFunc(ctx, w.pool, func(tx pgx.Tx) (err error) {
		q := w.queries.WithTx(tx)
		if err = q.LockWaiting(ctx, ids); err != nil {
			return err
		}
		if err = q.ClearWaiting(ctx, ids); err != nil {
			return err
		}
		still, err = q.StillWaiting(ctx, ids)
		return err
	})
	if err != nil { // askReady finds them
		w.log.Warn().Err(err).Int("endpoints", len(ids)).Msg("endpoints not noted as ready")
		return
	}
	var busy []uuid.UUID
	for _, id := range still {
		if some[id] {
			w.gate.HasParked(w.now(), id)
		} else {
			busy = append(busy, id)
		}
	}
	if len(busy) == 0 || retry.Sleep(ctx, drawPause) != nil {
		return
	}
	for _, id := range busy {
		w.gate.HasParked(w.now(), id)
	}
}
