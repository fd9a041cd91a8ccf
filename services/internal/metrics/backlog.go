package metrics

import (
	"context"
	"errors"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/cardwire/cardwire/sql/db"
)

// countMost bounds each count of rows: it then says "so many or more". Counting
// to it reads as many entries of a partial index, some 20 ms.
const countMost = 50_000

type backlog struct {
	queries *db.Queries
	cached
	up, oldest, waiting, expired, outbox, outboxAge, dead *prometheus.Desc
}

// Backlog collects what waits in PostgreSQL. Every replica of a service tells
// the same: take the maximum over them, not the sum. While PostgreSQL does not
// answer, only cardwire_database_up is there, and 0.
func Backlog(conn db.DBTX) prometheus.Collector {
	desc := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc(Namespace+"_"+name, help, labels, nil)
	}
	b := &backlog{
		queries:   db.New(conn),
		up:        desc("database_up", "Whether PostgreSQL answered what the gauges below ask."),
		oldest:    desc("oldest_due_delivery_age_seconds", "For how long the oldest delivery is due that nobody is attempting."),
		waiting:   desc("deliveries_waiting", "Deliveries that wait, by reason; due ones and those in flight included. 50000 is that many or more.", "reason"),
		expired:   desc("deliveries_leases_expired", "Deliveries whose process died during an attempt and that the sweeper has not freed yet."),
		outbox:    desc("outbox_rows_waiting", "Events that wait in the outbox to be relayed. 50000 is that many or more."),
		outboxAge: desc("outbox_oldest_row_age_seconds", "For how long the oldest event waits in the outbox."),
		dead:      desc("dead_events", "Messages kept in dead_events as they are no events. 50000 is that many or more."),
	}
	b.read = b.ask
	return b
}

// Describe implements [prometheus.Collector].
func (b *backlog) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{b.up, b.oldest, b.waiting, b.expired, b.outbox, b.outboxAge, b.dead} {
		ch <- d
	}
}

func (b *backlog) ask(ctx context.Context) []prometheus.Metric {
	age, err1 := b.queries.OldestDueDelivery(ctx)
	due, err2 := b.queries.CountDue(ctx, countMost)
	reasons, err3 := b.queries.CountWaiting(ctx, countMost)
	outbox, err4 := b.queries.CountOutbox(ctx, countMost)
	dead, err5 := b.queries.CountDeadEvents(ctx, countMost)
	if errors.Join(err1, err2, err3, err4, err5) != nil {
		return []prometheus.Metric{gauge(b.up, 0)}
	}
	waiting := map[string]int64{"due": due.Due, "in_flight": due.InFlight}
	for _, reason := range waitReasons {
		waiting[reason] = 0
	}
	for _, row := range reasons {
		waiting[row.Reason] = row.N
	}
	all := []prometheus.Metric{
		gauge(b.up, 1), gauge(b.oldest, age), gauge(b.expired, float64(due.Expired)),
		gauge(b.outbox, float64(outbox.Waiting)), gauge(b.outboxAge, outbox.Age), gauge(b.dead, float64(dead)),
	}
	for reason, n := range waiting {
		all = append(all, gauge(b.waiting, float64(n), reason))
	}
	return all
}

// waitReasons are those of deliveries.waits_for. A series that comes and goes
// makes poor graphs, so each is always there.
var waitReasons = [...]string{"at_capacity", "rate_limited", "circuit_open", "paused", "retry_after", "schedule"}

func gauge(d *prometheus.Desc, v float64, labels ...string) prometheus.Metric {
	return prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
}

// Durations is the buckets of a histogram of durations, in seconds: from a fast
// attempt on loopback to the longest that ATTEMPT_TIMEOUT allows.
var Durations = []float64{.005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30}
