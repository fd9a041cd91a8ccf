package process_test

import (
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"github.com/cardwire/cardwire/services/internal/natstest"
	"github.com/cardwire/cardwire/services/internal/process"
	"github.com/cardwire/cardwire/sql/migrations"
	"github.com/cardwire/cardwire/sql/pgtest"
)

func TestMain(m *testing.M) { os.Exit(pgtest.Main(m)) }

// bound turns a hang into a failure.
const bound = 60 * time.Second

func config(addr, natsURL, databaseURL string) process.Config {
	return process.Config{
		Addr: addr, NATSURL: natsURL, DatabaseURL: databaseURL, Migrate: true, ShutdownTimeout: time.Minute,
		StreamReplicas: 1, EventsMaxAge: time.Hour, EventsMaxBytes: 1 << 20,
	}
}

// freeAddr is an address that was free a moment ago.
func freeAddr(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

func TestATransactionThatItsClientForgotIsEnded(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ name, query, want string }{
		{"by default soon enough for the leases of others", "", "8s"},
		{"or as the URL says", "&idle_in_transaction_session_timeout=100", "100ms"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			pool, err := process.OpenDB(t.Context(), pgtest.URL(t)+tt.query, "test", nil)
			if err != nil {
				t.Fatal(err)
			}
			defer pool.Close()
			var got string
			if err := pool.QueryRow(t.Context(), "SHOW idle_in_transaction_session_timeout").Scan(&got); err != nil || got != tt.want {
				t.Errorf("%q, %v; want %q", got, err, tt.want)
			}
		})
	}
}

// A step that serves one route and otherwise waits.
type step struct{ ran chan struct{} }

func (s step) Run(ctx context.Context) error {
	close(s.ran)
	<-ctx.Done()
	return nil
}

// answer gets a path until the status is as wanted, and returns the member
// error of the answer.
func answer(t *testing.T, addr, path string, status int) (sentence string) {
	t.Helper()
	deadline := time.Now().Add(bound)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for range tick.C {
		resp, err := http.Get("http://" + addr + path)
		if err == nil {
			body, readErr := io.ReadAll(resp.Body)
			resp.Body.Close()
			if readErr == nil && resp.StatusCode == status {
				var problem struct{ Error string }
				if err := json.Unmarshal(body, &problem); err != nil {
					t.Fatalf("%s: %s: %v", path, body, err)
				}
				return problem.Error
			}
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s: never %d", path, status)
		}
	}
	return ""
}

func TestAServiceWaitsForItsDependenciesAndSaysSo(t *testing.T) {
	t.Parallel()
	postgres := pgtest.NewServer(t)
	if err := postgres.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	store := t.TempDir()
	broker := natstest.StartIn(t, store, -1)
	natsURL := broker.URL("views")
	broker.Stop()
	u, err := url.Parse(natsURL)
	if err != nil {
		t.Fatal(err)
	}
	port, err := strconv.Atoi(u.Port())
	if err != nil {
		t.Fatal(err)
	}

	addr := freeAddr(t)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	s := step{make(chan struct{})}
	done := make(chan error, 1)
	go func() {
		done <- process.Run(ctx, process.Service{Name: "views"}, config(addr, natsURL, postgres.URL()), zerolog.Nop(),
			func(d process.Deps) ([]process.Step, error) {
				d.Mux.HandleFunc("GET /route", func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "{}") })
				return []process.Step{s}, nil
			})
	}()

	answer(t, addr, "/healthz", 200)
	if got := answer(t, addr, "/readyz", 503); got != "PostgreSQL does not answer." {
		t.Errorf("readyz: %q", got)
	}
	if got := answer(t, addr, "/route", 503); !strings.Contains(got, "starting") {
		t.Errorf("route: %q", got)
	}
	if err := postgres.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	<-s.ran // after the migrations
	answer(t, addr, "/route", 200)
	if got := answer(t, addr, "/readyz", 503); got != "The broker does not answer." {
		t.Errorf("readyz: %q", got)
	}
	broker = natstest.StartIn(t, store, port)
	answer(t, addr, "/readyz", 200)
	if resp, err := http.Get("http://" + addr + "/metrics"); err != nil {
		t.Error(err)
	} else {
		body, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if err != nil || resp.StatusCode != 200 || !strings.Contains(string(body), "go_goroutines") {
			t.Errorf("metrics: status %d, %v, %.200s", resp.StatusCode, err, body)
		}
	}

	// And again, when they go away under it.
	broker.Stop()
	if got := answer(t, addr, "/readyz", 503); got != "The broker does not answer." {
		t.Errorf("readyz: %q", got)
	}
	natstest.StartIn(t, store, port)
	answer(t, addr, "/readyz", 200)
	if err := postgres.StopNow(); err != nil {
		t.Fatal(err)
	}
	if got := answer(t, addr, "/readyz", 503); got != "PostgreSQL does not answer." {
		t.Errorf("readyz: %q", got)
	}
	answer(t, addr, "/healthz", 200)

	cancel()
	if err := <-done; err != nil {
		t.Errorf("stopped as told, but returned %v", err)
	}
}

