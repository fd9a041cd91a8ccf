package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/cardwire/cardwire/events"
	"github.com/cardwire/cardwire/services/internal/signing"
)

// eventType is of none of our own services: views writes no row for it.
const eventType = "bench.published"

// minBytes is the least body of an event, in bytes.
const minBytes = 200

// An endpoint is a registered one.
type endpoint struct {
	id, user uuid.UUID
	url      string
	secret   string
}

// owners are the users of endpoints, each once and in order.
func owners(eps []endpoint) []uuid.UUID {
	var users []uuid.UUID
	seen := make(map[uuid.UUID]bool)
	for _, e := range eps {
		if !seen[e.user] {
			users, seen[e.user] = append(users, e.user), true
		}
	}
	return users
}

// register registers n endpoints, so many of each user.
func (s *stack) register(ctx context.Context, n, perUser int, url func(i int) string) ([]endpoint, error) {
	eps := make([]endpoint, n)
	for i := range eps {
		eps[i] = endpoint{id: uuid.Must(uuid.NewV7()), user: uuid.Must(uuid.NewV7()), url: url(i), secret: signing.NewSecret()}
		if i%perUser != 0 {
			eps[i].user = eps[i-1].user
		}
	}
	return eps, s.insert(ctx, eps)
}

// insert writes endpoints with their secrets, sealed as the API would.
func (s *stack) insert(ctx context.Context, eps []endpoint) error {
	var ids, users, secretIDs []uuid.UUID
	var urls []string
	var sealed [][]byte
	for _, e := range eps {
		text, err := s.keyset.Seal(e.id, []byte(e.secret))
		if err != nil {
			return err
		}
		ids, users, secretIDs = append(ids, e.id), append(users, e.user), append(secretIDs, uuid.Must(uuid.NewV7()))
		urls, sealed = append(urls, e.url), append(sealed, text)
	}
	_, err := s.pool.Exec(ctx, `INSERT INTO endpoints (id, user_id, url, events)
		SELECT unnest($1::uuid[]), unnest($2::uuid[]), unnest($3::text[]), $4`, ids, users, urls, []string{eventType, events.CardViewed})
	if err == nil {
		_, err = s.pool.Exec(ctx, `INSERT INTO endpoint_secrets (id, endpoint_id, ciphertext)
			SELECT unnest($1::uuid[]), unnest($2::uuid[]), unnest($3::bytea[])`, secretIDs, ids, sealed)
	}
	if err != nil {
		return fmt.Errorf("register endpoints: %w", err)
	}
	return nil
}

// A load is events to publish, spread evenly over users.
type load struct {
	count int
	bytes int // of a body
	users []uuid.UUID
}

// payload is the data of an event.
type payload struct {
	Due    string `json:"due"` // ns; what dueIn finds
	Filler string `json:"filler"`
}

// event is the i-th of the load, with the time it was due in its body.
func (l load) event(i int, due time.Time) (events.Event, error) {
	const empty = 118 // bytes of a body without filler
	return events.New(l.users[i%len(l.users)], eventType, payload{
		Due: strconv.FormatInt(due.UnixNano(), 10), Filler: strings.Repeat("x", max(0, l.bytes-empty)),
	})
}

// flood publishes a load as fast as the stream takes it.
func (s *stack) flood(ctx context.Context, l load) error {
	most := min(500, max(1, 8<<20/l.bytes)) // events of a batch: at most 8 MiB in flight
	for at := 0; at < l.count; {
		batch := make([]events.Event, min(l.count-at, most))
		for i := range batch {
			var err error
			if batch[i], err = l.event(at+i, time.Now()); err != nil {
				return err
			}
		}
		if errs, ok := s.pub.PublishBatch(ctx, batch); !ok {
			return errors.Join(errs...)
		}
		at += len(batch)
	}
	return nil
}

// publish publishes a load at fixed times, whether or not what was published
// before has arrived. It returns when the last is published.
func (s *stack) publish(ctx context.Context, l load, perSecond int) error {
	return pace(ctx, l.count, perSecond, func(i int, due time.Time) error {
		e, err := l.event(i, due)
		if err != nil {
			return err
		}
		return s.pub.Publish(ctx, e)
	})
}

// pace calls do count times, perSecond times in a second, each in a goroutine
// of its own, with the time at which the call is due. It never waits for a
// call, and one that comes late keeps its due time: what is measured from
// there holds the wait that a stall put upon those behind it. It returns the
// errors once all calls have returned.
func pace(ctx context.Context, count, perSecond int, do func(i int, due time.Time) error) error {
	var calls sync.WaitGroup
	var mu sync.Mutex
	var failed error
	begun := time.Now()
	for i := range count {
		due := begun.Add(time.Duration(i) * time.Second / time.Duration(perSecond))
		if wait := time.Until(due); wait > 0 {
			select {
			case <-time.After(wait):
			case <-ctx.Done():
			}
		}
		if ctx.Err() != nil {
			break
		}
		calls.Go(func() {
			if err := do(i, due); err != nil {
				mu.Lock()
				failed = errors.Join(failed, err)
				mu.Unlock()
			}
		})
	}
	calls.Wait()
	return errors.Join(failed, context.Cause(ctx))
}

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
