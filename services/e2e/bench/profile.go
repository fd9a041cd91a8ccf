package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/cardwire/cardwire/services/e2e/internal/child"
)

// profileSeconds is how much of a case is profiled, from its beginning.
const profileSeconds = 10

// profilesAt is the address that processes serve their profiles on, if they do.
func (s *stack) profilesAt() string {
	if s.cfg.Profile == "" {
		return ""
	}
	return "127.0.0.1:0"
}

// profile begins to profile the processes of a case. The function returned
// waits for that to end.
func (s *stack) profile(ctx context.Context, t trial) (wait func() error) {
	if s.cfg.Profile == "" {
		return func() error { return nil }
	}
	file := func(name, kind string) string {
		file := fmt.Sprintf("%s-%s-%d-%s-%s", t.scenario, t.name, s.run, name, kind)
		return filepath.Join(s.cfg.Profile, strings.NewReplacer(" ", "-", "/", "-per-").Replace(file))
	}
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return s.plans(ctx, file(postgresName, "plans.log")) })
	for name, c := range s.children {
		if name == "receiver" {
			continue
		}
		for kind, path := range profiles {
			g.Go(func() error { return profile(ctx, c, path, file(name, kind+".pprof")) })
		}
	}
	return g.Wait
}

// plans writes what PostgreSQL logs meanwhile to a file: plans of one in a hundred statements.
func (s *stack) plans(ctx context.Context, file string) error {
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		return err
	}
	log, err := os.Open(filepath.Join(s.postgres.Dir(), "postgres.log"))
	if err != nil {
		return fmt.Errorf("read plans: %w", err)
	}
	defer log.Close()
	if _, err := log.Seek(0, io.SeekEnd); err != nil {
		return fmt.Errorf("read plans: %w", err)
	}
	select {
	case <-time.After(profileSeconds * time.Second):
	case <-ctx.Done():
	}
	f, err := os.Create(file)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = io.Copy(f, log)
	return err
}

// profiles are the kinds, and where net/http/pprof serves them: of the processor, of
// what was allocated, and of waiting for channels and locks.
var profiles = map[string]string{"cpu": "profile", "allocs": "allocs", "block": "block"}

// profile writes a profile of a child to a file.
func profile(ctx context.Context, c *child.Child, path, file string) (err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("profile %s: %w", c.Name, err)
		}
	}()
	var served struct{ Address string }
	if err := c.AwaitLine(ctx, "profiles served", &served); err != nil {
		return err
	}
	url := fmt.Sprintf("http://%s/debug/pprof/%s?seconds=%d", served.Address, path, profileSeconds)
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("answer %s", resp.Status)
	}
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		return err
	}
	f, err := os.Create(file)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = io.Copy(f, resp.Body)
	return err
}
