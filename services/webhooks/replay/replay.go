// Package replay works off replays: it makes their deliveries.
//
// Each batch is a transaction that writes deliveries and notes how far the
// replay is; meanwhile it has the replay's row locked, which the others then
// skip. That lock is the lease: it ends with the process that holds it, and needs
// no clock. A crash repeats nothing and forgets nothing. What a batch could not
// tell the broker, the sweeper finds.
package replay

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/rs/zerolog"

	"github.com/cardwire/cardwire/services/internal/delivery"
	"github.com/cardwire/cardwire/services/internal/failpoint"
	"github.com/cardwire/cardwire/services/internal/process"
	"github.com/cardwire/cardwire/services/internal/replays"
	"github.com/cardwire/cardwire/services/internal/retry"
	"github.com/cardwire/cardwire/sql/db"
)

const (
	// batchesPerSecond is how often a second a replay at its rate makes
	// deliveries: often enough that receivers and deliverers see an even flow.
	batchesPerSecond = 5
	// maxBatch is the most deliveries made in one transaction, or a few more.
	maxBatch = 2_000
	// poll is how often to look for a replay that was begun elsewhere, or resumed.
	poll = 250 * time.Millisecond
	// batchTimeout bounds a transaction, and publishTimeout telling the broker.
	batchTimeout   = 10 * time.Second
	publishTimeout = 5 * time.Second
	// putOff is how long a replay is left alone after a batch of it failed: the
	// others go on meanwhile. Longer than a batch may take.
	putOff = 15 * time.Second
)

// Config is what the step is told: nothing so far.
type Config struct{}

// A Replayer is the step. Any number of replicas may run: each takes a batch of
// the replay that has waited longest, and no two one of the same.
type Replayer struct {
	log  zerolog.Logger
	pool database
	js   jetstream.JetStream
}

// A database is a *pgxpool.Pool, or one in a test whose commits fail.
type database interface {
	db.DBTX
	Begin(ctx context.Context) (pgx.Tx, error)
}

// New makes the step.
func New(_ Config, d process.Deps) (*Replayer, error) {
	return &Replayer{log: d.Log, pool: d.DB, js: d.JS}, nil
}

// Run works until ctx ends. A batch that fails is logged when that is news.
func (r *Replayer) Run(ctx context.Context) error {
	failing := false
	pause := retry.Jitter(poll)
	for retry.Sleep(ctx, pause) == nil {
		done, err := r.Once(ctx)
		switch {
		case err != nil:
			pause = retry.Jitter(retry.MaxPause)
			if !failing && ctx.Err() == nil {
				r.log.Warn().Err(err).Msg("replay interrupted")
			}
		case done.found:
			pause = 0
		default:
			pause = r.wait(ctx)
		}
		failing = err != nil
	}
	return nil
}

// wait is how long there is nothing to do: until the next batch of a replay is
// due, and no longer than poll.
func (r *Replayer) wait(ctx context.Context) time.Duration {
	ctx, cancel := context.WithTimeout(ctx, publishTimeout)
	defer cancel()
	seconds, err := db.New(r.pool).NextReplay(ctx)
	if err != nil || seconds > poll.Seconds() {
		return retry.Jitter(poll)
	}
	return max(time.Duration(seconds*float64(time.Second)), time.Millisecond) // another may be at it
}

// progress is what came of a batch.
type progress struct {
	found   bool // there was a replay to go on with
	replay  db.Replay
	batch   replays.Batch
	stopped string // what the replay has become, if its endpoint is gone
}

// Once makes one batch of the replay that has waited longest, if it is time for one.
func (r *Replayer) Once(ctx context.Context) (done progress, err error) {
	txCtx, cancel := context.WithTimeout(ctx, batchTimeout)
	defer cancel()
	err = pgx.BeginFunc(txCtx, r.pool, func(tx pgx.Tx) error {
		done, err = advance(txCtx, db.New(tx))
		return err
	})
	if err != nil {
		if done.found {
			r.postpone(ctx, done.replay)
		}
		return progress{}, fmt.Errorf("replay: %w", err)
	}
	if !done.found {
		return done, nil
	}
	failpoint.Hit("replay committed")
	published := r.publish(ctx, done.batch.Made)
	r.log.Info().Stringer("replay_id", done.replay.ID).Int("events", done.batch.Events).Int("deliveries", len(done.batch.Made)).
		Int("skipped", done.batch.Skipped).Bool("published", published).Bool("finished", done.batch.End).Msg("deliveries replayed")
	if done.stopped != "" {
		r.log.Warn().Stringer("replay_id", done.replay.ID).Str("state", done.stopped).Msg("replay stopped: its endpoint is disabled or deleted")
	}
	return done, nil
}

