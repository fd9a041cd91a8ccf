package main

import (
	"context"
	"fmt"
	"net/url"
	"strings"
	"time"
)

// A trial is one case of a scenario: a load, and what is measured of it.
type trial struct {
	scenario, name string
	load           load
	rate           int      // events per second; 0: as fast as the stream takes them
	endpoint       endpoint // one of those measured: its group is counted
	want           int      // deliveries to that group
	clients        int      // of the bare limit; 0: bareClients
	unsettled      bool     // the case leaves deliveries pending
}

// groupOf is the group that the receiver counts requests to a URL in.
func groupOf(raw string) string {
	u, err := url.Parse(raw)
	if err != nil {
		return ""
	}
	parts := strings.Split(u.Path, "/")
	return parts[min(2, len(parts)-1)]
}

// try takes a load through the stack and then measures the bare limits.
func (s *stack) try(ctx context.Context, t trial) (result, error) {
	r := result{Scenario: t.scenario, Case: t.name, Run: s.run, Bytes: t.load.bytes, Rate: t.rate, Expected: t.want}
	if err := s.forget(ctx); err != nil {
		return r, err
	}
	m, err := s.meter(ctx)
	if err != nil {
		return r, err
	}
	defer m.stop()
	if t.rate == 0 {
		err = s.tryFlood(ctx, t, &r)
	} else {
		err = s.tryRate(ctx, t, &r)
	}
	if err != nil {
		return r, err
	}
	if r.Costs, err = m.costs(ctx, r.Received); err != nil {
		return r, err
	}
	clients := t.clients
	if clients == 0 {
		clients = bareClients
	}
	if r.Bare, err = s.bare(ctx, t.endpoint, t.load, clients, t.rate); err != nil {
		return r, err
	}
	if t.rate == 0 {
		r.OfPosts, r.OfRows = ratio(r.PerSecond, r.Bare.Posts), ratio(r.PerSecond, r.Bare.Rows)
	}
	s.results = append(s.results, r)
	s.say("%s, %s: %d of %d deliveries in %.1f s", r.Scenario, r.Case, r.Received, r.Expected, r.Seconds)
	return r, nil
}

// tryFlood measures from the first publish until all is received and committed.
func (s *stack) tryFlood(ctx context.Context, t trial, r *result) error {
	begun := time.Now()
	if err := s.flood(ctx, t.load); err != nil {
		return err
	}
	got, err := s.awaitReceived(ctx, groupOf(t.endpoint.url), t.want)
	if err != nil {
		return err
	}
	if !t.unsettled && got.Distinct >= t.want {
		if err := s.awaitSettled(ctx); err != nil {
			return err
		}
	}
	r.Seconds = time.Since(begun).Seconds()
	r.count(got, t.want)
	r.PerSecond = float64(got.Distinct) / r.Seconds
	return nil
}

// tryRate measures latency; deliveries per second are of the time in which
// events were published.
func (s *stack) tryRate(ctx context.Context, t trial, r *result) error {
	begun := time.Now()
	if err := s.publish(ctx, t.load, t.rate); err != nil {
		return err
	}
	r.Seconds = time.Since(begun).Seconds()
	meanwhile, err := s.tallied(ctx, groupOf(t.endpoint.url), false)
	if err != nil {
		return err
	}
	r.PerSecond = float64(meanwhile.Distinct) / r.Seconds
	got, err := s.awaitReceived(ctx, groupOf(t.endpoint.url), t.want)
	if err != nil {
		return err
	}
	r.count(got, t.want)
	r.Latency = newQuantiles(got, t.want)
	return nil
}

func (r *result) count(t tally, want int) {
	r.Received, r.Lost, r.Repeats = t.Distinct, max(0, want-t.Distinct), t.Posts-t.Distinct
}

// compare keeps a ratio of two cases.
func (l *lab) compare(scenario, what string, a, b float64) {
	c := comparison{Scenario: scenario, Run: l.run, What: what, Ratio: ratio(a, b)}
	l.compared = append(l.compared, c)
	l.say("%s: %s: %.2f", c.Scenario, c.What, c.Ratio)
}

// p99 is the 99th percentile in microseconds.
func (r result) p99() float64 {
	if r.Latency == nil {
		return 0
	}
	return float64(r.Latency.P99)
}

// say tells the person who waits how it goes.
func (l *lab) say(format string, args ...any) {
	fmt.Fprintf(l.progress, "bench: "+format+"\n", args...)
}
