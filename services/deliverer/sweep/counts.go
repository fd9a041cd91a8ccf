package sweep

import (
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"

	"github.com/cardwire/cardwire/services/internal/metrics"
)

// counts is what the sweeper tells Prometheus: what it published again, by reason.
type counts struct{ expired, due, timed prometheus.Counter }

func newCounts(r prometheus.Registerer) counts {
	swept := promauto.With(r).NewCounterVec(prometheus.CounterOpts{
		Namespace: metrics.Namespace, Name: "deliveries_swept_total",
		Help: "Deliveries that the sweeper published: their lease had expired, their message was lost (due), or their time had come (timed).",
	}, []string{"reason"})
	return counts{expired: swept.WithLabelValues("lease_expired"), due: swept.WithLabelValues("due"), timed: swept.WithLabelValues("timed")}
}
