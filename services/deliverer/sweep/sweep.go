// Package sweep finds deliveries that are due and have no message, and attempts
// whose process died, and publishes them again. It is why whatever the broker
// loses costs a delay and no delivery. It also publishes what waited for a time
// in PostgreSQL, longer than a delay line makes it wait.
package sweep

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/rs/zerolog"

	"github.com/cardwire/cardwire/events/streams"
	"github.com/cardwire/cardwire/services/internal/delivery"
	"github.com/cardwire/cardwire/services/internal/failpoint"
	"github.com/cardwire/cardwire/services/internal/metrics"
	"github.com/cardwire/cardwire/services/internal/process"
	"github.com/cardwire/cardwire/services/internal/retry"
	"github.com/cardwire/cardwire/sql/db"
)

// Config is what the sweeper is told.
type Config struct {
	SweepInterval time.Duration `env:"SWEEP_INTERVAL" default:"1s" help:"Pause between sweeps (10ms to 1m)."`
	SweepGrace    time.Duration `env:"SWEEP_GRACE" default:"5s" help:"How long a due delivery may be without a message before it is published again (10ms to 10m). At least the clocks' difference."`
}

const (
	// maxRows is how many deliveries a sweep publishes of each kind.
	maxRows = 500
	// mostWaiting is how long the lane of what comes again may be, in messages,
	// for a sweep that found more than it could take to be followed by another
	// at once. Beyond it the sweeper goes on at its pause, 500 of each kind: it
	// refills the lane as the deliverers empty it, and never stands before what
	// is fresh, which has a lane of its own.
	mostWaiting = 5_000
	// sweepTimeout bounds one sweep.
	sweepTimeout = 10 * time.Second
	// settleFirst is how long a sweeper holds back after an outage: a deliverer
	// with results in hand tries again within retry.MaxPause.
	settleFirst = retry.MaxPause + time.Second
)

// A Sweeper is the step. Any number of replicas may run: rows that one takes
// the others skip.
type Sweeper struct {
	cfg     Config
	log     zerolog.Logger
	js      jetstream.JetStream
	queries *db.Queries
	streams streams.Config
	counts  counts
}

// New checks the settings.
func New(cfg Config, d process.Deps) (*Sweeper, error) {
	s, err := Over(cfg, d, d.DB)
	if err == nil {
		d.Collect(metrics.Backlog(d.DB))
	}
	return s, err
}

// Over is New on the database that is given, and not on d's: the simulator of
// package deliver has one in memory, behind the seam that sqlc has anyway.
func Over(cfg Config, d process.Deps, database db.DBTX) (*Sweeper, error) {
	if cfg.SweepInterval < 10*time.Millisecond || cfg.SweepInterval > time.Minute {
		return nil, fmt.Errorf("SWEEP_INTERVAL: must be 10ms to 1m, not %s", cfg.SweepInterval)
	}
	if cfg.SweepGrace < 10*time.Millisecond || cfg.SweepGrace > 10*time.Minute {
		return nil, fmt.Errorf("SWEEP_GRACE: must be 10ms to 10m, not %s", cfg.SweepGrace)
	}
	return &Sweeper{cfg: cfg, log: d.Log, js: d.JS, queries: db.New(database), streams: d.Streams, counts: newCounts(d.Registerer())}, nil
}

// Run sweeps until ctx ends. A sweep that fails is logged when that is news.
// When PostgreSQL is back after an outage, the deliverers' results go first:
// what they settle, though its lease has run out, needs no attempt again.
func (s *Sweeper) Run(ctx context.Context) error {
	if failpoint.Sabotaged("no sweeper") {
		<-ctx.Done()
		return nil
	}
	failing, away := false, false // any sweep; PostgreSQL
	more := false                 // the last sweep left something
	for ctx.Err() == nil {
		if !(more && s.laneIsShort(ctx)) && retry.Sleep(ctx, retry.Jitter(s.cfg.SweepInterval)) != nil {
			return nil
		}
		if away {
			if !s.answers(ctx) {
				continue
			}
			if retry.Sleep(ctx, settleFirst) != nil {
				return nil
			}
		}
		var err error
		more, err = s.Once(ctx)
		if err != nil && ctx.Err() == nil && !failing {
			s.log.Warn().Err(err).Msg("sweeping interrupted")
		}
		if err == nil && failing {
			s.log.Info().Msg("sweeping again")
		}
		failing, away = err != nil, errors.Is(err, errPostgreSQL)
	}
	return nil
}

// errPostgreSQL is in the errors of a sweep that PostgreSQL did not answer.
var errPostgreSQL = errors.New("PostgreSQL")

// answers says whether PostgreSQL does.
func (s *Sweeper) answers(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, sweepTimeout)
	defer cancel()
	_, err := s.queries.Now(ctx)
	return err == nil
}

