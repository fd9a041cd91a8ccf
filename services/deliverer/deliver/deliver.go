// Package deliver is the step from delivery to outcome: claim, POST, settle.
//
// A claim in PostgreSQL precedes each POST and writes the attempt's row; the
// result is committed before the message is acked. A crash at any point costs a
// repeat or a delay.
package deliver

import (
	"context"
	"fmt"
	"net/http"
	"net/netip"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/rs/zerolog"
	"golang.org/x/sync/errgroup"

	"github.com/cardwire/cardwire/events/streams"
	"github.com/cardwire/cardwire/services/deliverer/gate"
	"github.com/cardwire/cardwire/services/internal/consume"
	"github.com/cardwire/cardwire/services/internal/egress"
	"github.com/cardwire/cardwire/services/internal/failpoint"
	"github.com/cardwire/cardwire/services/internal/metrics"
	"github.com/cardwire/cardwire/services/internal/process"
	"github.com/cardwire/cardwire/services/internal/secrets"
	"github.com/cardwire/cardwire/sql/db"
)

// Config is what the deliverer is told.
type Config struct {
	EncryptionKeyset string         `env:"ENCRYPTION_KEYSET" help:"Keyset that opens the endpoints' secrets, the same as the webhooks service has. Required. Make one with: cardwire keys new"`
	AttemptTimeout   time.Duration  `env:"ATTEMPT_TIMEOUT" default:"10s" help:"How long one attempt may take, from before the connection to the end of the answer (100ms to 30s)."`
	Schedule         Schedule       `env:"RETRY_SCHEDULE" default:"30s,5m,30m" help:"Pauses after the first, second, … failure. One attempt more than it has steps; each step up to 24h."`
	Concurrency      int            `env:"DELIVER_CONCURRENCY" default:"512" help:"Most attempts in flight at once (1 to 10000). Endpoints that don't answer share three quarters of them."`
	PerEndpoint      int            `name:"endpoint-concurrency" env:"ENDPOINT_CONCURRENCY" default:"10" help:"Most attempts in flight at once to one endpoint, unless its owner set maxInFlight (1 to 100)."`
	DisableAfter     time.Duration  `env:"DISABLE_AFTER" default:"120h" help:"How long an endpoint may do nothing but fail, at least 10 times, before it is disabled. 0 never disables."`
	AllowCIDRs       []netip.Prefix `name:"allow-cidrs" env:"ALLOW_CIDRS" help:"Networks that endpoints may be in although they are not public, such as 10.1.0.0/16; also by plain http."`
}

// Limits of settings.
const (
	minAttemptTimeout = 100 * time.Millisecond
	maxAttemptTimeout = 30 * time.Second
	// leaseMargin is what a lease has beyond the attempt's timeout: for reading
	// the body and settling. After a crash, a delivery waits for its lease to
	// run out.
	leaseMargin = 10 * time.Second
	// settleTime is what stopping needs after the last attempt has ended.
	settleTime = 5 * time.Second
	// claimBatch is the most deliveries of one claim.
	claimBatch = 256
	// laneBatch is the most messages of a lane handled at once.
	laneBatch = 256
	// mostHeld is how many deliveries may wait for their turn in this process,
	// below streams.DeliverMaxPending: about 1 KB each.
	mostHeld = 8192
	// lineBatch is the most messages of a delay line handled at once.
	lineBatch = 256
)

// A database is PostgreSQL's pool. It is an interface for the simulator alone
// (sim_test.go), which runs a Worker through schedules of hours on a database in
// memory: sqlc's queries go through this seam anyway.
type database interface {
	db.DBTX
	Begin(context.Context) (pgx.Tx, error)
}

// A Worker is the step. Any number of replicas may run.
type Worker struct {
	cfg     Config
	log     zerolog.Logger
	js      jetstream.JetStream
	pool    database
	queries *db.Queries
	streams streams.Config
	keyset  *secrets.Keyset
	guard   *egress.Guard
	client  *http.Client
	gate    *gate.Gate[*item]
	lines   map[time.Duration]bool // steps that have a delay line
	now     func() time.Time
	held    held // by id, what the gate holds
	// batches is consume.Batches, but for the simulator, whose broker is in
	// memory: a client's connection can't be.
	batches func(context.Context, jetstream.JetStream, zerolog.Logger, consume.Source, func([]jetstream.Msg)) error
	// unsettled says that PostgreSQL did not take the results in hand. After an
	// outage they go first: the leases of their attempts may have run out.
	unsettled atomic.Bool
	counts    counts
}

// New checks the settings.
func New(cfg Config, d process.Deps) (*Worker, error) {
	if cfg.AttemptTimeout < minAttemptTimeout || cfg.AttemptTimeout > maxAttemptTimeout {
		return nil, fmt.Errorf("ATTEMPT_TIMEOUT: must be %s to %s, not %s", minAttemptTimeout, maxAttemptTimeout, cfg.AttemptTimeout)
	}
	if d.Shutdown > 0 && cfg.AttemptTimeout+settleTime > d.Shutdown {
		return nil, fmt.Errorf("ATTEMPT_TIMEOUT: must be %s shorter than SHUTDOWN_TIMEOUT, which is %s, not %s: or else attempts are cut off and repeated",
			settleTime, d.Shutdown, cfg.AttemptTimeout)
	}
	if cfg.Concurrency < 1 || cfg.Concurrency > 10_000 {
		return nil, fmt.Errorf("DELIVER_CONCURRENCY: must be 1 to 10000, not %d", cfg.Concurrency)
	}
	if cfg.PerEndpoint < 1 || cfg.PerEndpoint > 100 {
		return nil, fmt.Errorf("ENDPOINT_CONCURRENCY: must be 1 to 100, not %d", cfg.PerEndpoint)
	}
	if cfg.DisableAfter < 0 {
		return nil, fmt.Errorf("DISABLE_AFTER: must not be negative, but is %s", cfg.DisableAfter)
	}
	keyset, err := secrets.ParseKeyset(cfg.EncryptionKeyset)
	if err != nil {
		return nil, fmt.Errorf("ENCRYPTION_KEYSET: %w", err)
	}
	guard, err := egress.New(egress.Config{AllowCIDRs: cfg.AllowCIDRs})
	if err != nil {
		return nil, fmt.Errorf("ALLOW_CIDRS: %w", err)
	}
	d.Collect(metrics.Lag(d.JS, streams.Deliveries, streams.First), metrics.Lag(d.JS, streams.Deliveries, streams.Again))
	w := newWorker(cfg, d, d.DB, keyset, guard)
	for step := range w.lines {
		d.Collect(metrics.Lag(d.JS, streams.Deliveries, streams.WaitConsumer(step)))
	}
	return w, nil
}

