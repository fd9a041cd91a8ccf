package main

import (
	"context"
	"fmt"
	"time"
)

// A trial is one case of a scenario: a load, and what is measured of it.
type trial struct {
	scenario, name string
	load           load
	rate           int      // events per second; 0: as fast as the stream takes them
	endpoint       endpoint // one of those measured: its group is counted
	want           int      // deliveries to that group
	all            int      // deliveries, those to others included; 0: want
	clients        int      // of the bare limit; 0: bareClients
	others         []string // groups whose requests are told too
	// flood publishes the load if it is not the bench that does.
	flood func(context.Context) error
}

// try takes a load through the stack and then measures the bare limits.
func (s *stack) try(ctx context.Context, t trial) (result, error) {
	r := result{Scenario: t.scenario, Case: t.name, Run: s.run, Bytes: t.load.bytes, Rate: t.rate, Expected: t.want}
	if err := s.forget(ctx); err != nil {
		return r, err
	}
	if err := s.resetStatements(ctx); err != nil {
		return r, err
	}
	m, err := s.meter(ctx)
	if err != nil {
		return r, err
	}
	defer m.stop()
	profiled := s.profile(ctx, t)
	if t.rate == 0 {
		err = s.tryFlood(ctx, t, &r)
	} else {
		err = s.tryRate(ctx, t, &r)
	}
	if err != nil {
		return r, err
	}
	for _, group := range t.others {
		got, err := s.tallied(ctx, group, false)
		if err != nil {
			return r, err
		}
		s.note(t.scenario, t.name+": POSTs to "+group+" receivers", float64(got.Posts))
	}
	if r.Costs, err = m.costs(ctx, max(t.all, t.want)); err != nil {
		return r, err
	}
	if err := s.printStatements(ctx, max(t.all, t.want)); err != nil {
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
	if err := profiled(); err != nil {
		return r, err
	}
	s.results = append(s.results, r)
	s.say("%s, %s: %d of %d deliveries in %.1f s", r.Scenario, r.Case, r.Received, r.Expected, r.Seconds)
	return r, nil
}

// tryFlood measures from the first publish until all is received and committed.
func (s *stack) tryFlood(ctx context.Context, t trial, r *result) error {
	flood := t.flood
	if flood == nil {
		flood = func(ctx context.Context) error { return s.flood(ctx, t.load) }
	}
	begun := time.Now()
	if err := flood(ctx); err != nil {
		return err
	}
	got, err := s.awaitReceived(ctx, t.endpoint.group(), t.want, s.cfg.Limit)
	if err != nil {
		return err
	}
	if got.Distinct >= t.want {
		if err := s.awaitSettled(ctx); err != nil {
			return err
		}
	}
	r.Seconds = time.Since(begun).Seconds()
	r.count(got, t.want)
	r.PerSecond = float64(got.Distinct) / r.Seconds
	return nil
}

// afterwards is how long what was published last may take and still counts as
// delivered while events were published.
const afterwards = time.Second

// tryRate measures latency. Deliveries per second are those of the time in
// which events were published, and a bit.
func (s *stack) tryRate(ctx context.Context, t trial, r *result) error {
	begun := time.Now()
	if err := s.publish(ctx, t.load, t.rate); err != nil {
		return err
	}
	r.Seconds = time.Since(begun).Seconds()
	group := t.endpoint.group()
	meanwhile, err := s.awaitReceived(ctx, group, t.want, afterwards)
	if err != nil {
		return err
	}
	r.PerSecond = float64(meanwhile.Distinct) / max(r.Seconds, float64(t.load.count)/float64(t.rate))
	got, err := s.awaitReceived(ctx, group, t.want, s.cfg.Limit)
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

// note keeps a figure.
func (l *lab) note(scenario, what string, value float64) {
	f := figure{Scenario: scenario, Run: l.run, What: what, Value: value}
	l.figures = append(l.figures, f)
	l.say("%s: %s: %.2f", f.Scenario, f.What, f.Value)
}

// compare keeps the 99th percentile of a case over that of another, and the
// same of deliveries per second.
func (l *lab) compare(a, b result) {
	over := a.Case + " over " + b.Case
	l.note(a.Scenario, "p99, "+over, ratio(a.p99(), b.p99()))
	l.note(a.Scenario, "deliveries/s, "+over, ratio(a.PerSecond, b.PerSecond))
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
