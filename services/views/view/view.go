// Package view is the step from HTTP request to event. It serves profiles and
// cards, publishes card.viewed for each view by anybody but the owner, and
// contact.saved when a user saves a card. It also writes card_views, from the
// stream and not in the request.
//
// A page is served whether or not its view could be accepted; a 200 means that
// the stream or the outbox has the view, or that an error line tells why not.
package view

import (
	"context"
	"fmt"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/rs/zerolog"
	"golang.org/x/sync/errgroup"

	"github.com/cardwire/cardwire/events"
	"github.com/cardwire/cardwire/events/outbox"
	"github.com/cardwire/cardwire/events/streams"
	"github.com/cardwire/cardwire/services/internal/auth"
	"github.com/cardwire/cardwire/services/internal/clientrate"
	"github.com/cardwire/cardwire/services/internal/consume"
	"github.com/cardwire/cardwire/services/internal/metrics"
	"github.com/cardwire/cardwire/services/internal/process"
	"github.com/cardwire/cardwire/sql/db"
)

// Limits of the step.
const (
	// queryTimeout bounds reading a page and saving a contact. Either takes
	// under a millisecond; a request that waits longer than this is better told
	// to come again than kept.
	queryTimeout = 2 * time.Second

	// outboxTimeout bounds the insert of a view that the broker did not take: a
	// page waits for PUBLISH_TIMEOUT and this at most. One insert takes under a
	// millisecond; the rest is for a busy pool.
	outboxTimeout = 500 * time.Millisecond

	// writeTimeout bounds one insert of view rows, a few ms for a full batch: a
	// try that hangs is followed by another.
	writeTimeout = 5 * time.Second

	// maxRows is the most rows written in one insert: PostgreSQL takes some
	// 100,000 rows/s at 500 (measured), and more rows gain little.
	maxRows = 500

	// linger is how long a batch of view rows waits for more of them: nobody waits
	// for rows, and at 500 views/s each statement writes 100 instead of one or two.
	linger = 200 * time.Millisecond

	// maxClients is how many client addresses the rate limit remembers, at some
	// 200 bytes each. Fewer, and whoever has many addresses gets more requests.
	maxClients = 50_000
)

// A View is the step. Any number of replicas may run.
type View struct {
	cfg     Config
	log     zerolog.Logger
	nats    *nats.Conn
	js      jetstream.JetStream
	pool    *pgxpool.Pool
	db      *db.Queries
	streams streams.Config

	verifier *auth.Verifier
	hasher   hasher
	pages    *cache
	pub      *events.Publisher
	relay    *outbox.Relay
	silence  silence      // of the broker
	lost     atomic.Int64 // views that neither stream nor outbox took
	counts   counts
}

// New checks the settings and registers the routes.
func New(cfg Config, d process.Deps) (*View, error) {
	if err := cfg.check(); err != nil {
		return nil, err
	}
	tokens := cfg.auth()
	tokens.Log = d.Log
	verifier, err := auth.New(tokens)
	if err != nil {
		return nil, err
	}
	key, err := cfg.hashKey()
	if err != nil {
		return nil, err
	}
	pub, err := events.NewPublisher(d.NATS)
	if err != nil {
		return nil, err
	}
	v := &View{
		cfg: cfg, log: d.Log, nats: d.NATS, js: d.JS, pool: d.DB, db: db.New(d.DB), streams: d.Streams,
		verifier: verifier, hasher: hasher(key), pub: pub, relay: outbox.NewRelay(d.DB, pub),
		counts: newCounts(d.Registerer()),
	}
	d.Collect(metrics.Lag(d.JS, streams.Events, streams.CardViews))
	if v.pages, err = newCache(cfg.ProfileCacheSize, cfg.ProfileCacheTTL, v.readPage); err != nil {
		return nil, err
	}
	return v, v.route(d.Mux)
}

// route registers the routes, each held to the rate per client address, which
// they share.
func (v *View) route(mux *http.ServeMux) error {
	limit := func(h http.Handler) http.Handler { return h }
	if v.cfg.ViewsRate > 0 {
		limiter, err := clientrate.New(v.cfg.ViewsRate, v.cfg.ViewsBurst, maxClients)
		if err != nil {
			return err
		}
		limit = func(h http.Handler) http.Handler { return limiter.Handler(v.cfg.TrustedProxies, h) }
	}
	mux.Handle("GET /api/u/{username}", limit(http.HandlerFunc(v.getProfile)))
	mux.Handle("GET /api/u/{username}/card/{cardId}", limit(http.HandlerFunc(v.getCard)))
	mux.Handle("POST /api/cards/{cardId}/save", limit(http.HandlerFunc(v.postSave)))
	return nil
}

// Run writes view rows, relays the outbox and keeps the keys of tokens fresh,
// until ctx ends.
func (v *View) Run(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error {
		v.verifier.Run(ctx)
		return nil
	})
	g.Go(func() error {
		source := consume.Source{Stream: v.streams.EventsStream(), Consumer: streams.CardViewsConsumer(), MaxBatch: maxRows, Linger: linger}
		return consume.Batches(ctx, v.js, v.log, source, func(msgs []jetstream.Msg) { v.writeRows(ctx, msgs) })
	})
	g.Go(func() error {
		err := v.relay.Run(ctx, func(err error) { v.log.Warn().Err(err).Msg("outbox not relayed") })
		if err != nil {
			return fmt.Errorf("relay outbox: %w", err)
		}
		return nil
	})
	return g.Wait()
}
