package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/google/uuid"

	"github.com/cardwire/cardwire/services/internal/signing"
)

// Bare limits: what this machine reaches with nothing between, in the same run.
type bare struct {
	Posts float64 `json:"postsPerSecond"` // signed POSTs of the same bytes to the same receiver
	Rows  float64 `json:"rowsPerSecond"`  // rows like attempts, committed by 500
	// Latency of POSTs at the rate of the case; only where the case has one.
	Latency *quantiles `json:"latency,omitempty"`
}

// Sizes of the bare measurements.
const (
	bareClients = 64 // POSTs at once, unless the receiver is slow
	barePosts   = 20_000
	bareRows    = 50_000
	rowBatch    = 500 // rows of a transaction
	bareSeconds = 5
)

// bare measures the bare limits for a load to an endpoint.
func (s *stack) bare(ctx context.Context, e endpoint, l load, clients, perSecond int) (b bare, err error) {
	l.users = l.users[:1]
	transport := &http.Transport{MaxIdleConnsPerHost: 4 * clients}
	p := poster{client: &http.Client{Transport: transport}, endpoint: e, load: l}
	defer p.client.CloseIdleConnections()
	if b.Posts, err = p.flood(ctx, min(l.count, barePosts), clients); err != nil {
		return b, fmt.Errorf("bare POSTs: %w", err)
	}
	if b.Rows, err = s.bareRows(ctx, min(l.count, bareRows)); err != nil {
		return b, fmt.Errorf("bare rows: %w", err)
	}
	if perSecond == 0 {
		return b, nil
	}
	if err := s.forget(ctx); err != nil {
		return b, err
	}
	count := min(l.count, s.cfg.count(0, perSecond*bareSeconds))
	if err := pace(ctx, count, perSecond, func(_ int, due time.Time) error { return p.post(ctx, due) }); err != nil {
		return b, fmt.Errorf("bare POSTs at a rate: %w", err)
	}
	t, err := s.tallied(ctx, e.group(), true)
	if err != nil {
		return b, err
	}
	b.Latency = newQuantiles(t, count)
	return b, nil
}

// A poster POSTs as the deliverer would, but keeps no record.
type poster struct {
	client   *http.Client
	endpoint endpoint
	load     load
}

// flood POSTs count events with so many clients at once.
func (p poster) flood(ctx context.Context, count, clients int) (perSecond float64, err error) {
	return atOnce(count, clients, func(int) error { return p.post(ctx, time.Now()) })
}

// atOnce calls do count times, by so many clients at once.
func atOnce(count, clients int, do func(i int) error) (perSecond float64, err error) {
	var next atomic.Int64
	errs := make(chan error, clients)
	begun := time.Now()
	for range clients {
		go func() {
			for {
				i := int(next.Add(1)) - 1
				if i >= count {
					errs <- nil
					return
				}
				if err := do(i); err != nil {
					errs <- err
					return
				}
			}
		}()
	}
	var failed []error
	for range clients {
		failed = append(failed, <-errs)
	}
	return float64(count) / time.Since(begun).Seconds(), first(failed)
}

func (p poster) post(ctx context.Context, due time.Time) error {
	e, err := p.load.event(0, due)
	if err != nil {
		return err
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, p.endpoint.url, bytes.NewReader(e.Body))
	if err != nil {
		return err
	}
	if r.Header, err = signing.Headers(e.ID.String(), time.Now(), e.Body, []string{p.endpoint.secret}); err != nil {
		return err
	}
	r.Header.Set("Content-Type", "application/json")
	resp, err := p.client.Do(r)
	if err != nil {
		return err
	}
	_, _ = io.Copy(io.Discard, resp.Body)
	return resp.Body.Close()
}

// bareRows measures inserts of rows like attempts, on one connection.
func (s *stack) bareRows(ctx context.Context, count int) (perSecond float64, err error) {
	_, err = s.pool.Exec(ctx, `CREATE TABLE bare_rows (LIKE attempts INCLUDING ALL)`)
	if err != nil {
		return 0, err
	}
	defer func() {
		_, dropErr := s.pool.Exec(context.WithoutCancel(ctx), `DROP TABLE bare_rows`)
		err = errors.Join(err, dropErr)
	}()
	headers := []byte("Date: Mon, 23 Nov 2026 18:30:04 GMT\n")
	batches := max(1, count/rowBatch)
	begun := time.Now()
	for range batches {
		if err := s.bareBatch(ctx, headers); err != nil {
			return 0, err
		}
	}
	return float64(batches*rowBatch) / time.Since(begun).Seconds(), nil
}

func (s *stack) bareBatch(ctx context.Context, headers []byte) error {
	ids := make([]uuid.UUID, rowBatch)
	for i := range ids {
		ids[i] = uuid.Must(uuid.NewV7())
	}
	_, err := s.pool.Exec(ctx, `INSERT INTO bare_rows (delivery_id, n, endpoint_id, started_at, finished_at, outcome, response_code, duration_ms, response_headers)
		SELECT unnest($1::uuid[]), 1, $2, now(), now(), 'success', 204, 2, $3`, ids, ids[0], headers)
	return err
}
