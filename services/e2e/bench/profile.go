package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"

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
	g, ctx := errgroup.WithContext(ctx)
	for name, c := range s.children {
		if s.cfg.Profile == "" || name == "receiver" {
			continue
		}
		for kind, path := range profiles {
			file := strings.NewReplacer(" ", "-", "/", "-per-").Replace(fmt.Sprintf("%s-%s-%d-%s-%s.pprof", t.scenario, t.name, s.run, name, kind))
			g.Go(func() error { return profile(ctx, c, path, filepath.Join(s.cfg.Profile, file)) })
		}
	}
	return g.Wait
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
