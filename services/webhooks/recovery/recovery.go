// Package recovery works off recoveries: it makes deliveries of an endpoint
// pending again that were given up, and makes those that are missing.
//
// Each batch is a transaction that also notes how far the recovery is: a crash
// repeats nothing and forgets nothing. What a batch could not tell the broker,
// the sweeper finds.
package recovery

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/rs/zerolog"

	"github.com/cardwire/cardwire/services/internal/delivery"
	"github.com/cardwire/cardwire/services/internal/failpoint"
	"github.com/cardwire/cardwire/services/internal/process"
	"github.com/cardwire/cardwire/services/internal/retry"
	"github.com/cardwire/cardwire/sql/db"
)

const (
	// batch is the most deliveries made pending in one transaction.
	batch = 500
	// rate is how many deliveries a second all recoveries of all replicas make
	// pending together. The deliverers share their slots fairly between these and
	// first tries, but a receiver that just came back should not get all at once.
	rate = 1_000
	// examine is the most rows that a batch reads to find those that it is about:
	// a few ms. Too few, and a recovery with little to do takes long to find it.
	examine = 5_000
	// poll is how often to look for a new recovery.
	poll = time.Second
	// batchTimeout bounds a transaction, and publishTimeout telling the broker.
	batchTimeout   = 10 * time.Second
	publishTimeout = 5 * time.Second
)

// Config is what the step is told: nothing so far.
type Config struct{}

// A Recoverer is the step. Any number of replicas may run: one at a time works on
// a batch.
type Recoverer struct {
	log  zerolog.Logger
	pool *pgxpool.Pool
	js   jetstream.JetStream
}

// New makes the step.
func New(_ Config, d process.Deps) (*Recoverer, error) {
	return &Recoverer{log: d.Log, pool: d.DB, js: d.JS}, nil
}

// Run works until ctx ends. A batch that fails is logged when that is news.
func (r *Recoverer) Run(ctx context.Context) error {
	failing := false
	pause := poll
	for retry.Sleep(ctx, retry.Jitter(pause)) == nil {
		done, err := r.Once(ctx)
		switch {
		case err != nil:
			pause = retry.MaxPause
			if !failing && ctx.Err() == nil {
				r.log.Warn().Err(err).Msg("recovering interrupted")
			}
		case done.found:
			pause = done.pause()
		default:
			pause = poll
		}
		failing = err != nil
	}
	return nil
}

// progress is what came of a batch.
type progress struct {
	found     bool // there was a recovery to go on with
	id        uuid.UUID
	endpoint  uuid.UUID
	recovered []delivery.Delivery
	finished  bool
}

// pause is how long nothing more may be made pending, to keep to the rate.
func (p progress) pause() time.Duration {
	return time.Duration(len(p.recovered)) * time.Second / rate
}

// Once works off one batch of the recovery that has waited longest, if it is
// time for one.
func (r *Recoverer) Once(ctx context.Context) (done progress, err error) {
	txCtx, cancel := context.WithTimeout(ctx, batchTimeout)
	defer cancel()
	err = pgx.BeginFunc(txCtx, r.pool, func(tx pgx.Tx) error {
		done, err = advance(txCtx, db.New(tx))
		return err
	})
	if err != nil {
		return progress{}, fmt.Errorf("recover: %w", err)
	}
	if !done.found {
		return done, nil
	}
	failpoint.Hit("recovery advanced")
	published := r.publish(ctx, done.recovered)
	r.log.Info().Stringer("recovery_id", done.id).Stringer("endpoint_id", done.endpoint).Int("deliveries", len(done.recovered)).
		Bool("published", published).Bool("finished", done.finished).Msg("deliveries recovered")
	return done, nil
}

