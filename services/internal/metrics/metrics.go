// Package metrics is what the services have in common of what they tell
// Prometheus: the gauges that ask PostgreSQL and the broker. Counters belong to
// the step that counts. docs/operations.md describes each.
package metrics

import (
	"context"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Namespace is what all names begin with.
const Namespace = "cardwire"

const (
	// freshFor is how long an answer is good: however often /metrics is asked,
	// PostgreSQL and the broker are not more often than this.
	freshFor = 10 * time.Second
	// askTimeout bounds asking, so that a scrape does not hang on what is away.
	askTimeout = 2 * time.Second
)

// A cached collector keeps what it read for a while.
type cached struct {
	read func(context.Context) []prometheus.Metric

	mu   sync.Mutex
	at   time.Time
	last []prometheus.Metric
}

// Collect implements [prometheus.Collector].
func (c *cached) Collect(ch chan<- prometheus.Metric) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.at.IsZero() || time.Since(c.at) >= freshFor {
		// The library passes no context of the scrape.
		ctx, cancel := context.WithTimeout(context.Background(), askTimeout)
		defer cancel()
		c.last, c.at = c.read(ctx), time.Now()
	}
	for _, m := range c.last {
		ch <- m
	}
}
