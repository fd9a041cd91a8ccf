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

// scenarios in the order in which they run. Each case has fresh streams and a
// fresh database, unless it says otherwise.
var scenarios = []scenario{
	{"one", "one endpoint, events published as fast as the stream takes them", one},
	{"fanout", "the same with five endpoints for each event", fanOut},
	{"slow", "200 endpoints that take 50 ms to answer", slow},
	{"big", "bodies of 64 KiB", big},
	{"latency", "one endpoint at 50 and at 500 events/s", latency},
	{"endpoints", "one endpoint and 10,000 at the same rate", manyEndpoints},
	{"half-dead", "100 endpoints at a rate, all well, and again with half of them refusing, failing or hanging", halfDead},
	{"retries", "latency while none and while 200,000 other deliveries wait for their retries", retries},
	{"hanging", "memory while 1,000 endpoints get events of 256 KiB and never answer", hanging},
	{"views", "pages read as fast as the views service serves them, with their deliveries", views},
	{"history", "one, with a million old deliveries (see --rows)", history},
	{"replay", "latency alone and beside a replay of 100,000, and how fast replays are without a limit (see --rows)", replay},
}

// A flood is a case in which events are published as fast as the stream takes them.
type flood struct {
	scenario           string
	endpoints, perUser int
	behaviour          string // of the receiver
	events, bytes      int    // unless a flag says otherwise
	clients            int    // see trial
}

func (f flood) run(ctx context.Context, l *lab) error {
	return l.onStack(ctx, nil, func(ctx context.Context, s *stack) error {
		eps, err := s.register(ctx, f.endpoints, f.perUser, func(i int) string {
			return fmt.Sprintf("%s/%s/%s/%d", s.well, f.behaviour, f.scenario, i)
		})
		if err != nil {
			return err
		}
		_, err = s.try(ctx, f.trial(l.cfg, eps))
		return err
	})
}

func (f flood) trial(cfg config, eps []endpoint) trial {
	l := newLoad(cfg.count(cfg.Events, f.events), cfg.bytes(f.bytes), owners(eps))
	return trial{scenario: f.scenario, name: "flood", load: l, endpoint: eps[0], want: l.count * f.perUser, clients: f.clients}
}

// theOne is one endpoint with all events.
func theOne(scenario string) flood {
	return flood{scenario: scenario, endpoints: 1, perUser: 1, behaviour: "0s", events: 100_000, bytes: 512}
}

func one(ctx context.Context, l *lab) error { return theOne("one").run(ctx, l) }

func fanOut(ctx context.Context, l *lab) error {
	return flood{scenario: "fanout", endpoints: 5, perUser: 5, behaviour: "0s", events: 20_000, bytes: 512}.run(ctx, l)
}

func slow(ctx context.Context, l *lab) error {
	return flood{scenario: "slow", endpoints: 200, perUser: 1, behaviour: "50ms", events: 20_000, bytes: 512, clients: 256}.run(ctx, l)
}

func big(ctx context.Context, l *lab) error {
	return flood{scenario: "big", endpoints: 1, perUser: 1, behaviour: "0s", events: 5_000, bytes: 64 << 10}.run(ctx, l)
}

// atRate is a case in which events are published to endpoints at a rate.
func (s *stack) atRate(ctx context.Context, scenario, name string, eps []endpoint, rate int) (result, error) {
	l := newLoad(rate*s.cfg.seconds(20), s.cfg.bytes(512), owners(eps))
	r, err := s.try(ctx, trial{scenario: scenario, name: name, load: l, endpoint: eps[0], rate: rate, want: l.count})
	if err != nil {
		return r, fmt.Errorf("%s: %w", name, err)
	}
	return r, nil
}

// latency is that of one endpoint at two rates, or at the one of --rate.
func latency(ctx context.Context, l *lab) error {
	rates := []int{50, 500}
	if l.cfg.Rate > 0 {
		rates = []int{l.cfg.Rate}
	}
	return l.onStack(ctx, nil, func(ctx context.Context, s *stack) error {
		eps, err := s.register(ctx, 1, 1, func(int) string { return s.well + "/0s/latency/0" })
		if err != nil {
			return err
		}
		for _, rate := range rates {
			if _, err := s.atRate(ctx, "latency", strconv.Itoa(rate)+"/s", eps, rate); err != nil {
				return err
			}
		}
		return nil
	})
}

// manyEndpoints is what the number of endpoints costs.
func manyEndpoints(ctx context.Context, l *lab) error {
	var results [2]result
	for i, n := range [...]int{1, l.cfg.count(0, 10_000)} {
		err := l.onStack(ctx, nil, func(ctx context.Context, s *stack) error {
			eps, err := s.register(ctx, n, 1, func(i int) string { return fmt.Sprintf("%s/0s/endpoints/%d", s.well, i) })
			if err != nil {
				return err
			}
			results[i], err = s.atRate(ctx, "endpoints", strconv.Itoa(n), eps, l.cfg.rate(500))
			return err
		})
		if err != nil {
			return err
		}
	}
	l.compare(results[1], results[0])
	return nil
}
