package fanout

import (
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"

	"github.com/cardwire/cardwire/services/internal/metrics"
)

// counts is what fan-out tells Prometheus. A batch that is repeated counts again.
type counts struct{ events, deliveries, dead prometheus.Counter }

func newCounts(r prometheus.Registerer) counts {
	counter := func(name, help string) prometheus.Counter {
		return promauto.With(r).NewCounter(prometheus.CounterOpts{Namespace: metrics.Namespace, Name: name, Help: help})
	}
	return counts{
		events:     counter("events_fanned_out_total", "Events whose deliveries were written and published, those that nobody wanted included."),
		deliveries: counter("deliveries_created_total", "Deliveries that fan-out made."),
		dead:       counter("events_dead_total", "Messages on the stream that were no events."),
	}
}
