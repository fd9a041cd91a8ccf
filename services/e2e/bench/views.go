package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"sync"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// views reads the pages of 100 users, each with an endpoint, as fast as the
// views service serves them, and waits for the deliveries of these views.
func views(ctx context.Context, l *lab) error {
	const users, clients = 100, 32
	return l.onStack(ctx, nil, func(ctx context.Context, s *stack) error {
		eps, err := s.register(ctx, users, 1, func(i int) string { return fmt.Sprintf("%s/0s/views/%d", s.well, i) })
		if err != nil {
			return err
		}
		_, err = s.pool.Exec(ctx, `INSERT INTO users (id, username, display_name)
			SELECT id, 'user' || n - 1, 'User' FROM unnest($1::uuid[]) WITH ORDINALITY AS u (id, n)`, owners(eps))
		if err != nil {
			return fmt.Errorf("make users: %w", err)
		}
		client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: clients}}
		defer client.CloseIdleConnections()
		p := &pages{client: client, answered: newHistogram()}
		t := trial{
			scenario: "views", name: "flood", endpoint: eps[0],
			load: newLoad(l.cfg.count(l.cfg.Events, 20_000), minBytes, owners(eps)),
		}
		t.want = t.load.count
		var perSecond, p50, p99 float64
		t.flood = func(ctx context.Context) (err error) {
			perSecond, err = atOnce(t.load.count, clients, func(i int) error {
				return p.get(ctx, fmt.Sprintf("%s/api/u/user%d", s.views, i%users))
			})
			p50, p99 = float64(p.answered.ValueAtQuantile(50)), float64(p.answered.ValueAtQuantile(99))
			return err
		}
		if _, err := s.try(ctx, t); err != nil {
			return err
		}
		limit, err := atOnce(min(t.load.count, barePosts), clients, func(int) error { return p.get(ctx, s.well+"/tally/nobody") })
		if err != nil {
			return fmt.Errorf("bare GETs: %w", err)
		}
		l.note("views", "pages per second", perSecond)
		l.note("views", "pages per second over bare GETs", ratio(perSecond, limit))
		l.note("views", fmt.Sprintf("page p50 in ms, %d at once", clients), p50/1000)
		l.note("views", fmt.Sprintf("page p99 in ms, %d at once", clients), p99/1000)
		return nil
	})
}

// pages reads pages.
type pages struct {
	client   *http.Client
	mu       sync.Mutex
	answered *hdrhistogram.Histogram // how long each took
}

func (p *pages) get(ctx context.Context, url string) error {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	begun := time.Now()
	resp, err := p.client.Do(r)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if _, err := io.Copy(io.Discard, resp.Body); err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("GET %s: %s", url, resp.Status)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	record(p.answered, time.Since(begun))
	return nil
}
