package view

import (
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"

	"github.com/cardwire/cardwire/services/internal/metrics"
)

// counts is what the step tells Prometheus: events by who accepted them.
type counts struct{ stream, outbox, lost prometheus.Counter }

func newCounts(r prometheus.Registerer) counts {
	with := promauto.With(r)
	accepted := with.NewCounterVec(prometheus.CounterOpts{
		Namespace: metrics.Namespace, Name: "events_published_total",
		Help: "Events that views accepted, by who took them: the stream, or the outbox as the stream did not.",
	}, []string{"via"})
	return counts{
		stream: accepted.WithLabelValues(viaStream), outbox: accepted.WithLabelValues(viaOutbox),
		lost: with.NewCounter(prometheus.CounterOpts{
			Namespace: metrics.Namespace, Name: "views_lost_total",
			Help: "Views of which neither stream nor outbox took the event. The page was served.",
		}),
	}
}
