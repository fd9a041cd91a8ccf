// Package process is what every service has in common: configuration, logs,
// connections, health, HTTP, start and stop. A main calls Main; tests and
// `cardwire dev` give the same Deps to the same steps.
package process

import (
	"context"
	"errors"
	"fmt"
	"io"
	stdlog "log"
	"net/http"
	"os"
	"os/signal"
	"runtime"
	"runtime/debug"
	"syscall"
	"time"

	"github.com/alecthomas/kong"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/rs/zerolog"
	"golang.org/x/sync/errgroup"

	"github.com/cardwire/cardwire/events/streams"
	"github.com/cardwire/cardwire/services/internal/retry"
	"github.com/cardwire/cardwire/services/internal/timerslack"
	"github.com/cardwire/cardwire/sql/migrations"
)

// Deps is what a step works with. The connections may be down at any time; they
// come back by themselves.
type Deps struct {
	Log     zerolog.Logger
	NATS    *nats.Conn
	JS      jetstream.JetStream
	DB      *pgxpool.Pool
	Mux     *http.ServeMux // where a step that speaks HTTP registers its routes
	Streams streams.Config // of streams that the step has to create
	// Metrics is where steps register what /metrics tells; nil registers nothing.
	Metrics *prometheus.Registry
	// Shutdown is how long Run may take to finish after its context ended; 0 is
	// no limit.
	Shutdown time.Duration
}

// Registerer is Metrics in the form that promauto takes.
func (d Deps) Registerer() prometheus.Registerer {
	if d.Metrics == nil {
		return nil // not an interface that holds a nil
	}
	return d.Metrics
}

// Collect registers collectors.
func (d Deps) Collect(all ...prometheus.Collector) {
	if d.Metrics != nil {
		d.Metrics.MustRegister(all...)
	}
}

// NewMetrics is a registry with what Go and the system tell of the process.
func NewMetrics() *prometheus.Registry {
	r := prometheus.NewRegistry()
	r.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return r
}

// A Service is one of the commands under services/.
type Service struct {
	Name  string // also the user of nats.conf and the log's "service"
	About string // a sentence for --help
	Addr  string // default of ADDR
	// Session are settings of its sessions with PostgreSQL; nil: none.
	Session map[string]string
}

// oneProcessMemory is what Go may use, in bytes, before it collects garbage
// more often than it needs to.
const oneProcessMemory = 112 << 20

// LimitMemory is for a process that holds the broker and all services: under
// full load it peaked at 132 MB resident with it, at 189 MB without, and was as
// fast. The limit is soft: what is in use may exceed it. The environment
// variable GOMEMLIMIT has precedence.
func LimitMemory() {
	if os.Getenv("GOMEMLIMIT") == "" {
		debug.SetMemoryLimit(oneProcessMemory)
	}
}

// A Step is a part of the pipeline: view, fanout, endpoints, deliver, … Its
// package has a New(Config, Deps) that checks the settings and registers the
// routes but touches no network, so that wrong settings are known at once.
type Step interface {
	// Run works until ctx ends, then finishes what is in flight. An error is a
	// fault that ends the service; dependencies that are away are waited for.
	Run(ctx context.Context) error
}

// Main runs a service: it reads the settings C of its steps and those of Config
// from flags and environment, opens the steps, and runs them until a signal
// comes. It does not return. The first SIGINT or SIGTERM ends the steps'
// context, and they then have SHUTDOWN_TIMEOUT to finish what is in flight; a
// second signal ends the process at once. Exit codes: 0 stopped as told, 1
// failed, 2 wrong settings, 130 ended by the second signal.
func Main[C any](s Service, open func(C, Deps) ([]Step, error)) {
	var cli struct {
		Process Config `embed:"" group:"Process"`
		Step    C      `embed:""`
	}
	parser := kong.Must(&cli, kong.Name(s.Name), kong.Description(s.About), kong.Vars{"addr": s.Addr}, kong.Exit(exitUsage))
	_, err := parser.Parse(os.Args[1:])
	parser.FatalIfErrorf(err)

	slackErr := timerslack.Set(cli.Process.TimerSlack) // first: it may begin this program anew
	QuietLibraries()
	log := NewLogger(os.Stderr, cli.Process.LogLevel).With().Str("service", s.Name).Logger()
	if slackErr != nil {
		log.Info().Err(slackErr).Msg(timerslack.NotSet)
	}
	ctx := StopOnSignal(context.Background(), log, cli.Process.ShutdownTimeout)
	err = Run(ctx, s, cli.Process, log, func(d Deps) ([]Step, error) { return open(cli.Step, d) })
	var wrong *SettingError
	switch {
	case errors.As(err, &wrong):
		fmt.Fprintf(os.Stderr, "%s: %v\nThe settings are listed by --help.\n", s.Name, wrong)
		os.Exit(2)
	case err != nil:
		log.Error().Err(err).Msg("service failed")
		os.Exit(1)
	}
	log.Info().Msg("service stopped")
	os.Exit(0)
}

// A SettingError is a setting that is missing or wrong. Its text names the
// environment variable and the rule.
type SettingError struct{ error }

// Unwrap returns what was wrong.
func (e *SettingError) Unwrap() error { return e.error }

