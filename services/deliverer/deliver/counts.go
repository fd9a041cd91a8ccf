package deliver

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"

	"github.com/cardwire/cardwire/events"
	"github.com/cardwire/cardwire/services/internal/metrics"
)

// counts is what the deliverer tells Prometheus. Label values are looked up
// once: each attempt costs two or three atomic additions.
type counts struct {
	success, failure, interrupted prometheus.Counter
	duration, latency             prometheus.Observer
}

func newCounts(r prometheus.Registerer) counts {
	with := promauto.With(r)
	attempts := with.NewCounterVec(prometheus.CounterOpts{
		Namespace: metrics.Namespace, Name: "delivery_attempts_total",
		Help: "Attempts that were settled, by outcome; interrupted ones are faults of ours.",
	}, []string{"outcome"})
	return counts{
		success: attempts.WithLabelValues("success"), failure: attempts.WithLabelValues("failure"), interrupted: attempts.WithLabelValues("interrupted"),
		duration: with.NewHistogram(prometheus.HistogramOpts{
			Namespace: metrics.Namespace, Name: "delivery_attempt_duration_seconds", Buckets: metrics.Durations,
			Help: "How long attempts took, from before the connection to the end of the answer.",
		}),
		latency: with.NewHistogram(prometheus.HistogramOpts{
			Namespace: metrics.Namespace, Name: "delivery_latency_seconds", Buckets: metrics.Durations,
			Help: "From the time in an event's id to the commit of its delivery, of those that succeeded at the first attempt.",
		}),
	}
}

// settled counts an attempt whose result is committed.
func (c *counts) settled(r result, now time.Time) {
	switch {
	case r.Success:
		c.success.Inc()
		if r.N == 1 {
			c.latency.Observe(max(now.Sub(events.IDTime(r.EventID)), 0).Seconds())
		}
	case r.Interrupted():
		c.interrupted.Inc()
	default:
		c.failure.Inc()
	}
	c.duration.Observe(r.Took.Seconds())
}
