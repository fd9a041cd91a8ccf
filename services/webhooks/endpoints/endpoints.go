// Package endpoints is the endpoints API with the delivery log: where users say
// which events go where, and see what became of them. It documents itself at
// /docs and /openapi.json.
package endpoints

import (
	"context"
	"fmt"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/rs/zerolog"
	"golang.org/x/sync/errgroup"

	"github.com/cardwire/cardwire/events"
	"github.com/cardwire/cardwire/events/outbox"
	"github.com/cardwire/cardwire/services/internal/apikeys"
	"github.com/cardwire/cardwire/services/internal/auth"
	"github.com/cardwire/cardwire/services/internal/egress"
	"github.com/cardwire/cardwire/services/internal/eventtypes"
	"github.com/cardwire/cardwire/services/internal/process"
	"github.com/cardwire/cardwire/services/internal/secrets"
)

// An API is the step. Any number of replicas may run.
type API struct {
	cfg      Config
	log      zerolog.Logger
	store    Store
	verifier *auth.Verifier
	keys     *apikeys.Verifier // of operators
	guard    *egress.Guard
	js       jetstream.JetStream
	relay    *outbox.Relay
	catalog  *eventtypes.Catalog
	now      func() time.Time // for rates
	huma     huma.API
}

// New checks the settings and registers the routes in d.Mux.
func New(cfg Config, d process.Deps) (*API, error) {
	if err := cfg.check(); err != nil {
		return nil, err
	}
	tokens := cfg.auth()
	tokens.Log = d.Log
	verifier, err := auth.New(tokens)
	if err != nil {
		return nil, err
	}
	keys, err := apikeys.NewVerifier(d.DB, d.Log, nil)
	if err != nil {
		return nil, err
	}
	keyset, err := secrets.ParseKeyset(cfg.EncryptionKeyset)
	if err != nil {
		return nil, fmt.Errorf("ENCRYPTION_KEYSET: %w", err)
	}
	guard, err := egress.New(egress.Config{AllowCIDRs: cfg.AllowCIDRs})
	if err != nil {
		return nil, fmt.Errorf("ALLOW_CIDRS: %w", err)
	}
	pub, err := events.NewPublisher(d.NATS)
	if err != nil {
		return nil, err
	}
	catalog, err := eventtypes.Load(cfg.EventTypesFile)
	if err != nil {
		return nil, fmt.Errorf("EVENT_TYPES_FILE: %w", err)
	}
	a := &API{
		catalog: catalog, now: time.Now,
		cfg: cfg, log: d.Log, verifier: verifier, keys: keys, guard: guard, js: d.JS, relay: outbox.NewRelay(d.DB, pub),
		store: Store{DB: d.DB, Keyset: keyset, MaxPerUser: cfg.MaxEndpoints},
	}
	a.huma = newHuma(d.Mux)
	a.huma.UseMiddleware(a.authenticate, a.checkRequest)
	if err := a.routes(); err != nil {
		return nil, err
	}
	if err := serveDocument(d.Mux, a.huma.OpenAPI()); err != nil {
		return nil, err
	}
	return a, nil
}

// Run keeps the keys of tokens fresh, relays the outbox, and deletes old answers
// to Idempotency-Keys, until ctx ends. Requests are served from d.Mux, by whoever serves that.
func (a *API) Run(ctx context.Context) error {
	defer a.guard.Close()
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error {
		a.verifier.Run(ctx)
		return nil
	})
	g.Go(func() error {
		a.pruneAnswers(ctx)
		return nil
	})
	g.Go(func() error {
		err := a.relay.Run(ctx, func(err error) { a.log.Warn().Err(err).Msg("outbox not relayed") })
		if err != nil {
			return fmt.Errorf("relay outbox: %w", err)
		}
		return nil
	})
	return g.Wait()
}

// Store is where the API keeps endpoints, for whoever registers one without HTTP.
func (a *API) Store() Store { return a.store }
