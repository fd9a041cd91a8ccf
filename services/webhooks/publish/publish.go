// Package publish is the step from an HTTP request to events on the stream:
// POST /api/events, for services that don't speak NATS. What it answers 202 the
// stream has confirmed.
package publish

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/rs/zerolog"

	"github.com/cardwire/cardwire/services/internal/apikeys"
	"github.com/cardwire/cardwire/services/internal/clientrate"
	"github.com/cardwire/cardwire/services/internal/eventtypes"
	"github.com/cardwire/cardwire/services/internal/partitions"
	"github.com/cardwire/cardwire/services/internal/process"
	"github.com/cardwire/cardwire/services/internal/retry"
	"github.com/cardwire/cardwire/services/internal/webjson"
	"github.com/cardwire/cardwire/sql/db"
)

// Config is what the step is told.
type Config struct {
	UnknownEventTypes string `env:"UNKNOWN_EVENT_TYPES" default:"refuse" enum:"refuse,accept" help:"What becomes of events of types that EVENT_TYPES_FILE does not declare: refuse or accept."`
	PublishRate       int    `env:"PUBLISH_RATE" default:"100" help:"Requests to POST /api/events that one API key may make per second and at once (up to 100000), of each replica; 0 is no limit."`

	// Settings of other steps of the service.
	EventTypesFile string        `kong:"-"`
	Retention      time.Duration `kong:"-"` // ids must lie within it
}

// AcceptUnknown says whether types may be undeclared.
func (c Config) AcceptUnknown() bool { return c.UnknownEventTypes == "accept" }

const (
	// MaxEvents and MaxBytes bound a request. With its parsed copy a batch takes some
	// 15 MiB while it is worked on.
	MaxEvents = 1000
	MaxBytes  = 5 << 20

	maxRate     = 100_000
	maxLimited  = 10_000           // API keys whose rate is remembered: 2 MB
	workTimeout = 15 * time.Second // of a request, once it is read; within the server's deadline
	dbTimeout   = 5 * time.Second  // of its statements
	retryAfter  = "2"              // seconds, while broker or database are away

	pruneEvery = time.Minute
	pruneRows  = 1000 // of one statement
)

// An API is the step. Any number of replicas may run.
type API struct {
	cfg     Config
	log     zerolog.Logger
	js      jetstream.JetStream
	pool    *pgxpool.Pool
	keys    *apikeys.Verifier
	catalog *eventtypes.Catalog
	keeper  *partitions.Keeper
	rate    *clientrate.Keyed[uuid.UUID] // of each API key; nil is none
	now     func() time.Time
}

// New checks the settings and registers the routes in d.Mux: POST /api/events, and
// GET /openapi/events.json, which describes it.
func New(cfg Config, d process.Deps) (*API, error) {
	if cfg.UnknownEventTypes != "refuse" && cfg.UnknownEventTypes != "accept" {
		return nil, fmt.Errorf("UNKNOWN_EVENT_TYPES: must be refuse or accept, not %q", cfg.UnknownEventTypes)
	}
	if cfg.PublishRate < 0 || cfg.PublishRate > maxRate {
		return nil, fmt.Errorf("PUBLISH_RATE: must be 0 to %d, not %d", maxRate, cfg.PublishRate)
	}
	catalog, err := eventtypes.Load(cfg.EventTypesFile)
	if err != nil {
		return nil, fmt.Errorf("EVENT_TYPES_FILE: %w", err)
	}
	keys, err := apikeys.NewVerifier(d.DB, d.Log, nil)
	if err != nil {
		return nil, err
	}
	a := &API{
		cfg: cfg, log: d.Log, js: d.JS, pool: d.DB, keys: keys, catalog: catalog, now: time.Now,
		keeper: partitions.NewKeeper(d.DB, cfg.Retention, d.Log),
	}
	if cfg.PublishRate > 0 {
		if a.rate, err = clientrate.NewKeyed[uuid.UUID](float64(cfg.PublishRate), cfg.PublishRate, maxLimited); err != nil {
			return nil, err
		}
	}
	document, err := document()
	if err != nil {
		return nil, fmt.Errorf("make openapi/events.json: %w", err)
	}
	d.Mux.Handle("POST /api/events", webjson.WithBodyLimit(MaxBytes, http.HandlerFunc(a.post)))
	d.Mux.HandleFunc("GET /openapi/events.json", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("Cache-Control", "no-cache")
		_, _ = w.Write(document) // the client is gone, there is nobody to tell
	})
	return a, nil
}

// Run forgets names of events that are older than 24 h, until ctx ends. Requests are
// served from d.Mux, by whoever serves that.
func (a *API) Run(ctx context.Context) error {
	for {
		if err := a.prune(ctx); err != nil && ctx.Err() == nil {
			a.log.Warn().Err(err).Msg("old names of events not forgotten")
		}
		if retry.Sleep(ctx, pruneEvery) != nil {
			return nil
		}
	}
}

func (a *API) prune(ctx context.Context) error {
	for {
		bounded, cancel := context.WithTimeout(ctx, dbTimeout)
		n, err := db.New(a.pool).PruneEventNames(bounded, pruneRows)
		cancel()
		if err != nil || n < pruneRows {
			return err
		}
	}
}

// post answers POST /api/events.
func (a *API) post(w http.ResponseWriter, r *http.Request) {
	begun := a.now()
	w.Header().Set("Cache-Control", "no-store")
	key, ok := a.caller(w, r)
	if !ok {
		return
	}
	batch, ok := a.read(w, r, key.ID)
	if !ok {
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), workTimeout)
	defer cancel()
	a.accept(ctx, batch.items)
	status := answer(w, batch)
	tally := map[int]int{}
	for _, it := range batch.items {
		tally[it.status()]++
	}
	a.log.Info().Stringer("key_id", key.ID).Str("key_name", key.Name).Int("events", len(batch.items)).Int("accepted", tally[http.StatusAccepted]).
		Int("not_accepted", tally[http.StatusServiceUnavailable]).Int("status", status).Dur("took_ms", a.now().Sub(begun)).Msg("publish answered")
}

// caller returns the API key of a request; without one that may publish now it
// answers, and ok is false.
func (a *API) caller(w http.ResponseWriter, r *http.Request) (key apikeys.Key, ok bool) {
	key, err := a.keys.Key(r, apikeys.EventsPublish)
	switch {
	case errors.Is(err, apikeys.ErrScope):
		webjson.WriteError(w, http.StatusForbidden, "the API key lacks the scope "+string(apikeys.EventsPublish))
		return key, false
	case errors.Is(err, apikeys.ErrUnavailable):
		a.log.Error().Err(err).Msg("API key not checked")
		w.Header().Set("Retry-After", retryAfter)
		webjson.WriteError(w, http.StatusServiceUnavailable, "the API key can't be checked right now: "+again)
		return key, false
	case err != nil:
		w.Header().Set("WWW-Authenticate", "Bearer")
		webjson.WriteError(w, http.StatusUnauthorized, "Unauthorized")
		return key, false
	}
	if a.rate == nil {
		return key, true
	}
	if wait, ok := a.rate.Allow(key.ID, a.now()); !ok {
		seconds := clientrate.RetryAfter(wait)
		w.Header().Set("Retry-After", seconds)
		webjson.WriteError(w, http.StatusTooManyRequests, "too many requests of this API key: try again in "+seconds+" s, or send batches")
		return key, false
	}
	return key, true
}
