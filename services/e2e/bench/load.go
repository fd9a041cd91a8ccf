package main

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"strconv"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/cardwire/cardwire/events"
)

// eventType is of none of our own services: views writes no row for it.
const eventType = "bench.published"

// minBytes is the least body of an event, in bytes.
const minBytes = 200

// maxBytes is the most: what Cardwire takes.
const maxBytes = events.MaxBody

// A load is events to publish, in turn to each user.
type load struct {
	count  int
	bytes  int // of a body
	users  []uuid.UUID
	filler string
}

// newLoad is a load whose bodies hardly compress: PostgreSQL compresses large ones.
func newLoad(count, bytes int, users []uuid.UUID) load {
	raw := make([]byte, bytes)
	_, _ = rand.Read(raw) // never fails
	filler := base64.RawURLEncoding.EncodeToString(raw)[:max(0, bytes-emptyBody)]
	return load{count: count, bytes: bytes, users: users, filler: filler}
}

// emptyBody is the size of a body without filler, in bytes.
const emptyBody = 117

// payload is the data of an event.
type payload struct {
	Due    string `json:"due"` // ns; what dueIn finds
	Filler string `json:"filler"`
}

// event is the i-th of the load, with the time it was due in its body.
func (l load) event(i int, due time.Time) (events.Event, error) {
	return events.New(l.users[i%len(l.users)], eventType, payload{Due: strconv.FormatInt(due.UnixNano(), 10), Filler: l.filler})
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
			return first(errs)
		}
		at += len(batch)
	}
	return nil
}

// first is the first of some errors: a thousand tell no more.
func first(errs []error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
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
// there holds the wait that a stall put upon those behind it. It returns once
// all calls have, with the first error of one or of ctx.
func pace(ctx context.Context, count, perSecond int, do func(i int, due time.Time) error) error {
	var calls sync.WaitGroup
	var mu sync.Mutex
	var failed []error
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
				failed = append(failed, err)
				mu.Unlock()
			}
		})
	}
	calls.Wait()
	return first(append(failed, context.Cause(ctx)))
}