// advance is the transaction of a batch.
func advance(ctx context.Context, q *db.Queries) (done progress, err error) {
	if mine, err := q.LockRecoveries(ctx); err != nil || !mine {
		return done, err
	}
	if err := q.HoldBodies(ctx); err != nil {
		return done, fmt.Errorf("hold bodies: %w", err)
	}
	rec, err := q.TakeRecovery(ctx)
	if errors.Is(err, pgx.ErrNoRows) {
		return done, nil
	}
	if err != nil {
		return done, fmt.Errorf("take one: %w", err)
	}
	done = progress{found: true, id: rec.ID, endpoint: rec.EndpointID}
	end := delivery.Floor(rec.Until)
	switch {
	case !rec.Active:
		done.finished = true
	case rec.At != end:
		done.recovered, rec.At, err = failed(ctx, q, rec, end)
	case rec.Missing && rec.MissingAt != end:
		done.recovered, rec.MissingAt, err = missing(ctx, q, rec, end)
	default: // a batch of its own, so that the pause after the last one is kept
		done.finished = true
	}
	if err != nil {
		return progress{}, fmt.Errorf("recovery %v: %w", rec.ID, err)
	}
	err = q.AdvanceRecovery(ctx, db.AdvanceRecoveryParams{
		ID: rec.ID, At: rec.At, MissingAt: rec.MissingAt, Recovered: int64(len(done.recovered)),
		Pause: done.pause().Seconds(), Finished: done.finished,
	})
	if err != nil {
		return progress{}, fmt.Errorf("recovery %v: note how far it is: %w", rec.ID, err)
	}
	return done, nil
}

// failed makes the next deliveries pending again that were given up. at is up to
// where all are done now.
func failed(ctx context.Context, q *db.Queries, rec db.TakeRecoveryRow, end uuid.UUID) (list []delivery.Delivery, at uuid.UUID, err error) {
	rows, err := q.ExamineDeliveries(ctx, db.ExamineDeliveriesParams{EndpointID: rec.EndpointID, After: rec.At, Before: end, MaxRows: examine})
	if err != nil {
		return nil, at, fmt.Errorf("examine deliveries: %w", err)
	}
	var ids, eventIDs []uuid.UUID
	at = end
	for i, row := range rows {
		if row.Failed {
			ids, eventIDs = append(ids, row.ID), append(eventIDs, row.EventID)
		}
		if len(ids) == batch || i == examine-1 {
			at = row.ID
			break
		}
	}
	if ids, err = withBodies(ctx, q, ids, eventIDs); err != nil || len(ids) == 0 {
		return nil, at, err
	}
	renewed, err := q.RenewDeliveries(ctx, db.RenewDeliveriesParams{
		Ids: ids, Low: ids[0], High: ids[len(ids)-1], Trigger: delivery.TriggerRecover, OnlyFailed: true,
	})
	if err != nil {
		return nil, at, fmt.Errorf("renew deliveries: %w", err)
	}
	for _, d := range renewed {
		list = append(list, delivery.Delivery{ID: d.ID, EventID: d.EventID, EndpointID: rec.EndpointID})
	}
	return list, at, nil
}

// withBodies leaves those of some deliveries whose events have their bodies still.
func withBodies(ctx context.Context, q *db.Queries, ids, eventIDs []uuid.UUID) ([]uuid.UUID, error) {
	if len(ids) == 0 {
		return nil, nil
	}
	low, high := delivery.Bounds(eventIDs)
	kept, err := q.KeptBodies(ctx, db.KeptBodiesParams{Ids: eventIDs, Low: low, High: high})
	if err != nil {
		return nil, fmt.Errorf("look for bodies: %w", err)
	}
	if len(kept) == len(ids) { // a delivery of an endpoint is of one event
		return ids, nil
	}
	has := make(map[uuid.UUID]bool, len(kept))
	for _, id := range kept {
		has[id] = true
	}
	var list []uuid.UUID
	for i, id := range ids {
		if has[eventIDs[i]] {
			list = append(list, id)
		}
	}
	return list, nil
}

// publish tells the broker, and says whether it could.
func (r *Recoverer) publish(ctx context.Context, list []delivery.Delivery) bool {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), publishTimeout)
	defer cancel()
	err := delivery.PublishAgain(ctx, r.js, list)
	if err != nil {
		r.log.Warn().Err(err).Int("deliveries", len(list)).Msg("recovered deliveries not published: the sweeper will find them")
	}
	return err == nil
}
