package pgserver

import (
	"context"
	"fmt"
	"net/url"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/rs/zerolog"
)

const (
	// stopTimeout is how long a fast shutdown may take, which writes all dirty
	// pages, before the immediate one that leaves that to the next start.
	stopTimeout = 20 * time.Second
	// quitTimeout bounds an immediate shutdown: the server itself kills children
	// that haven't ended after 5 s.
	quitTimeout = 10 * time.Second
)

// DefaultDatabase is the database of [Server.URL] unless Config names another.
const DefaultDatabase = "cardwire"

// superuser is the only role of a new cluster.
const superuser = "postgres"

// Config says what to start and where.
type Config struct {
	Bin Binaries // what to run, from [Find] or [Ensure]
	// Dir holds all that belongs to the server: data/, the socket's directory
	// run/, and its log postgres.log. It is made when missing and initialised when
	// empty. Root can't run PostgreSQL: started by root, the server runs as user
	// postgres or nobody, which then owns Dir; if that user can't reach Dir,
	// /var/lib/cardwire/<hash of Dir> takes its place, and the log says so.
	Dir string
	// Database is made when missing; URL leads to it. Empty: DefaultDatabase.
	Database string
	// Throwaway trades durability for speed: a crash of the machine destroys the
	// data, one of the server alone does not. For tests only.
	Throwaway bool
	// Settings are further settings of the server, as name=value, such as
	// shared_preload_libraries=pg_stat_statements. The last of a name counts: they win over ours.
	Settings []string
	Log      zerolog.Logger
}

// A Server is one PostgreSQL on one directory. Its methods may be called from
// several goroutines.
type Server struct {
	cluster cluster
	cfg     Config

	mu     sync.Mutex // held while the server starts or stops
	proc   *process   // the current or last run
	unlock func()     // gives Dir up to other processes; nil when it isn't held
}

// Start starts a server and returns once it answers. ctx bounds the start only:
// the server runs until [Server.Stop], or until this process dies.
//
// A server that an earlier, killed process left running on Dir is stopped
// first. While another living process uses Dir, Start fails. When the server
// ends instead of answering, the error quotes its log.
func Start(ctx context.Context, cfg Config) (*Server, error) {
	if cfg.Database == "" {
		cfg.Database = DefaultDatabase
	}
	c, err := locate(ctx, cfg)
	if err != nil {
		return nil, err
	}
	s := &Server{cluster: c, cfg: cfg}
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.start(ctx); err != nil {
		return nil, err
	}
	return s, nil
}

// URL returns how to connect to Config.Database, for libpq and pgx alike:
// postgres://postgres@/cardwire?host=<socket directory>&port=5432. It stays the
// same when the server is started again on the same Dir.
func (s *Server) URL() string { return s.DatabaseURL(s.cfg.Database) }

// DatabaseURL returns how to connect to the database of that name.
func (s *Server) DatabaseURL(name string) string {
	host := strings.ReplaceAll(url.QueryEscape(s.cluster.socketDir), "+", "%20") // to libpq a + is a +
	u := url.URL{Scheme: "postgres", User: url.User(superuser), Path: "/" + name, RawQuery: "host=" + host + "&port=" + port}
	return u.String()
}

// Dir returns where the server's files are: Config.Dir, or what took its place.
func (s *Server) Dir() string { return s.cluster.home }

// PID returns the process id of the current or last run.
func (s *Server) PID() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.proc.pid
}

// Wait returns when the current run has ended: nil after Stop or StopNow, else
// an error that quotes the server's log.
func (s *Server) Wait() error {
	s.mu.Lock()
	p := s.proc
	s.mu.Unlock()
	<-p.done
	if p.stopping.Load() {
		return nil
	}
	return fmt.Errorf("PostgreSQL ended by itself: %w%s", p.err, s.cluster.logTail(p.logStart))
}

// Stop shuts the server down: it ends all sessions, writes what is in memory
// and exits. If that takes longer than 20 s or ctx, it is made to exit at once,
// and the next start recovers the data. Stopping a stopped server does nothing.
func (s *Server) Stop(ctx context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.stop(ctx)
}

// StopNow makes the server exit at once, as a crash would: all sessions break,
// committed data stays, the next start recovers it.
// It takes at most 10 s.
func (s *Server) StopNow() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.stopNow()
}

// Restart starts a server that ended or was stopped again, on the same data and
// URL; one that runs is shut down first.
func (s *Server) Restart(ctx context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.stop(ctx); err != nil {
		return err
	}
	return s.start(ctx)
}

// stop is Stop with s.mu held.
func (s *Server) stop(ctx context.Context) error {
	if err := s.proc.shutdown(ctx.Done(), syscall.SIGINT, stopTimeout); err != nil {
		s.cfg.Log.Warn().Str("dir", s.cluster.home).Msg("PostgreSQL takes too long to shut down: stopping it at once")
		return s.stopNow()
	}
	s.release()
	return nil
}

// stopNow is StopNow with s.mu held.
func (s *Server) stopNow() error {
	if err := s.proc.shutdown(nil, syscall.SIGQUIT, quitTimeout); err != nil {
		return fmt.Errorf("stop PostgreSQL in %s: %w", s.cluster.home, err)
	}
	s.release()
	return nil
}

// release gives up what is held only while the server runs.
func (s *Server) release() {
	if s.unlock == nil {
		return
	}
	s.cluster.removeSockets()
	s.unlock()
	s.unlock = nil
}