// exitUsage turns kong's exit code for wrong settings (80) into the usual 2.
func exitUsage(code int) {
	if code != 0 {
		code = 2
	}
	os.Exit(code)
}

// NewLogger logs JSON lines to w, from a level on ("info").
func NewLogger(w io.Writer, level string) zerolog.Logger {
	l, err := zerolog.ParseLevel(level)
	if err != nil {
		l = zerolog.InfoLevel
	}
	return zerolog.New(w).Level(l).With().Timestamp().Logger()
}

// QuietLibraries silences the standard library's logger. net/http writes to it what
// a receiver sent that it did not ask for: a stranger's bytes on our stderr.
// Whatever we are to know comes as errors.
func QuietLibraries() { stdlog.SetOutput(io.Discard) }

// StopOnSignal returns a context that the first SIGINT or SIGTERM ends. A
// second signal, or the grace running out, ends the process with code 130 or 1.
func StopOnSignal(parent context.Context, log zerolog.Logger, grace time.Duration) context.Context {
	ctx, cancel := context.WithCancel(parent)
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	go func() { // lives as long as the process
		sig := <-signals
		log.Info().Stringer("signal", sig).Dur("grace_ms", grace).Msg("stopping: finishing what is in flight")
		cancel()
		select {
		case <-signals:
			log.Warn().Msg("second signal: stopped at once")
			os.Exit(130)
		case <-time.After(grace):
			log.Error().Msg("not finished in time: stopped")
			os.Exit(1)
		}
	}()
	return ctx
}

// ballastSize is memory that Run reserves and never touches, so that it costs none:
// it only lets the heap grow by as much more before it is collected. Services at
// work have 5 to 10 MB in use and were collected several times a second. GOGC=400 does as much for
// those, but has a deliverer with 128 MiB of bodies in flight grow to five times that.
const ballastSize = 24 << 20

// Run opens the steps, connects and serves until ctx ends, then waits for the
// steps and for open requests, and closes the connections.
func Run(ctx context.Context, s Service, cfg Config, log zerolog.Logger, open func(Deps) ([]Step, error)) error {
	if err := cfg.Validate(); err != nil {
		return &SettingError{err}
	}
	ballast := make([]byte, ballastSize)
	defer runtime.KeepAlive(ballast)
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)

	pool, err := OpenDB(ctx, cfg.DatabaseURL, s.Name, s.Session)
	if err != nil {
		return err
	}
	defer pool.Close()
	nc, err := ConnectNATS(cfg.NATSURL, s.Name, log, func(err error) {
		cancel(fmt.Errorf("broker connection closed: %w", orUnknown(err))) // changes nothing if we close it
	})
	if err != nil {
		return err
	}
	defer CloseNATS(nc)
	js, err := streams.Open(nc)
	if err != nil {
		return err
	}
	deps := Deps{Log: log, NATS: nc, JS: js, DB: pool, Mux: http.NewServeMux(), Streams: cfg.Streams(), Metrics: NewMetrics(), Shutdown: cfg.ShutdownTimeout}
	steps, err := open(deps)
	if err != nil {
		return &SettingError{err}
	}
	server, err := Listen(cfg.Addr, deps)
	if err != nil {
		return err
	}

	if cfg.PprofAddr != "" {
		if err := ServeProfiles(ctx, cfg.PprofAddr, log); err != nil {
			return errors.Join(&SettingError{err}, server.Close())
		}
	}

	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return server.Serve(ctx) })
	g.Go(func() error {
		if err := awaitSchema(ctx, cfg, log, pool); err != nil {
			return err
		}
		server.Started()
		log.Info().Str("address", server.Addr()).Msg("service started")
		return RunSteps(ctx, steps)
	})
	if err := g.Wait(); err != nil && !errors.Is(err, context.Canceled) {
		return err
	}
	// Steps end without an error whatever ended their context: its cause tells.
	if cause := context.Cause(ctx); !errors.Is(cause, context.Canceled) {
		return cause
	}
	return nil // stopped as told
}

// RunSteps runs steps side by side until ctx ends and all have finished. If one
// fails, the others are told to finish.
func RunSteps(ctx context.Context, steps []Step) error {
	g, ctx := errgroup.WithContext(ctx)
	for _, step := range steps {
		g.Go(func() error { return step.Run(ctx) })
	}
	return g.Wait()
}

// awaitSchema waits until the database answers and has the schema that this
// code needs, and brings it up to date if the settings say so.
func awaitSchema(ctx context.Context, cfg Config, log zerolog.Logger, pool *pgxpool.Pool) error {
	if err := retry.Until(ctx, log, "PostgreSQL", pool.Ping); err != nil {
		return err
	}
	if cfg.Migrate {
		return retry.Until(ctx, log, "database migration", func(ctx context.Context) error {
			return migrations.Up(ctx, cfg.DatabaseURL, log)
		})
	}
	return retry.Until(ctx, log, "database schema", func(ctx context.Context) error {
		pending, err := migrations.Pending(ctx, pool)
		if err == nil && pending {
			err = errors.New("it is older than this program: run cardwire migrate, or set MIGRATE=true")
		}
		return err
	})
}

func orUnknown(err error) error {
	if err == nil {
		return errors.New("no reason given")
	}
	return err
}
