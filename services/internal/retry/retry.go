// Package retry waits for what is not there yet: a service whose database or
// broker is away waits and says so, instead of dying.
package retry

import (
	"context"
	"math/rand/v2"
	"time"

	"github.com/rs/zerolog"
)

const (
	firstPause = 100 * time.Millisecond
	// MaxPause is the longest pause, and how often the log says that we still wait.
	MaxPause = 5 * time.Second
)

// Until calls fn until it succeeds, with growing pauses of up to 5 s, and logs
// why it waits, at first and then every 5 s. It returns ctx's error if that ends first.
func Until(ctx context.Context, log zerolog.Logger, what string, fn func(context.Context) error) error {
	pause := firstPause
	var logged time.Time
	for failures := 0; ; failures++ {
		err := fn(ctx)
		if err == nil {
			if failures > 0 {
				log.Info().Str("what", what).Int("failures", failures).Msg("wait is over")
			}
			return nil
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if now := time.Now(); now.Sub(logged) >= MaxPause {
			logged = now
			log.Warn().Err(err).Str("what", what).Msg("waiting for a dependency")
		}
		if err := Sleep(ctx, pause); err != nil {
			return err
		}
		pause = min(2*pause, MaxPause)
	}
}

// Sleep waits for d, or until ctx ends, whose error it returns.
func Sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return nil
	}
}

// Jitter spreads a pause over ±10 %, so that replicas don't act in step.
func Jitter(d time.Duration) time.Duration {
	return time.Duration(float64(d) * (0.9 + 0.2*rand.Float64()))
}
