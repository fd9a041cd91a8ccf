package dev

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/rs/zerolog"
	"golang.org/x/sync/errgroup"

	"github.com/cardwire/cardwire/services/cardwire/kept"
	"github.com/cardwire/cardwire/services/internal/broker"
	"github.com/cardwire/cardwire/services/internal/process"
	"github.com/cardwire/cardwire/services/internal/secrets"
)

// A dev is one run of the command.
type dev struct {
	cfg     Config
	out     io.Writer // for people: summary and what the sample receiver got
	log     zerolog.Logger
	logFile *logFile
	lock    io.Closer // of the data directory
	begun   time.Time
}

// open checks that the address is free, and takes the data directory.
func open(cfg Config, out, terminal io.Writer) (*dev, error) {
	d := &dev{cfg: cfg, out: out, begun: time.Now()}
	if err := checkAddr(cfg.Addr); err != nil {
		return nil, err
	}
	lock, err := openData(cfg.Data)
	if err != nil {
		return nil, err
	}
	d.lock = lock
	if d.logFile, err = openLog(logPath(cfg.Data)); err != nil {
		return nil, errors.Join(err, lock.Close())
	}
	d.log = newLogger(cfg, d.logFile, terminal)
	return d, nil
}

func (d *dev) close() {
	_ = d.logFile.Close()
	_ = d.lock.Close()
}

// run runs everything until ctx ends, then lets the steps finish what is in
// flight, and closes connections, broker and database in that order. It returns
// nil if it was told to stop.
func (d *dev) run(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	stopping := context.AfterFunc(ctx, func() { fmt.Fprintln(d.out, "\nStopping …") })
	defer stopping()

	err := d.serve(ctx, cancel)
	if cause := context.Cause(ctx); cause != nil && !errors.Is(cause, context.Canceled) {
		return cause // a dependency that is gone for good
	}
	if err != nil && ctx.Err() != nil && errors.Is(err, context.Canceled) {
		err = nil
	}
	if err != nil {
		d.log.Info().Err(err).Msg("dev failed") // info, as the caller shows it
		return err
	}
	d.log.Info().Msg("dev stopped")
	fmt.Fprintln(d.out, "Stopped.")
	return nil
}

func (d *dev) serve(ctx context.Context, fail context.CancelCauseFunc) error {
	s, err := d.secrets()
	if err != nil {
		return err
	}
	db := &database{log: d.log.With().Str("service", "postgresql").Logger()}
	defer db.stop(ctx)
	b, err := d.startBroker(s)
	if err != nil {
		return err
	}
	defer b.Stop()
	if err := db.start(ctx, d.cfg, d.out, fail); err != nil {
		return err
	}
	conns, err := d.connect(ctx, b, s, db.url, fail)
	if err != nil {
		return err
	}
	defer conns.close()

	steps, err := d.steps(conns, s)
	if err != nil {
		return err
	}
	server, err := process.Listen(d.cfg.Addr, conns.views)
	if err != nil {
		return err
	}
	defer server.Close()
	addr := reachable(server.Addr())
	live, err := d.seed(ctx, conns, s, addr)
	if err != nil {
		return err
	}

	// The steps stop first: attempts in flight may lead to our own receiver.
	serving, stopServing := context.WithCancel(context.WithoutCancel(ctx))
	defer stopServing()
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return server.Serve(serving) })
	g.Go(func() error {
		defer stopServing()
		server.Started()
		d.log.Info().Str("address", server.Addr()).Dur("took_ms", time.Since(d.begun)).Msg("dev started")
		if err := d.summarize(addr, b.Address(), db, s, live); err != nil {
			return err
		}
		return process.RunSteps(ctx, steps)
	})
	return g.Wait()
}

// A settings is what the services and their users share and keep secret.
type settings struct {
	jwtSecret string
	keyset    string            // as it stands in ENCRYPTION_KEYSET
	passwords map[string]string // by user of nats.conf
}

func (d *dev) secrets() (s settings, err error) {
	if s.jwtSecret, err = kept.Ensure(d.cfg.Data, kept.JWTSecret, randomText); err != nil {
		return settings{}, err
	}
	if s.keyset, err = kept.Ensure(d.cfg.Data, kept.EncryptionKeyset, secrets.NewKeyset); err != nil {
		return settings{}, err
	}
	s.passwords = make(map[string]string)
	for _, user := range broker.Users {
		if s.passwords[user], err = kept.Ensure(d.cfg.Data, kept.BrokerPassword(user), randomText); err != nil {
			return settings{}, err
		}
	}
	return s, nil
}

func (d *dev) startBroker(s settings) (*broker.Broker, error) {
	file := d.cfg.NATSConf
	if file == "" {
		var err error
		if file, err = findNATSConf(); err != nil {
			return nil, err
		}
	}
	store := filepath.Join(d.cfg.Data, "nats")
	if err := os.MkdirAll(store, 0o700); err != nil {
		return nil, fmt.Errorf("make the broker's store: %w", err)
	}
	b, err := broker.Start(broker.Config{
		File: file, StoreDir: store, Port: d.cfg.NATSPort, Passwords: s.passwords,
		Log: d.log.With().Str("service", "broker").Logger(),
	})
	if errors.Is(err, syscall.EADDRINUSE) {
		return nil, fmt.Errorf("%w: another program has that port; stop it, or set NATS_PORT (--nats-port) to a free one, or to -1 for any", err)
	}
	return b, err
}