// newWorker is New once the settings are read, on a database that is given.
func newWorker(cfg Config, d process.Deps, pool database, keyset *secrets.Keyset, guard *egress.Guard) *Worker {
	lines := make(map[time.Duration]bool)
	for _, step := range cfg.Schedule.Steps() {
		lines[step] = true
	}
	return &Worker{
		cfg: cfg, log: d.Log, js: d.JS, pool: pool, queries: db.New(pool), streams: d.Streams,
		keyset: keyset, guard: guard,
		client: guard.Client(0), // each attempt has its own timeout
		gate:   gate.New[*item](gate.Limits{InFlight: cfg.Concurrency, PerEndpoint: cfg.PerEndpoint, Queued: mostHeld}),
		lines:  lines,
		now:    time.Now,
		held:   held{items: make(map[uuid.UUID]*item)},

		batches: consume.Batches,
		counts:  newCounts(d.Registerer()),
	}
}

// Session is how PostgreSQL is to treat the deliverer's sessions: plan each
// statement once. All of them go by primary keys or by one index, so knowing
// their parameters makes no better plan; and on tables with many partitions
// planning a batch of one takes longer than executing it (BenchmarkClaimAndSettle).
func Session() map[string]string {
	return map[string]string{"plan_cache_mode": "force_generic_plan"}
}

// lease is how long a claim holds.
func (w *Worker) lease() time.Duration { return w.cfg.AttemptTimeout + leaseMargin }

// Run delivers until ctx ends; then it claims nothing more, lets the attempts
// in flight finish and settles them.
func (w *Worker) Run(ctx context.Context) error {
	defer w.guard.Close()
	results := make(chan result, settleBatch)
	var settling sync.WaitGroup
	settleCtx, stopSettling := context.WithCancel(context.WithoutCancel(ctx))
	defer stopSettling()
	settling.Go(func() { w.settleAll(settleCtx, results) })
	w.reopen(ctx)

	g, ctx := errgroup.WithContext(ctx)
	for _, lane := range []struct {
		name, filter string
		gate         int
	}{{streams.First, streams.AllFirst, gate.First}, {streams.Again, streams.AllAgain, gate.Again}} {
		source := w.source(streams.LaneConsumer(lane.name, lane.filter), laneBatch)
		g.Go(func() error {
			return w.batches(ctx, w.js, w.log, source, func(msgs []jetstream.Msg) { w.take(ctx, msgs, lane.gate) })
		})
	}
	for step := range w.lines {
		source := w.source(streams.WaitLineConsumer(step), lineBatch)
		g.Go(func() error {
			return w.batches(ctx, w.js, w.log, source, func(msgs []jetstream.Msg) { w.release(ctx, msgs) })
		})
	}
	g.Go(func() error { w.dispatch(ctx, results); return nil })
	g.Go(func() error { w.watch(ctx); return nil })
	err := g.Wait() // the attempts included
	w.giveBack(context.WithoutCancel(ctx))
	close(results)
	// If the database is away now, results are given up after a while: their
	// leases run out.
	giveUp := time.AfterFunc(queryTimeout, stopSettling)
	defer giveUp.Stop()
	settling.Wait()
	return err
}

func (w *Worker) source(consumer jetstream.ConsumerConfig, batch int) consume.Source {
	return consume.Source{Stream: w.streams.DeliveriesStream(), Consumer: consumer, MaxBatch: batch}
}

// attempt makes one attempt and judges it. A panic is a fault of ours: it ends
// this attempt, not the service.
func (w *Worker) attempt(ctx context.Context, it *item) (r result) {
	defer func() {
		if p := recover(); p != nil {
			w.log.Error().Stringer("delivery_id", it.DeliveryID).Any("panic", p).Bytes("stack", debug.Stack()).Msg("attempt panicked")
			r = result{item: it, Response: Response{Outcome: Outcome{Class: classInterrupted, Message: "The attempt was cut off by a fault of ours."}}}
			r.at, r.verdict = w.now(), w.judge(r)
		}
	}()
	failpoint.Hit("deliver claimed")
	failpoint.Soon("deliver sent")
	r = result{item: it, Response: post(ctx, w.client, it.Attempt, w.cfg.AttemptTimeout)}
	failpoint.Hit("deliver answered")
	r.at, r.verdict = w.now(), w.judge(r)
	return r
}

// sent logs an ack that could not be sent. The message comes again, and the
// claim refuses what is done.
func (w *Worker) sent(err error) {
	if err != nil {
		w.log.Debug().Err(err).Msg("ack not sent")
	}
}
