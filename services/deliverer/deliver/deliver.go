// Package deliver is the step from delivery to outcome: claim, POST, settle.
//
// A claim in PostgreSQL precedes each POST and writes the attempt's row; the
// result is committed before the message is acked. A crash at any point costs a
// repeat or a delay.
package deliver

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/rs/zerolog"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sync/semaphore"

	"github.com/cardwire/cardwire/events/streams"
	"github.com/cardwire/cardwire/services/internal/consume"
	"github.com/cardwire/cardwire/services/internal/egress"
	"github.com/cardwire/cardwire/services/internal/process"
	"github.com/cardwire/cardwire/services/internal/retry"
	"github.com/cardwire/cardwire/services/internal/secrets"
	"github.com/cardwire/cardwire/sql/db"
)

// Config is what the deliverer is told.
type Config struct {
	EncryptionKeyset string         `env:"ENCRYPTION_KEYSET" help:"Keyset that opens the endpoints' secrets, the same as the webhooks service has. Required. Make one with: cardwire keys new"`
	AttemptTimeout   time.Duration  `env:"ATTEMPT_TIMEOUT" default:"10s" help:"How long one attempt may take, from before the connection to the end of the answer (100ms to 30s)."`
	Schedule         Schedule       `env:"RETRY_SCHEDULE" default:"30s,5m,30m" help:"Pauses after the first, second, … failure. One attempt more than it has steps; each step up to 24h."`
	Concurrency      int            `env:"DELIVER_CONCURRENCY" default:"256" help:"Most attempts in flight at once (1 to 10000)."`
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
	// lineBatch is the most messages of a delay line handled at once.
	lineBatch = 256
)

// A Worker is the step. Any number of replicas may run.
type Worker struct {
	cfg     Config
	log     zerolog.Logger
	js      jetstream.JetStream
	pool    *pgxpool.Pool
	queries *db.Queries
	streams streams.Config
	keyset  *secrets.Keyset
	guard   *egress.Guard
	client  *http.Client
	slots   *semaphore.Weighted // one per attempt in flight; first come, first served, so both lanes get their share
	now     func() time.Time
	// unsettled says that PostgreSQL did not take the results in hand. After an
	// outage they go first: the leases of their attempts may have run out.
	unsettled atomic.Bool
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
	keyset, err := secrets.ParseKeyset(cfg.EncryptionKeyset)
	if err != nil {
		return nil, fmt.Errorf("ENCRYPTION_KEYSET: %w", err)
	}
	guard, err := egress.New(egress.Config{AllowCIDRs: cfg.AllowCIDRs})
	if err != nil {
		return nil, fmt.Errorf("ALLOW_CIDRS: %w", err)
	}
	return &Worker{
		cfg: cfg, log: d.Log, js: d.JS, pool: d.DB, queries: db.New(d.DB), streams: d.Streams,
		keyset: keyset, guard: guard,
		client: guard.Client(0), // each attempt has its own timeout
		slots:  semaphore.NewWeighted(int64(cfg.Concurrency)),
		now:    time.Now,
	}, nil
}

// lease is how long a claim holds.
func (w *Worker) lease() time.Duration { return w.cfg.AttemptTimeout + leaseMargin }

