package deliver

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/nats-io/nats.go"

	"github.com/cardwire/cardwire/events/streams"
	"github.com/cardwire/cardwire/services/internal/delivery"
	"github.com/cardwire/cardwire/services/internal/failpoint"
	"github.com/cardwire/cardwire/services/internal/retry"
	"github.com/cardwire/cardwire/sql/db"
)

const (
	// settleBatch is the most results of one transaction.
	settleBatch = 500
	// settlePause is the least time from one transaction to the next, unless there
	// is half a batch to settle. A transaction of ten results costs little more than
	// one of one, nobody waits for it (the endpoint's slot is free already), and
	// what it adds to the time in which a crash repeats an attempt is little.
	settlePause = 20 * time.Millisecond
	// publishTimeout bounds handing retries to their delay lines. What is not
	// handed over the sweeper finds.
	publishTimeout = 5 * time.Second
)

// A result is an attempt that has ended.
type result struct {
	*item
	Response
	verdict
	at time.Time // when it ended
}

// settleAll settles results in batches until results closes: what has come in
// while one batch was settled, or in settlePause, is the next.
func (w *Worker) settleAll(ctx context.Context, results <-chan result) {
	var last time.Time
	batch := make([]result, 0, settleBatch)
	for r := range results {
		batch = gather(append(batch[:0], r), results, settlePause-time.Since(last))
		last = time.Now()
		w.settle(ctx, batch)
		clear(batch) // lets go of the bodies
	}
}

// gather adds what comes in to a batch: until a pause is over, half of it is
// full, or results closes; and then what is there.
func gather(batch []result, results <-chan result, pause time.Duration) []result {
	over := time.NewTimer(max(pause, 0))
	defer over.Stop()
	for len(batch) < settleBatch/2 {
		select {
		case r, ok := <-results:
			if !ok {
				return batch
			}
			batch = append(batch, r)
			continue
		case <-over.C:
		}
		break
	}
	for len(batch) < settleBatch && len(results) > 0 {
		r, ok := <-results
		if !ok {
			break
		}
		batch = append(batch, r)
	}
	return batch
}

// settle writes a batch of results in one transaction, hands what waits to the
// delay lines, and acks: never before the commit. While the database is away
// it goes on trying; the leases of the attempts may run out meanwhile, and a
// late result still ends its attempt truthfully.
func (w *Worker) settle(ctx context.Context, batch []result) {
	var waiting []db.SettleAttemptsRow
	work := context.WithoutCancel(ctx)
	err := retry.Until(ctx, w.log, "PostgreSQL to take results", func(context.Context) (err error) {
		waiting, err = w.write(work, settleLost(batch))
		w.unsettled.Store(err != nil)
		return err
	})
	if err != nil {
		w.log.Error().Err(err).Int("results", len(batch)).Msg("results not settled")
		return // their leases run out and the sweeper frees them
	}
	failpoint.Hit("deliver settled")
	w.toLines(work, batch, waiting)
	for _, r := range batch {
		w.ack(r.item)
		w.report(r)
		w.counts.settled(r, w.now())
	}
}

// write commits a batch: the attempts and their deliveries, and what the owners
// and operators are to know of.
func (w *Worker) write(ctx context.Context, batch []result) (waiting []db.SettleAttemptsRow, err error) {
	ctx, cancel := context.WithTimeout(ctx, queryTimeout)
	defer cancel()
	p, news, late := params(batch), newsOf(batch), w.late(batch)
	if news.none() && len(late.Ids) == 0 {
		return w.queries.SettleAttempts(ctx, p)
	}
	err = pgx.BeginFunc(ctx, w.pool, func(tx pgx.Tx) error {
		p.Answering, err = w.queries.WithTx(tx).LockStates(ctx, db.LockStatesParams{Answering: p.Answering, Failing: news.failing()})
		if err != nil {
			return fmt.Errorf("lock states: %w", err)
		}
		if waiting, err = w.queries.WithTx(tx).SettleAttempts(ctx, p); err != nil {
			return err
		}
		if len(late.Ids) > 0 {
			if err := w.queries.WithTx(tx).CloseOvertaken(ctx, late); err != nil {
				return fmt.Errorf("close overtaken attempts: %w", err)
			}
		}
		return w.tell(ctx, tx, news)
	})
	return waiting, err
}

