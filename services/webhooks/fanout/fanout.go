// Package fanout is the step from event to deliveries: it reads EVENTS, finds
// the endpoints that want each event, writes rows, and publishes deliveries.
//
// Rows first, then publish, then ack: a crash at any point repeats a batch to
// the same ids, and the repeat changes nothing.
package fanout

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/rs/zerolog"
	"golang.org/x/sync/errgroup"

	"github.com/cardwire/cardwire/events"
	"github.com/cardwire/cardwire/events/streams"
	"github.com/cardwire/cardwire/services/internal/consume"
	"github.com/cardwire/cardwire/services/internal/delivery"
	"github.com/cardwire/cardwire/services/internal/eventtypes"
	"github.com/cardwire/cardwire/services/internal/failpoint"
	"github.com/cardwire/cardwire/services/internal/metrics"
	"github.com/cardwire/cardwire/services/internal/partitions"
	"github.com/cardwire/cardwire/services/internal/process"
	"github.com/cardwire/cardwire/services/internal/retention"
	"github.com/cardwire/cardwire/services/internal/retry"
	"github.com/cardwire/cardwire/sql/db"
)

// Config is what fan-out is told.
type Config struct {
	Retention     time.Duration `env:"RETENTION" default:"720h" help:"How long events, deliveries and attempts are kept, in whole days. Older days are dropped."`
	BodyRetention time.Duration `env:"BODY_RETENTION" default:"720h" help:"How long bodies of events and answers are kept, in whole days, if that is shorter than RETENTION."`
	FanoutBatch   int           `env:"FANOUT_BATCH" default:"500" help:"Most events to fan out in one transaction (1 to 2000)."`

	CheckNATSEvents bool `name:"check-nats-events" env:"CHECK_NATS_EVENTS" help:"Hold what comes over NATS to the event types too: events of undeclared types (unless UNKNOWN_EVENT_TYPES accepts them) and data that breaks its schema go to dead_events."`

	// Settings of other steps of the service.
	EventTypesFile string `kong:"-"`
	AcceptUnknown  bool   `kong:"-"`
}

// publishTimeout bounds publishing the deliveries of a batch. What is not
// published by then the sweeper finds.
const publishTimeout = 10 * time.Second

// A FanOut is the step. Any number of replicas may run.
type FanOut struct {
	cfg     Config
	log     zerolog.Logger
	js      jetstream.JetStream
	pool    *pgxpool.Pool
	streams streams.Config
	keeper  *partitions.Keeper
	cleaner *retention.Cleaner
	counts  counts
	catalog *eventtypes.Catalog // nil: events are not held to their types
}

// New checks the settings.
func New(cfg Config, d process.Deps) (*FanOut, error) {
	keep := retention.Config{Rows: cfg.Retention, Bodies: cfg.BodyRetention}
	if err := keep.Check(); err != nil {
		return nil, err
	}
	if cfg.FanoutBatch < 1 || cfg.FanoutBatch > 2000 {
		return nil, fmt.Errorf("FANOUT_BATCH: must be 1 to 2000, not %d", cfg.FanoutBatch)
	}
	f := &FanOut{
		cfg: cfg, log: d.Log, js: d.JS, pool: d.DB, streams: d.Streams,
		counts:  newCounts(d.Registerer()),
		keeper:  partitions.NewKeeper(d.DB, cfg.Retention, d.Log),
		cleaner: retention.New(keep, d.DB, d.Log),
	}
	if cfg.CheckNATSEvents {
		var err error
		if f.catalog, err = eventtypes.Load(cfg.EventTypesFile); err != nil {
			return nil, fmt.Errorf("EVENT_TYPES_FILE: %w", err)
		}
	}
	d.Collect(metrics.Lag(d.JS, streams.Events, streams.FanOut))
	return f, nil
}

// Run fans out until ctx ends, and meanwhile keeps the partitions and lets go of
// what is no longer kept.
func (f *FanOut) Run(ctx context.Context) error {
	if err := f.ensureDeliveries(ctx); err != nil {
		return nil // ctx has ended
	}
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return f.keeper.Run(ctx) })
	g.Go(func() error { return f.cleaner.Run(ctx) })
	g.Go(func() error {
		source := consume.Source{Stream: f.streams.EventsStream(), Consumer: streams.FanOutConsumer(), MaxBatch: f.cfg.FanoutBatch}
		return consume.Batches(ctx, f.js, f.log, source, func(msgs []jetstream.Msg) { f.handle(ctx, msgs) })
	})
	return g.Wait()
}

