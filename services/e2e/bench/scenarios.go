package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
	"github.com/google/uuid"

	"github.com/cardwire/cardwire/events"
	"github.com/cardwire/cardwire/services/internal/signing"
)

// minBytes is the body of an event with an empty filler, and a bit.
const minBytes = 200

// payload is the data of an event. SentAt lets the receiver tell the time it took.
type payload struct {
	SentAt int64  `json:"sentAt"` // ns
	Filler string `json:"filler"`
}

// A sink counts what the receiver got, and how late.
type sink struct {
	want     int64
	got      atomic.Int64
	complete chan struct{} // closed when want were received

	mu   sync.Mutex
	seen map[string]int
	late *hdrhistogram.Histogram // µs from the time an event was due to be published
}

func newSink(want int) *sink {
	return &sink{
		want: int64(want), complete: make(chan struct{}), seen: make(map[string]int, want),
		late: hdrhistogram.New(1, time.Minute.Microseconds(), 3),
	}
}

func (s *sink) receive(r *http.Request) {
	now := time.Now().UnixNano()
	body, err := io.ReadAll(r.Body)
	var e struct {
		Data payload `json:"data"`
	}
	if err != nil || json.Unmarshal(body, &e) != nil {
		return // counted as lost
	}
	s.mu.Lock()
	s.seen[r.Header.Get(signing.HeaderID)]++
	_ = s.late.RecordValue(max(1, (now-e.Data.SentAt)/1000)) // beyond a minute it is a loss anyway
	s.mu.Unlock()
	if s.got.Add(1) == s.want {
		close(s.complete)
	}
}

// A run is one run of the throughput scenario.
type run struct {
	Deliveries int           `json:"deliveries"`
	Took       time.Duration `json:"tookNanoseconds"`
	PerSecond  float64       `json:"perSecond"`
	Attempts   int           `json:"attemptsCommitted"`
	Repeats    int           `json:"repeats"`
}

// throughput publishes events as fast as the stream takes them, and measures
// until the last is received and its attempt is committed.
func (s *stack) throughput(ctx context.Context) (run, error) {
	ctx, cancel := context.WithTimeout(ctx, s.cfg.Limit)
	defer cancel()
	before, err := s.settled(ctx)
	if err != nil {
		return run{}, err
	}
	want := s.cfg.Events * s.cfg.Endpoints
	sink := newSink(want)
	s.received.Store(sink)
	begun := time.Now()
	for left := s.cfg.Events; left > 0; {
		batch := make([]events.Event, min(left, 500))
		for i := range batch {
			if batch[i], err = s.event(time.Now()); err != nil {
				return run{}, err
			}
		}
		if errs, ok := s.pub.PublishBatch(ctx, batch); !ok {
			return run{}, errors.Join(errs...)
		}
		left -= len(batch)
	}
	select {
	case <-sink.complete:
	case <-ctx.Done():
		return run{}, fmt.Errorf("%d of %d received: %w", sink.got.Load(), want, ctx.Err())
	}
	var after int
	for after < before+want {
		if after, err = s.attempts(ctx); err != nil {
			return run{}, err
		}
	}
	took := time.Since(begun)
	return run{
		Deliveries: want, Took: took, PerSecond: float64(want) / took.Seconds(), Attempts: after - before,
		Repeats: int(sink.got.Load()) - want,
	}, nil
}

// settled waits until no attempt is in flight, and counts them.
func (s *stack) settled(ctx context.Context) (n int, err error) {
	for inFlight := true; inFlight && err == nil; {
		err = s.pool.QueryRow(ctx, `SELECT EXISTS (SELECT FROM attempts WHERE outcome IS NULL)`).Scan(&inFlight)
	}
	if err != nil {
		return 0, err
	}
	return s.attempts(ctx)
}

// attempts counts the attempts that are committed as successes.
func (s *stack) attempts(ctx context.Context) (n int, err error) {
	err = s.pool.QueryRow(ctx, `SELECT count(*) FROM attempts WHERE outcome = 'success'`).Scan(&n)
	return n, err
}