// late lists the successes whose lease may have run out by the time that they are
// written, so that another attempt may be in flight.
func (w *Worker) late(batch []result) (p db.CloseOvertakenParams) {
	now := w.now()
	for _, r := range batch {
		if r.Success && now.Add(queryTimeout).Sub(r.claim.begun) >= w.lease() {
			p.Ids = append(p.Ids, r.DeliveryID)
		}
	}
	if len(p.Ids) > 0 {
		p.Low, p.High = delivery.Bounds(p.Ids)
	}
	return p
}

// params lays a batch out in columns.
func params(batch []result) (p db.SettleAttemptsParams) {
	answering := make(map[uuid.UUID]bool)
	for _, r := range batch {
		outcome, failures := "failure", r.Failures+1
		switch {
		case r.Success:
			outcome, failures = "success", r.Failures
			answering[r.EndpointID] = true
		case r.Interrupted():
			outcome, failures = "interrupted", r.Failures
		}
		p.Ids = append(p.Ids, r.DeliveryID)
		p.Ns = append(p.Ns, int32(r.N))
		p.Outcomes = append(p.Outcomes, outcome)
		p.ResponseCodes = append(p.ResponseCodes, int32(r.Code))
		p.ErrorClasses = append(p.ErrorClasses, r.Class)
		p.ErrorMessages = append(p.ErrorMessages, r.Message)
		p.DurationsMs = append(p.DurationsMs, int32(r.Took.Milliseconds()))
		p.ResponseHeaders = append(p.ResponseHeaders, r.Headers)
		p.ResponseBodies = append(p.ResponseBodies, r.Body)
		p.Truncated = append(p.Truncated, r.Truncated)
		p.Waits = append(p.Waits, r.wait.Seconds())
		p.WaitsFor = append(p.WaitsFor, r.waitsFor)
		p.Reasons = append(p.Reasons, r.reason)
		p.Failures = append(p.Failures, int32(failures))
		p.DnsMs = append(p.DnsMs, milliseconds(r.Timing.DNS))
		p.ConnectMs = append(p.ConnectMs, milliseconds(r.Timing.Connect))
		p.TlsMs = append(p.TlsMs, milliseconds(r.Timing.TLS))
		p.FirstByteMs = append(p.FirstByteMs, milliseconds(r.Timing.FirstByte))
		p.AddressClasses = append(p.AddressClasses, r.Timing.Class)
		p.RequestHeaders = append(p.RequestHeaders, r.Sent)
	}
	p.Answering = slices.Collect(maps.Keys(answering))
	p.Low, p.High = delivery.Bounds(p.Ids)
	return p
}

// milliseconds writes a part of a timing: -1 is none.
func milliseconds(d time.Duration) int32 {
	if d == 0 {
		return -1
	}
	return int32(d.Milliseconds())
}

// toLines puts what waits for another attempt into its delay line.
func (w *Worker) toLines(ctx context.Context, batch []result, waiting []db.SettleAttemptsRow) {
	if len(waiting) == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, publishTimeout)
	defer cancel()
	due := make(map[uuid.UUID]time.Time, len(waiting))
	for _, row := range waiting {
		due[row.ID] = row.NextAttemptAt
	}
	var msgs []*nats.Msg
	for _, r := range batch {
		if at, ok := due[r.DeliveryID]; ok && r.waitsFor == "" {
			d := delivery.Delivery{ID: r.DeliveryID, EventID: r.EventID, EndpointID: r.EndpointID, NotBefore: at}
			msgs = append(msgs, d.WaitMsg(r.step))
		}
	}
	errs, ok := streams.PublishAll(ctx, w.js, msgs)
	if ok {
		return
	}
	for _, err := range errs {
		if err != nil {
			w.log.Warn().Err(err).Int("deliveries", len(msgs)).Msg("retries not handed to their delay line; the sweeper will publish them")
			return
		}
	}
}

// report is the one line of an attempt.
func (w *Worker) report(r result) {
	e := w.log.Info().Stringer("event_id", r.EventID).Stringer("delivery_id", r.DeliveryID).Stringer("endpoint_id", r.EndpointID).
		Str("event_type", r.EventType).Int("attempt", r.N).Dur("took_ms", r.Took).Bool("success", r.Success)
	if r.Code != 0 {
		e.Int("status", r.Code)
	}
	switch {
	case r.Success:
	case r.reason != "": // no attempt follows
		e.Str("error_class", r.Class).Str("reason", r.reason)
	default:
		e.Str("error_class", r.Class).Dur("wait_ms", r.wait)
		if r.waitsFor != "" {
			e.Str("waits_for", r.waitsFor)
		}
	}
	e.Msg("delivery attempted")
}