// laneIsShort says that the deliverers keep up with what is swept. If the
// broker does not say, they don't.
func (s *Sweeper) laneIsShort(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, sweepTimeout)
	defer cancel()
	lane, err := s.js.Consumer(ctx, streams.Deliveries, streams.Again)
	if err != nil {
		return false
	}
	info := lane.CachedInfo() // just fetched
	return int(info.NumPending)+info.NumAckPending < mostWaiting
}

// Once makes one sweep. more says that there may be more of a kind than it took.
func (s *Sweeper) Once(ctx context.Context) (more bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, sweepTimeout)
	defer cancel()
	before, err := s.publishedBefore(ctx)
	if err != nil {
		return false, err
	}
	expired, err := s.queries.TakeExpiredLeases(ctx, maxRows)
	if err != nil {
		return false, fmt.Errorf("take expired leases: %w: %w", errPostgreSQL, err)
	}
	due, err := s.queries.TakeDueDeliveries(ctx, db.TakeDueDeliveriesParams{PublishedBefore: before, MaxRows: maxRows})
	if err != nil {
		return false, fmt.Errorf("take due deliveries: %w: %w", errPostgreSQL, err)
	}
	timed, err := s.queries.TakeTimedDeliveries(ctx, maxRows)
	if err != nil {
		return false, fmt.Errorf("take timed deliveries: %w: %w", errPostgreSQL, err)
	}
	s.counts.expired.Add(float64(len(expired)))
	s.counts.due.Add(float64(len(due)))
	s.counts.timed.Add(float64(len(timed)))
	msgs := make([]*nats.Msg, 0, len(expired)+len(due)+len(timed))
	for _, row := range timed {
		msgs = append(msgs, again(row.ID, row.EventID, row.EndpointID))
	}
	for _, row := range expired {
		msgs = append(msgs, again(row.ID, row.EventID, row.EndpointID))
	}
	for _, row := range due {
		msgs = append(msgs, again(row.ID, row.EventID, row.EndpointID))
	}
	if len(msgs) == 0 {
		return false, nil
	}
	errs, ok := streams.PublishAll(ctx, s.js, msgs)
	s.log.Info().Int("leases_expired", len(expired)).Int("deliveries_due", len(due)).Int("deliveries_timed", len(timed)).Bool("published", ok).Msg("deliveries swept")
	if !ok { // marked as swept, they are found again after the grace
		return false, fmt.Errorf("publish swept deliveries: %w", errors.Join(errs...))
	}
	return max(len(expired), len(due), len(timed)) == maxRows, nil
}

func again(id, eventID, endpointID uuid.UUID) *nats.Msg {
	return delivery.Delivery{ID: id, EventID: eventID, EndpointID: endpointID}.AgainMsg()
}

// publishedBefore is the time before which nothing that was published still
// has a message: that of the oldest message of the two lanes, or else now, less the
// grace. A delivery that became due before then, and still waits, was lost by
// the broker. Thus a long queue is left alone, however long its deliveries wait.
func (s *Sweeper) publishedBefore(ctx context.Context) (time.Time, error) {
	before, err := s.queries.Now(ctx)
	if err != nil {
		return time.Time{}, fmt.Errorf("ask the time: %w: %w", errPostgreSQL, err)
	}
	stream, err := streams.EnsureStream(ctx, s.js, s.streams.DeliveriesStream())
	if err != nil {
		return time.Time{}, err
	}
	for consumer, lane := range map[string]string{streams.First: streams.AllFirst, streams.Again: streams.AllAgain} {
		from, err := s.undone(ctx, consumer)
		if err != nil {
			return time.Time{}, err
		}
		oldest, err := stream.GetMsg(ctx, from, jetstream.WithGetMsgSubject(lane))
		switch {
		case errors.Is(err, jetstream.ErrMsgNotFound):
		case err != nil:
			return time.Time{}, fmt.Errorf("look up oldest message of %s: %w", lane, err)
		case oldest.Time.Before(before):
			before = oldest.Time
		}
	}
	return before.Add(-s.cfg.SweepGrace), nil
}

// undone is the first sequence number that a lane's consumer does not hold for
// done. A broker whose disk was full may still have messages from before that,
// which it could not remove and gives to nobody: the sweeper must not wait for them.
func (s *Sweeper) undone(ctx context.Context, name string) (sequence uint64, err error) {
	consumer, err := s.js.Consumer(ctx, streams.Deliveries, name)
	switch {
	case errors.Is(err, jetstream.ErrConsumerNotFound): // whoever reads the lane makes it again
		return 1, nil
	case err != nil:
		return 0, fmt.Errorf("look up consumer %s: %w", name, err)
	}
	return consumer.CachedInfo().AckFloor.Stream + 1, nil
}
