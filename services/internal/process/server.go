package process

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/cardwire/cardwire/services/internal/webjson"
	"github.com/cardwire/cardwire/sql/migrations"
)

// HTTP limits.
const (
	headerTimeout = 5 * time.Second  // to send the request's headers
	readTimeout   = 20 * time.Second // to send the whole request
	writeTimeout  = 30 * time.Second // to take the answer
	idleTimeout   = 60 * time.Second // of a kept connection
	maxHeader     = 32 << 10         // bytes
	readyTimeout  = time.Second      // for a dependency to answer /readyz
	drainTimeout  = 20 * time.Second // for open requests when stopping; within SHUTDOWN_TIMEOUT
)

// maxScrapes bounds /metrics at once: it asks PostgreSQL and the broker.
const maxScrapes = 4

// early are the paths that are served before the service has started.
var early = map[string]bool{"/healthz": true, "/readyz": true, "/metrics": true}

// A Server serves what the steps registered in Deps.Mux, /healthz, /readyz and
// /metrics.
type Server struct {
	listener net.Listener
	deps     Deps
	started  atomic.Bool
	stopping atomic.Bool
}

// Listen takes the address, but serves nothing yet. A taken address is an
// error that says so.
func Listen(addr string, deps Deps) (*Server, error) {
	l, err := net.Listen("tcp", addr)
	if errors.Is(err, syscall.EADDRINUSE) {
		return nil, fmt.Errorf("address %s is taken by another program: stop that, or set ADDR to a free address such as 127.0.0.1:0", addr)
	}
	if err != nil {
		return nil, fmt.Errorf("listen on %s: %w", addr, err)
	}
	return &Server{listener: l, deps: deps}, nil
}

// Addr is the address served, with the port that was chosen if 0 was asked for.
func (s *Server) Addr() string { return s.listener.Addr().String() }

// Close gives the address back. It is for a server that is never to serve.
func (s *Server) Close() error { return s.listener.Close() }

// Started lets requests through to the steps. Before, they get a 503.
func (s *Server) Started() { s.started.Store(true) }

// Serve answers requests until ctx ends, then lets open ones finish.
func (s *Server) Serve(ctx context.Context) error {
	server := &http.Server{
		Handler:           s.handler(),
		ReadHeaderTimeout: headerTimeout,
		ReadTimeout:       readTimeout,
		WriteTimeout:      writeTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHeader,
	}
	served := make(chan error, 1)
	go func() { served <- server.Serve(s.listener) }()
	select {
	case err := <-served:
		return fmt.Errorf("serve http: %w", err)
	case <-ctx.Done():
	}
	s.stopping.Store(true)
	stopCtx, cancel := context.WithTimeout(context.WithoutCancel(ctx), drainTimeout)
	defer cancel()
	if err := server.Shutdown(stopCtx); err != nil {
		s.deps.Log.Warn().Err(err).Msg("requests cut off")
		_ = server.Close()
	}
	<-served
	return nil
}

func (s *Server) handler() http.Handler {
	s.deps.Mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) {
		webjson.Write(w, http.StatusOK, map[string]string{"status": "alive"})
	})
	s.deps.Mux.HandleFunc("GET /readyz", s.ready)
	if s.deps.Metrics != nil {
		s.deps.Mux.Handle("GET /metrics", promhttp.HandlerFor(s.deps.Metrics, promhttp.HandlerOpts{MaxRequestsInFlight: maxScrapes}))
	}
	routes := webjson.Handler(s.deps.Mux, s.deps.Log)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !s.started.Load() && !early[r.URL.Path] {
			w.Header().Set("Retry-After", "1")
			webjson.WriteError(w, http.StatusServiceUnavailable, "The service is starting: it waits for its dependencies.")
			return
		}
		routes.ServeHTTP(w, r)
	})
}

// ready answers 200 if the dependencies answer, or else 503 with a sentence.
func (s *Server) ready(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithTimeout(r.Context(), readyTimeout)
	defer cancel()
	sentence := ""
	switch {
	case s.stopping.Load():
		sentence = "The service is stopping."
	case s.deps.DB.Ping(ctx) != nil:
		sentence = "PostgreSQL does not answer."
	case !s.deps.NATS.IsConnected() || s.deps.NATS.FlushWithContext(ctx) != nil:
		sentence = "The broker does not answer."
	case !s.started.Load() && s.schemaBehind(ctx):
		sentence = "The database's schema is older than this program."
	case !s.started.Load():
		sentence = "The service is starting."
	default:
		webjson.Write(w, http.StatusOK, map[string]string{"status": "ready"})
		return
	}
	webjson.WriteError(w, http.StatusServiceUnavailable, sentence)
}

// schemaBehind says whether the service waits for migrations.
func (s *Server) schemaBehind(ctx context.Context) bool {
	pending, err := migrations.Pending(ctx, s.deps.DB)
	return err == nil && pending
}