func TestAServiceWithAnOlderSchemaIsNotReadyAndSaysWhy(t *testing.T) {
	t.Parallel()
	postgres := pgtest.NewServer(t) // an empty database
	addr := freeAddr(t)
	cfg := config(addr, natstest.Start(t).URL("views"), postgres.URL())
	cfg.Migrate = false
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	s := step{make(chan struct{})}
	done := make(chan error, 1)
	go func() {
		done <- process.Run(ctx, process.Service{Name: "views"}, cfg, zerolog.Nop(),
			func(process.Deps) ([]process.Step, error) { return []process.Step{s}, nil })
	}()
	deadline := time.Now().Add(bound)
	for got := ""; got != "The database's schema is older than this program."; got = answer(t, addr, "/readyz", 503) {
		if time.Now().After(deadline) {
			t.Fatalf("readyz: %q", got)
		}
	}
	if err := migrations.Up(ctx, postgres.URL(), zerolog.Nop()); err != nil {
		t.Fatal(err)
	}
	<-s.ran
	answer(t, addr, "/readyz", 200)
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// A supervisor restarts what failed, and leaves alone what stopped as told.
func TestABrokerThatRefusesOurPasswordEndsTheServiceWithAnError(t *testing.T) {
	t.Parallel()
	refused := strings.Replace(natstest.Start(t).URL("views"), "views:views", "views:wrong", 1)
	err := process.Run(t.Context(), process.Service{Name: "views"}, config("127.0.0.1:0", refused, pgtest.URL(t)), zerolog.Nop(),
		func(process.Deps) ([]process.Step, error) { return []process.Step{step{make(chan struct{})}}, nil })
	if err == nil || !strings.Contains(err.Error(), "broker connection closed: ") {
		t.Errorf("ended with %v", err)
	}
}

func TestWrongSettingsAreKnownAtOnce(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() }) // after the parallel rows
	nobody := freeAddr(t)
	for _, tt := range []struct {
		name   string
		change func(*process.Config)
		want   string
	}{
		{"address taken", func(c *process.Config) { c.Addr = l.Addr().String() }, "is taken by another program"},
		{"no address", func(c *process.Config) { c.Addr = "nowhere" }, "listen on nowhere"},
		{"database URL", func(c *process.Config) { c.DatabaseURL = "postgres://x:secret@h:port/" }, "DATABASE_URL: "},
		{"broker URL", func(c *process.Config) { c.NATSURL = "nats://%zz" }, "connect to broker"},
		{"replicas", func(c *process.Config) { c.StreamReplicas = 2 }, "STREAM_REPLICAS: must be 1, 3 or 5, not 2"},
		{"age", func(c *process.Config) { c.EventsMaxAge = time.Minute }, "EVENTS_MAX_AGE: must be at least 1h"},
		{"bytes", func(c *process.Config) { c.EventsMaxBytes = 1 }, "EVENTS_MAX_BYTES: must be at least 1048576"},
		{"profiles for all the world", func(c *process.Config) { c.PprofAddr = "0.0.0.0:0" }, "PPROF_ADDR: must be a loopback address"},
		{"shutdown", func(c *process.Config) { c.ShutdownTimeout = 0 }, "SHUTDOWN_TIMEOUT: must be positive"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			cfg := config("127.0.0.1:0", "nats://"+nobody, "postgres://"+nobody+"/x")
			tt.change(&cfg)
			err := process.Run(t.Context(), process.Service{Name: "views"}, cfg, zerolog.Nop(),
				func(process.Deps) ([]process.Step, error) { return nil, nil })
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want %q in it", err, tt.want)
			}
			if err != nil && strings.Contains(err.Error(), "secret") {
				t.Errorf("%v quotes the password", err)
			}
		})
	}
}
