package deliver

import (
	"context"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/cardwire/cardwire/services/deliverer/gate"
	"github.com/cardwire/cardwire/sql/db"
)

const (
	// disableFailures is the least number of failures that disables an endpoint:
	// one event a week that fails is no reason.
	disableFailures = 10
	// endBatch is how many pending deliveries of a disabled endpoint are ended
	// in one statement.
	endBatch = 1000
)

// noteCircuits writes down the circuits that have changed, one line each.
func (w *Worker) noteCircuits(ctx context.Context) {
	changes := w.gate.Changes()
	if len(changes) == 0 {
		return
	}
	var p db.SaveCircuitsParams
	now := w.now()
	for _, c := range changes {
		reason, wait := "", max(c.Until.Sub(now), 0)
		line := w.log.Info().Stringer("endpoint_id", c.EndpointID).Str("circuit", string(c.State))
		if c.State != gate.Closed {
			reason = string(c.Reason)
			line.Str("reason", reason)
		}
		if c.State == gate.Open {
			line.Dur("wait_ms", wait)
		}
		line.Msg("circuit changed")
		p.EndpointIds = append(p.EndpointIds, c.EndpointID)
		p.Circuits = append(p.Circuits, string(c.State))
		p.Reasons = append(p.Reasons, reason)
		p.Waits = append(p.Waits, wait.Seconds())
	}
	ctx, cancel := context.WithTimeout(ctx, queryTimeout)
	defer cancel()
	if err := w.queries.SaveCircuits(ctx, p); err != nil && ctx.Err() == nil {
		w.log.Warn().Err(err).Int("circuits", len(changes)).Msg("circuits not noted")
	}
}

// reopen opens the circuits that were open when this process, or the one before
// it, noted them last.
func (w *Worker) reopen(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, queryTimeout)
	defer cancel()
	rows, err := w.queries.OpenCircuits(ctx, maxReady)
	if err != nil {
		w.log.Warn().Err(err).Msg("circuits not known: all begin closed")
		return
	}
	now := w.now()
	for _, row := range rows {
		w.gate.Open(now, row.EndpointID, gate.Reason(row.Reason), now.Add(time.Duration(row.Wait*float64(time.Second))))
	}
}

// askClosed has endpoints probed whose circuits are open here, and noted as closed:
// by another deliverer, or by the owner's edit.
func (w *Worker) askClosed(ctx context.Context) {
	shut := w.gate.Shut(w.now())
	if len(shut) == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, queryTimeout)
	defer cancel()
	closed, err := w.queries.ClosedCircuits(ctx, shut)
	if err != nil && ctx.Err() == nil {
		w.log.Warn().Err(err).Msg("circuits that others closed not known")
	}
	for _, id := range closed {
		w.gate.Probe(w.now(), id)
	}
}

// endPending ends what endpoints have pending that were disabled or deleted, a
// part each time.
func (w *Worker) endPending(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, queryTimeout)
	defer cancel()
	endpoints, err := w.queries.EndingEndpoints(ctx, maxReady)
	for _, e := range endpoints {
		if err == nil {
			err = w.endPendingOf(ctx, e)
		}
	}
	if err != nil && ctx.Err() == nil {
		w.log.Warn().Err(err).Msg("pending deliveries of disabled endpoints not ended")
	}
}

func (w *Worker) endPendingOf(ctx context.Context, e db.EndingEndpointsRow) error {
	reason := reasonDisabled
	if e.Deleted {
		reason = reasonDeleted
	}
	ended := 0
	for after := uuid.Nil; ; {
		ids, err := w.queries.EndDeliveries(ctx, db.EndDeliveriesParams{EndpointID: e.EndpointID, AfterID: after, Reason: reason, MaxRows: endBatch})
		if err != nil {
			return err
		}
		ended += len(ids)
		if len(ids) < endBatch {
			break
		}
		for _, id := range ids {
			if id.String() > after.String() {
				after = id
			}
		}
	}
	if ended > 0 {
		w.log.Info().Stringer("endpoint_id", e.EndpointID).Int("deliveries", ended).Str("reason", reason).Msg("pending deliveries ended")
	}
	// Fan-out may have parked another one meanwhile, for an endpoint that was active when it looked.
	return pgx.BeginFunc(ctx, w.pool, func(tx pgx.Tx) error {
		q := w.queries.WithTx(tx)
		if err := q.LockWaiting(ctx, []uuid.UUID{e.EndpointID}); err != nil {
			return err
		}
		last, err := q.EndDeliveries(ctx, db.EndDeliveriesParams{EndpointID: e.EndpointID, Reason: reason, MaxRows: endBatch})
		if err != nil || len(last) == endBatch { // the rest the next time
			return err
		}
		return q.Ended(ctx, e.EndpointID)
	})
}