// postpone puts off a replay whose batch failed. It waited longest, and would
// else be the next one again, for ever if the fault is its own.
func (r *Replayer) postpone(ctx context.Context, row db.Replay) {
	ctx, cancel := context.WithTimeout(ctx, publishTimeout)
	defer cancel()
	err := db.New(r.pool).PutOffReplay(ctx, db.PutOffReplayParams{ID: row.ID, Pause: putOff.Seconds()})
	if err != nil && ctx.Err() == nil {
		r.log.Warn().Err(err).Stringer("replay_id", row.ID).Msg("replay not put off")
	}
}

// advance is the transaction of a batch. With an error, done says which replay it was about, if any.
func advance(ctx context.Context, q *db.Queries) (done progress, err error) {
	if err := q.HoldBodies(ctx); err != nil {
		return done, fmt.Errorf("hold bodies: %w", err)
	}
	row, err := q.TakeReplay(ctx)
	if errors.Is(err, pgx.ErrNoRows) {
		return done, nil
	}
	if err != nil {
		return done, fmt.Errorf("take one: %w", err)
	}
	done = progress{found: true, replay: row}
	if done.stopped, err = stop(ctx, q, row); err == nil && done.stopped == "" {
		done.batch, err = makeBatch(ctx, q, row)
	}
	if err != nil {
		return done, fmt.Errorf("replay %v: %w", row.ID, err)
	}
	return done, nil
}

// stop pauses a replay to an endpoint that is disabled, and cancels one to an
// endpoint that is deleted. state is what it has become, empty if it goes on.
func stop(ctx context.Context, q *db.Queries, row db.Replay) (state string, err error) {
	if row.EndpointID == nil {
		return "", nil
	}
	e, err := q.ReplayEndpoint(ctx, *row.EndpointID)
	if err != nil {
		return "", fmt.Errorf("look up endpoint: %w", err)
	}
	var reason string
	switch {
	case e.Deleted:
		state, reason = replays.Cancelled, "endpoint_deleted"
	case !e.IsActive:
		state, reason = replays.Paused, "endpoint_disabled"
	default:
		return "", nil
	}
	if _, err := q.SetReplayState(ctx, db.SetReplayStateParams{ID: row.ID, State: state, Reason: &reason}); err != nil {
		return "", fmt.Errorf("set state: %w", err)
	}
	return state, nil
}

// makeBatch writes the next deliveries of a replay, and how far it is then.
func makeBatch(ctx context.Context, q *db.Queries, row db.Replay) (b replays.Batch, err error) {
	if b, err = replays.Next(ctx, q, row, size(row.Rate)); err != nil {
		return b, err
	}
	p := db.InsertReplayDeliveriesParams{Trigger: delivery.TriggerReplay, ReplayID: row.ID}
	for _, d := range b.Made {
		p.Ids, p.EventIds = append(p.Ids, d.ID), append(p.EventIds, d.EventID)
		p.EndpointIds, p.EventTypes = append(p.EndpointIds, d.EndpointID), append(p.EventTypes, d.EventType)
	}
	var made int64
	if len(p.Ids) > 0 {
		if made, err = q.InsertReplayDeliveries(ctx, p); err != nil {
			return b, fmt.Errorf("insert deliveries: %w", err)
		}
	}
	pause := 0.0
	if row.Rate != nil {
		pause = float64(made) / float64(*row.Rate)
	}
	failpoint.Hit("replay made")
	err = q.AdvanceReplay(ctx, db.AdvanceReplayParams{
		ID: row.ID, At: b.At, Done: int64(b.Events), Made: made, Skipped: int64(b.Skipped), Pause: pause, Finished: b.End,
	})
	if err != nil {
		return b, fmt.Errorf("note how far it is: %w", err)
	}
	return b, nil
}

// size is how many deliveries a batch is about. Null is no limit.
func size(rate *int32) int {
	if rate == nil {
		return maxBatch
	}
	return min(max(int(*rate)/batchesPerSecond, 1), maxBatch)
}

// publish tells the broker, and says whether it could.
func (r *Replayer) publish(ctx context.Context, made []replays.Made) bool {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), publishTimeout)
	defer cancel()
	list := make([]delivery.Delivery, len(made))
	for i, m := range made {
		list[i] = m.Delivery
	}
	err := delivery.PublishAgain(ctx, r.js, list)
	if err != nil {
		r.log.Warn().Err(err).Int("deliveries", len(list)).Msg("replayed deliveries not published: the sweeper will find them")
	}
	return err == nil
}
