package main

import (
	"context"
	"fmt"

	"golang.org/x/sync/errgroup"
)

// hanging measures what endpoints that never answer cost in memory: a thousand of
// them get events of the largest body there is, all at once, while another gets
// small ones at a rate. (Those are late, as half a gigabyte goes before them.)
func hanging(ctx context.Context, l *lab) error {
	return l.onStack(ctx, nil, func(ctx context.Context, s *stack) error {
		fresh, err := s.register(ctx, 1, 1, func(int) string { return s.well + "/0s/fresh/0" })
		if err != nil {
			return err
		}
		n := l.cfg.count(0, 1000)
		eps, err := s.register(ctx, n, 1, func(i int) string { return fmt.Sprintf("%s/hang/hanging/%d", s.hangs, i) })
		if err != nil {
			return err
		}
		g, ctx := errgroup.WithContext(ctx)
		g.Go(func() error { return s.flood(ctx, newLoad(2*n, maxBytes, owners(eps))) })
		g.Go(func() error {
			_, err := s.atRate(ctx, "hanging", fmt.Sprint(n), fresh, l.cfg.rate(50))
			return err
		})
		return g.Wait()
	})
}
