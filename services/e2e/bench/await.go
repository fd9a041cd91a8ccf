package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"time"
)

// tallied asks the receiver what a group has got, with its histogram if late.
func (s *stack) tallied(ctx context.Context, group string, late bool) (t tally, err error) {
	url := s.well + "/tally/" + group
	if late {
		url += "?late=1"
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return t, err
	}
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		return t, fmt.Errorf("ask the receiver: %w", err)
	}
	defer resp.Body.Close()
	if err := json.NewDecoder(resp.Body).Decode(&t); err != nil {
		return t, fmt.Errorf("ask the receiver: %w", err)
	}
	return t, nil
}

// forget makes the receiver forget what it got.
func (s *stack) forget(ctx context.Context) error {
	r, err := http.NewRequestWithContext(ctx, http.MethodDelete, s.well+"/tally", nil)
	if err != nil {
		return err
	}
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		return fmt.Errorf("reset the receiver: %w", err)
	}
	return resp.Body.Close()
}

// awaitReceived waits until a group has got so many different deliveries, or
// nothing new for as long as --patience, or until limit is over. The tally
// returned may be short of them; it has the histogram.
func (s *stack) awaitReceived(ctx context.Context, group string, want int, limit time.Duration) (tally, error) {
	begun := time.Now()
	newest, got := begun, 0
	for {
		t, err := s.tallied(ctx, group, false)
		if err != nil {
			return t, err
		}
		if t.Distinct > got {
			got, newest = t.Distinct, time.Now()
		}
		if got >= want || time.Since(newest) > s.cfg.Patience || time.Since(begun) > limit {
			return s.tallied(ctx, group, true)
		}
		select {
		case <-time.After(poll):
		case <-ctx.Done():
			return t, context.Cause(ctx)
		}
	}
}

// awaitSettled waits until no delivery is pending: all results are committed.
func (s *stack) awaitSettled(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, s.cfg.Limit)
	defer cancel()
	for {
		var pending bool
		if err := s.pool.QueryRow(ctx, `SELECT EXISTS (SELECT FROM deliveries WHERE status = 'pending')`).Scan(&pending); err != nil {
			return fmt.Errorf("wait for results: %w", err)
		}
		if !pending {
			return nil
		}
		select {
		case <-time.After(poll):
		case <-ctx.Done():
			return fmt.Errorf("wait for results: %w", context.Cause(ctx))
		}
	}
}
