package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/rs/zerolog"

	"github.com/cardwire/cardwire/events"
	"github.com/cardwire/cardwire/events/streams"
	"github.com/cardwire/cardwire/services/deliverer/deliver"
	"github.com/cardwire/cardwire/services/deliverer/sweep"
	"github.com/cardwire/cardwire/services/internal/broker"
	"github.com/cardwire/cardwire/services/internal/process"
	"github.com/cardwire/cardwire/services/internal/secrets"
	"github.com/cardwire/cardwire/services/webhooks/endpoints"
	"github.com/cardwire/cardwire/services/webhooks/fanout"
	"github.com/cardwire/cardwire/sql/migrations"
	"github.com/cardwire/cardwire/sql/pgserver"
)

// schedule is the default one: no receiver of the bench fails, so nothing waits.
var schedule = deliver.Schedule{30 * time.Second, 5 * time.Minute, 30 * time.Minute}

// A stack is all that is measured, running.
type stack struct {
	cfg      config
	pub      *events.Publisher
	pool     *pgxpool.Pool
	user     uuid.UUID
	url      string
	secret   string
	received atomic.Pointer[sink]
	closers  []func() // in order of opening
}

// stop closes what was opened, the last first.
func (s *stack) stop() {
	for i := len(s.closers) - 1; i >= 0; i-- {
		s.closers[i]()
	}
}

func start(ctx context.Context, cfg config) (s *stack, err error) {
	s = &stack{cfg: cfg, user: uuid.Must(uuid.NewV7())}
	defer func() {
		if err != nil {
			s.stop()
		}
	}()
	dir, err := os.MkdirTemp("", "cardwire-bench-")
	if err != nil {
		return nil, fmt.Errorf("make directory: %w", err)
	}
	s.closers = append(s.closers, func() { _ = os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil { // PostgreSQL may run as another user
		return nil, fmt.Errorf("open directory: %w", err)
	}
	databaseURL, err := s.startPostgres(ctx, filepath.Join(dir, "postgres"))
	if err != nil {
		return nil, err
	}
	b, err := broker.Start(broker.Config{File: cfg.NATSConf, StoreDir: filepath.Join(dir, "nats"), Host: "127.0.0.1", Port: -1, Log: zerolog.Nop()})
	if err != nil {
		return nil, err
	}
	s.closers = append(s.closers, b.Stop)
	s.startReceiver()
	if err := s.startSteps(ctx, b, databaseURL); err != nil {
		return nil, err
	}
	nc, err := process.ConnectNATS(b.URL("publisher"), "publisher", zerolog.Nop(), func(error) {})
	if err != nil {
		return nil, err
	}
	s.closers = append(s.closers, nc.Close)
	s.pub, err = events.NewPublisher(nc)
	return s, err
}

func (s *stack) startPostgres(ctx context.Context, dir string) (url string, err error) {
	bin, err := pgserver.Ensure(ctx, pgserver.Options{Dir: dir})
	if err != nil {
		return "", err
	}
	server, err := pgserver.Start(ctx, pgserver.Config{Bin: bin, Dir: dir, Log: zerolog.Nop()})
	if err != nil {
		return "", err
	}
	s.closers = append(s.closers, func() { _ = server.Stop(context.WithoutCancel(ctx)) })
	if err := migrations.Up(ctx, server.URL(), zerolog.Nop()); err != nil {
		return "", err
	}
	s.pool, err = process.OpenDB(ctx, server.URL(), "bench")
	if err != nil {
		return "", err
	}
	s.closers = append(s.closers, s.pool.Close)
	return server.URL(), nil
}

func (s *stack) startReceiver() {
	s.received.Store(newSink(0))
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.received.Load().receive(r)
		w.WriteHeader(http.StatusNoContent)
	}))
	s.url = server.URL
	s.closers = append(s.closers, server.Close)
}

// startSteps starts what is measured, each service with connections of its own.
func (s *stack) startSteps(ctx context.Context, b *broker.Broker, databaseURL string) error {
	serial, err := secrets.NewKeyset()
	if err != nil {
		return err
	}
	keyset, err := secrets.ParseKeyset(serial)
	if err != nil {
		return err
	}
	for range s.cfg.Endpoints {
		_, s.secret, err = endpoints.Store{DB: s.pool, Keyset: keyset}.Create(ctx,
			endpoints.NewEndpoint{UserID: s.user, URL: s.url, Events: []string{events.CardViewed}})
		if err != nil {
			return err
		}
	}
	webhooks, err := s.deps(ctx, b, "webhooks", databaseURL)
	if err != nil {
		return err
	}
	deliverer, err := s.deps(ctx, b, "deliverer", databaseURL)
	if err != nil {
		return err
	}
	if _, err := streams.EnsureStream(ctx, webhooks.JS, webhooks.Streams.EventsStream()); err != nil {
		return err
	}
	fan, err := fanout.New(fanout.Config{Retention: 24 * time.Hour, FanoutBatch: 500}, webhooks)
	if err != nil {
		return err
	}
	worker, err := deliver.New(deliver.Config{
		EncryptionKeyset: serial, AttemptTimeout: 10 * time.Second, Concurrency: 256, Schedule: schedule,
		AllowCIDRs: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")},
	}, deliverer)
	if err != nil {
		return err
	}
	sweeper, err := sweep.New(sweep.Config{SweepInterval: time.Second, SweepGrace: 5 * time.Second}, deliverer)
	if err != nil {
		return err
	}
	stepCtx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	done := make(chan error, 1)
	go func() { done <- process.RunSteps(stepCtx, []process.Step{fan, worker, sweeper}) }()
	s.closers = append(s.closers, func() {
		cancel()
		if err := <-done; err != nil && !errors.Is(err, context.Canceled) {
			fmt.Fprintln(os.Stderr, "bench: steps ended with:", err)
		}
	})
	return nil
}

func (s *stack) deps(ctx context.Context, b *broker.Broker, service, databaseURL string) (process.Deps, error) {
	// Logged as in production, to a file that is thrown away.
	out, err := os.OpenFile(os.DevNull, os.O_WRONLY, 0)
	if err != nil {
		return process.Deps{}, fmt.Errorf("open log: %w", err)
	}
	s.closers = append(s.closers, func() { _ = out.Close() })
	d := process.Deps{Log: process.NewLogger(out, "info"), Mux: http.NewServeMux(), Streams: streams.DefaultConfig()}
	if d.DB, err = process.OpenDB(ctx, databaseURL, service); err != nil {
		return d, err
	}
	s.closers = append(s.closers, d.DB.Close)
	if d.NATS, err = process.ConnectNATS(b.URL(service), service, d.Log, func(error) {}, b.InProcess()); err != nil {
		return d, err
	}
	s.closers = append(s.closers, d.NATS.Close)
	d.JS, err = streams.Open(d.NATS)
	return d, err
}
