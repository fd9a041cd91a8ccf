package main

import (
	"context"
	"fmt"
	"strconv"
)

// A scenario is something to measure.
type scenario struct {
	name, about string
	run         func(context.Context, *lab) error
}

// scenarios in the order in which they run.
var scenarios = []scenario{
	{"one", "one endpoint, events published as fast as the stream takes them", one},
	{"latency", "one endpoint at 50 and at 500 events/s", latency},
	{"half-dead", "100 endpoints at a rate, all well, and again with half of them refusing, failing or hanging", halfDead},
}

// one is the throughput of one endpoint.
func one(ctx context.Context, l *lab) error {
	return l.onStack(ctx, nil, func(ctx context.Context, s *stack) error {
		eps, err := s.register(ctx, 1, func(int) string { return s.well + "/0s/one/0" })
		if err != nil {
			return err
		}
		t := trial{
			scenario: "one", name: "flood", endpoint: eps[0],
			load: load{count: l.cfg.count(l.cfg.Events, 100_000), bytes: l.cfg.bytes(512), users: owners(eps)},
		}
		t.want = t.load.count
		_, err = s.try(ctx, t)
		return err
	})
}

// latency is that of one endpoint at two rates, or at the one of --rate.
func latency(ctx context.Context, l *lab) error {
	rates := []int{50, 500}
	if l.cfg.Rate > 0 {
		rates = []int{l.cfg.Rate}
	}
	return l.onStack(ctx, nil, func(ctx context.Context, s *stack) error {
		eps, err := s.register(ctx, 1, func(int) string { return s.well + "/0s/latency/0" })
		if err != nil {
			return err
		}
		for _, rate := range rates {
			t := trial{
				scenario: "latency", name: strconv.Itoa(rate) + "/s", endpoint: eps[0], rate: rate,
				load: load{count: rate * l.cfg.seconds(20), bytes: l.cfg.bytes(512), users: owners(eps)},
			}
			t.want = t.load.count
			if _, err := s.try(ctx, t); err != nil {
				return fmt.Errorf("at %d/s: %w", rate, err)
			}
		}
		return nil
	})
}
