package pgserver

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"
)

const (
	// startTimeout bounds the time until the server answers. A start takes 0.2 s,
	// but after a crash it first replays up to max_wal_size of its log.
	startTimeout = 2 * time.Minute
	// answerPoll is the pause between two tries to connect.
	answerPoll = 10 * time.Millisecond
	// orphanGrace is how long a start is tried again after a server was killed:
	// until its children notice, they hold the memory that the next one needs.
	orphanGrace = 10 * time.Second
	// orphanPoll is the pause between these tries.
	orphanPoll = 100 * time.Millisecond
)

// start runs the server until it answers; s.mu is held. On failure nothing is
// left running, and nothing is held.
func (s *Server) start(ctx context.Context) (err error) {
	started := time.Now()
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	s.unlock, err = tryLock(filepath.Join(s.cluster.home, "lock"))
	if errors.Is(err, errLocked) {
		return fmt.Errorf("start PostgreSQL in %s: another process uses this directory", s.cluster.home)
	} else if err != nil {
		return fmt.Errorf("start PostgreSQL in %s: %w", s.cluster.home, err)
	}
	s.proc, err = s.launch(ctx)
	if err != nil {
		s.release()
		return fmt.Errorf("start PostgreSQL %s in %s: %w", s.cfg.Bin.Version, s.cluster.home, err)
	}
	if err := s.createDatabase(ctx); err != nil {
		return errors.Join(err, s.stopNow())
	}
	s.cfg.Log.Info().Str("version", s.cfg.Bin.Version).Str("dir", s.cluster.home).Int("pid", s.proc.pid).
		Dur("took_ms", time.Since(started)).Msg("PostgreSQL started")
	return nil
}

// launch prepares the data and runs the server on it.
func (s *Server) launch(ctx context.Context) (*process, error) {
	orphaned, err := s.cluster.stopOrphan(ctx, s.cfg.Log)
	if err != nil {
		return nil, err
	}
	if err := s.cluster.prepare(ctx, s.cfg); err != nil {
		return nil, err
	}
	giveUp := time.Now()
	if orphaned {
		giveUp = giveUp.Add(orphanGrace)
	}
	for {
		proc, err := s.launchOnce(ctx)
		if err == nil || time.Now().After(giveUp) {
			return proc, err
		}
		select {
		case <-ctx.Done():
			return nil, err
		case <-time.After(orphanPoll):
		}
	}
}

// launchOnce runs the server and returns when it answers; when it doesn't, it is
// stopped and the error quotes its log.
func (s *Server) launchOnce(ctx context.Context) (*process, error) {
	c := s.cluster
	log, logStart, err := c.openLog()
	if err != nil {
		return nil, err
	}
	defer log.Close()
	cmd := c.command("postgres", append([]string{"-D", c.data}, settings(c.socketDir, s.cfg)...)...)
	cmd.Stdout, cmd.Stderr = log, log
	proc, err := startProcess(cmd)
	if err != nil {
		return nil, err
	}
	proc.logStart = logStart
	if err := s.awaitAnswer(ctx, proc); err != nil {
		stopErr := proc.shutdown(nil, syscall.SIGQUIT, quitTimeout)
		return nil, errors.Join(fmt.Errorf("%w%s", err, c.logTail(logStart)), stopErr)
	}
	return proc, nil
}

// awaitAnswer polls until the server answers, its process ends, or ctx does.
func (s *Server) awaitAnswer(ctx context.Context, p *process) error {
	for {
		conn, err := pgx.Connect(ctx, s.DatabaseURL("postgres"))
		if err == nil {
			return conn.Close(ctx)
		}
		select {
		case <-p.done:
			return fmt.Errorf("it ended: %w", p.err)
		case <-ctx.Done():
			return fmt.Errorf("it doesn't answer: %w", err)
		case <-time.After(answerPoll):
		}
	}
}

// createDatabase makes Config.Database when it is missing.
func (s *Server) createDatabase(ctx context.Context) error {
	conn, err := pgx.Connect(ctx, s.DatabaseURL("postgres"))
	if err != nil {
		return fmt.Errorf("create database %s: %w", s.cfg.Database, err)
	}
	defer conn.Close(context.WithoutCancel(ctx))
	var exists bool
	err = conn.QueryRow(ctx, "SELECT EXISTS (SELECT FROM pg_database WHERE datname = $1)", s.cfg.Database).Scan(&exists)
	if err == nil && !exists {
		_, err = conn.Exec(ctx, "CREATE DATABASE "+pgx.Identifier{s.cfg.Database}.Sanitize())
	}
	if err != nil {
		return fmt.Errorf("create database %s: %w", s.cfg.Database, err)
	}
	return nil
}