func (s *stack) event(due time.Time) (events.Event, error) {
	return events.New(s.user, events.CardViewed, payload{SentAt: due.UnixNano(), Filler: strings.Repeat("x", s.cfg.Bytes-minBytes+70)})
}

// quantiles are in microseconds.
type quantiles struct {
	Rate    int   `json:"eventsPerSecond"`
	Count   int64 `json:"count"`
	P50     int64 `json:"p50Microseconds"`
	P95     int64 `json:"p95Microseconds"`
	P99     int64 `json:"p99Microseconds"`
	P999    int64 `json:"p999Microseconds"`
	Max     int64 `json:"maxMicroseconds"`
	Repeats int   `json:"repeats"`
}

// latency publishes at fixed times, whether or not what was published before
// has arrived, and counts from the time an event was due: a stall of ours or
// of the stream's counts too.
func (s *stack) latency(ctx context.Context) (quantiles, error) {
	ctx, cancel := context.WithTimeout(ctx, s.cfg.Limit)
	defer cancel()
	count := s.cfg.Rate * s.cfg.Seconds
	want := count * s.cfg.Endpoints
	sink := newSink(want)
	s.received.Store(sink)
	begun := time.Now().Add(time.Second) // the steps get up meanwhile
	var publishing sync.WaitGroup
	failed := make(chan error, count)
	for i := range count {
		due := begun.Add(time.Duration(i) * time.Second / time.Duration(s.cfg.Rate))
		select {
		case <-time.After(time.Until(due)):
		case <-ctx.Done():
			return quantiles{}, ctx.Err()
		}
		publishing.Go(func() {
			e, err := s.event(due)
			if err == nil {
				err = s.pub.Publish(ctx, e)
			}
			if err != nil {
				failed <- err
			}
		})
	}
	publishing.Wait()
	select {
	case err := <-failed:
		return quantiles{}, err
	case <-sink.complete:
	case <-ctx.Done():
		return quantiles{}, fmt.Errorf("%d of %d received: %w", sink.got.Load(), want, ctx.Err())
	}
	sink.mu.Lock()
	defer sink.mu.Unlock()
	h := sink.late
	return quantiles{
		Rate: s.cfg.Rate, Count: h.TotalCount(), P50: h.ValueAtQuantile(50), P95: h.ValueAtQuantile(95), P99: h.ValueAtQuantile(99),
		P999: h.ValueAtQuantile(99.9), Max: h.Max(), Repeats: int(sink.got.Load()) - want,
	}, nil
}

// bare measures what there is to reach: the same bytes, signed and POSTed to
// the same receiver by a client with nothing between.
func (s *stack) bare(ctx context.Context) (perSecond float64, err error) {
	const clients = 32
	want := s.cfg.Events * s.cfg.Endpoints
	s.received.Store(newSink(want))
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: clients}}
	defer client.CloseIdleConnections()
	var next atomic.Int64
	errs := make(chan error, clients)
	begun := time.Now()
	for range clients {
		go func() {
			for next.Add(1) <= int64(want) {
				if err := s.barePost(ctx, client); err != nil {
					errs <- err
					return
				}
			}
			errs <- nil
		}()
	}
	for range clients {
		err = errors.Join(err, <-errs)
	}
	return float64(want) / time.Since(begun).Seconds(), err
}

func (s *stack) barePost(ctx context.Context, client *http.Client) error {
	now := time.Now()
	e, err := s.event(now)
	if err != nil {
		return err
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, s.url, bytes.NewReader(e.Body))
	if err != nil {
		return err
	}
	if r.Header, err = signing.Headers(uuid.NewString(), now, e.Body, []string{s.secret}); err != nil {
		return err
	}
	resp, err := client.Do(r)
	if err != nil {
		return err
	}
	_, _ = io.Copy(io.Discard, resp.Body)
	return resp.Body.Close()
}