func (f *FanOut) ensureDeliveries(ctx context.Context) error {
	return retry.Until(ctx, f.log, "stream "+streams.Deliveries, func(ctx context.Context) error {
		_, err := streams.EnsureStream(ctx, f.js, f.streams.DeliveriesStream())
		return err
	})
}

// handle takes a batch through. While the database is away it waits. If ctx
// ends first, the messages stay for whoever comes next.
func (f *FanOut) handle(ctx context.Context, msgs []jetstream.Msg) {
	items := make([]*item, 0, len(msgs))
	kept := msgs[:0]
	for _, m := range msgs {
		meta, err := m.Metadata()
		if err != nil { // no message of a stream: nothing could have sent it here
			f.log.Error().Err(err).Msg("message without metadata")
			continue
		}
		kept = append(kept, m)
		it := decode(m.Subject(), m.Headers(), m.Data(), meta.Sequence.Stream, meta.Timestamp, f.keeper.Covers)
		if f.catalog != nil {
			it.checkType(f.catalog, f.cfg.AcceptUnknown)
		}
		items = append(items, it)
	}
	failpoint.Hit("fanout received")
	ctx = f.ackFirst(ctx, kept)
	work := context.WithoutCancel(ctx) // what was begun is finished
	var m matcher
	err := retry.Until(ctx, f.log, "PostgreSQL to match endpoints", func(context.Context) (err error) {
		m, err = f.candidates(work, items)
		return err
	})
	if err != nil {
		return // ctx has ended
	}
	for from, to := range chunks(items, m.match) {
		err := retry.Until(ctx, f.log, "PostgreSQL to take a batch of events", func(context.Context) error {
			return f.store(work, items[from:to])
		})
		if err != nil {
			return
		}
		failpoint.Hit("fanout stored")
		done := f.publish(work, items[from:to])
		failpoint.Hit("fanout published")
		for i, it := range items[from:to] {
			f.finish(it, kept[from+i], done)
			it.matches = nil
		}
	}
}

// candidates finds the endpoints of the owners in a whole batch with one query.
func (f *FanOut) candidates(ctx context.Context, items []*item) (matcher, error) {
	ctx, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	endpoints, err := db.New(f.pool).MatchEndpoints(ctx, users(items))
	if err != nil {
		return matcher{}, fmt.Errorf("match endpoints: %w", err)
	}
	return newMatcher(endpoints), nil
}

// publish publishes the deliveries of items, and says whether the stream has
// all of them.
func (f *FanOut) publish(ctx context.Context, items []*item) (done bool) {
	ctx, cancel := context.WithTimeout(ctx, publishTimeout)
	defer cancel()
	var msgs []*nats.Msg
	for _, it := range items {
		for _, endpointID := range it.matches {
			d := delivery.Delivery{ID: delivery.ID(it.event.ID, endpointID), EventID: it.event.ID, EndpointID: endpointID, Probe: it.event.Type == events.Test}
			msgs = append(msgs, d.FirstMsg())
		}
	}
	errs, ok := streams.PublishAll(ctx, f.js, msgs)
	if ok {
		return true
	}
	for _, err := range errs {
		if err != nil {
			f.log.Warn().Err(err).Int("deliveries", len(msgs)).Msg("deliveries not published")
			break
		}
	}
	// Perhaps the stream is gone; the repeat should find one.
	if _, err := streams.EnsureStream(ctx, f.js, f.streams.DeliveriesStream()); err != nil {
		f.log.Warn().Err(err).Msg("deliveries stream not there")
	}
	return false
}

// finish ends the message of an item, now that its rows are committed. An event
// whose deliveries are not all published is left to its ack wait: it comes again.
func (f *FanOut) finish(it *item, m jetstream.Msg, published bool) {
	if it.reason != "" {
		f.counts.dead.Inc()
		f.log.Warn().Str("subject", it.deadSubject()).Uint64("stream_seq", it.seq).Str("reason", it.reason).Msg("event dead")
		f.check(m.TermWithReason("dead event"))
		return
	}
	if !published {
		consume.Leave(m)
		return
	}
	f.check(m.Ack())
	f.counts.events.Inc()
	f.counts.deliveries.Add(float64(len(it.matches) + it.parked))
	f.log.Info().Stringer("event_id", it.event.ID).Stringer("user_id", it.event.UserID).Str("event_type", it.event.Type).
		Uint64("stream_seq", it.seq).Int("deliveries", len(it.matches)+it.parked).Int("parked", it.parked).Dur("age_ms", time.Since(it.at)).Msg("event fanned out")
}

// check logs an ack that could not be sent: the message comes again, and the
// repeat changes nothing.
func (f *FanOut) check(err error) {
	if err != nil {
		f.log.Debug().Err(err).Msg("ack not sent")
	}
}