// Run delivers until ctx ends; then it claims nothing more, lets the attempts
// in flight finish and settles them.
func (w *Worker) Run(ctx context.Context) error {
	defer w.guard.Close()
	results := make(chan result, settleBatch)
	var attempts, settling sync.WaitGroup
	settleCtx, stopSettling := context.WithCancel(context.WithoutCancel(ctx))
	defer stopSettling()
	settling.Go(func() { w.settleAll(settleCtx, results) })

	var g errgroup.Group
	for _, lane := range []struct{ name, filter string }{{streams.First, streams.AllFirst}, {streams.Again, streams.AllAgain}} {
		source := w.source(streams.LaneConsumer(lane.name, lane.filter, w.lease()), claimBatch)
		g.Go(func() error {
			return consume.Batches(ctx, w.js, w.log, source, func(msgs []jetstream.Msg) {
				w.take(ctx, msgs, &attempts, results)
			})
		})
	}
	for _, step := range w.cfg.Schedule.Steps() {
		source := w.source(streams.WaitLineConsumer(step), lineBatch)
		g.Go(func() error {
			return consume.Batches(ctx, w.js, w.log, source, func(msgs []jetstream.Msg) { w.release(ctx, msgs) })
		})
	}
	err := g.Wait()
	attempts.Wait()
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

// take claims messages as slots become free and starts their attempts.
func (w *Worker) take(ctx context.Context, msgs []jetstream.Msg, attempts *sync.WaitGroup, results chan<- result) {
	for len(msgs) > 0 {
		n := w.acquire(ctx, len(msgs))
		if n == 0 { // stopping: another replica gets them at once
			for _, m := range msgs {
				w.sent(m.Nak())
			}
			return
		}
		started := w.start(ctx, msgs[:n], attempts, results)
		w.slots.Release(int64(n - started))
		msgs = msgs[n:]
	}
}

// acquire waits for a slot and takes up to most of them, as many as are free.
// It returns 0 if ctx ends first.
func (w *Worker) acquire(ctx context.Context, most int) (n int) {
	if w.slots.Acquire(ctx, 1) != nil {
		return 0
	}
	for n = 1; n < most && w.slots.TryAcquire(1); n++ {
	}
	return n
}

// start claims messages and starts an attempt for each that was claimed. It
// returns how many: each frees its slot when it ends.
func (w *Worker) start(ctx context.Context, msgs []jetstream.Msg, attempts *sync.WaitGroup, results chan<- result) int {
	var work []claimed
	var begun time.Time                  // the leases are younger than this
	finish := context.WithoutCancel(ctx) // what was begun is finished
	err := retry.Until(ctx, w.log, "PostgreSQL to claim deliveries", func(context.Context) (err error) {
		if w.unsettled.Load() {
			return errors.New("results are to be taken first")
		}
		begun = time.Now()
		work, err = w.claim(finish, msgs)
		return err
	})
	if err == nil {
		err = w.bodies(finish, work)
		if err == nil && time.Since(begun) > leaseMargin/2 {
			err = errors.New("claiming took so long that an attempt could outlast its lease")
		}
		if err != nil {
			// Claimed, but not to be attempted: the leases run out.
			w.log.Error().Err(err).Int("deliveries", len(work)).Msg("claimed deliveries given up")
		}
	}
	if err != nil {
		return 0
	}
	for _, c := range work {
		attempts.Go(func() {
			defer w.slots.Release(1)
			results <- w.attempt(finish, c)
		})
	}
	return len(work)
}

// attempt makes one attempt and judges it. A panic is a fault of ours: it ends
// this attempt, not the service.
func (w *Worker) attempt(ctx context.Context, c claimed) (r result) {
	defer func() {
		if p := recover(); p != nil {
			w.log.Error().Stringer("delivery_id", c.DeliveryID).Any("panic", p).Bytes("stack", debug.Stack()).Msg("attempt panicked")
			r = result{claimed: c, Response: Response{Outcome: Outcome{Class: classInterrupted, Message: "The attempt was cut off by a fault of ours."}}}
			r.verdict = judge(w.cfg.Schedule, c.Attempt, r.Outcome, random)
		}
	}()
	r = result{claimed: c, Response: post(ctx, w.client, c.Attempt, w.cfg.AttemptTimeout)}
	r.verdict = judge(w.cfg.Schedule, c.Attempt, r.Outcome, random)
	return r
}

// sent logs an ack that could not be sent. The message comes again, and the
// claim refuses what is done.
func (w *Worker) sent(err error) {
	if err != nil {
		w.log.Debug().Err(err).Msg("ack not sent")
	}
}
