package metrics_test

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/cardwire/cardwire/events/outbox"
	"github.com/cardwire/cardwire/events/streams"
	"github.com/cardwire/cardwire/services/internal/metrics"
	"github.com/cardwire/cardwire/services/internal/natstest"
	"github.com/cardwire/cardwire/services/internal/steptest"
	"github.com/cardwire/cardwire/sql/pgtest"
)

func TestMain(m *testing.M) { os.Exit(pgtest.Main(m)) }

// collected is what a collector tells, by name and labels.
func collected(t *testing.T, c prometheus.Collector) map[string]float64 {
	t.Helper()
	r := prometheus.NewPedanticRegistry()
	if err := r.Register(c); err != nil {
		t.Fatal(err)
	}
	families, err := r.Gather()
	if err != nil {
		t.Fatal(err)
	}
	got := make(map[string]float64)
	for _, f := range families {
		for _, m := range f.GetMetric() {
			name := strings.TrimPrefix(f.GetName(), "cardwire_")
			for _, l := range m.GetLabel() {
				name += " " + l.GetValue()
			}
			got[name] = m.GetGauge().GetValue()
		}
	}
	return got
}

func want(t *testing.T, got map[string]float64, name string, v float64) {
	t.Helper()
	if g, ok := got[name]; !ok || g != v {
		t.Errorf("%s: %v (there: %t), want %v", name, g, ok, v)
	}
}

func TestBacklogTellsWhatWaits(t *testing.T) {
	t.Parallel()
	e := steptest.New(t)
	add := func(n int, columns, values string) {
		t.Helper()
		for range n {
			e.Exec(fmt.Sprintf(`INSERT INTO deliveries (id, event_id, endpoint_id, event_type, attempts, %s) VALUES ($1, $1, $1, 'card.viewed', 1, %s)`, columns, values),
				uuid.Must(uuid.NewV7()))
		}
	}
	add(2, "next_attempt_at", "now() - interval '90 s'")
	add(1, "next_attempt_at", "now() + interval '1 h'")
	add(3, "next_attempt_at, leased_until", "now() - interval '1 h', now() + interval '1 h'")
	add(4, "next_attempt_at, leased_until", "now() - interval '10 s', now() - interval '1 s'")
	add(5, "next_attempt_at, waits_for", "'9999-01-01Z', 'circuit_open'")
	add(6, "next_attempt_at, waits_for", "now() - interval '1 h', 'retry_after'")
	add(7, "status, next_attempt_at, delivered_at", "'success', NULL, now()")
	if err := outbox.Write(t.Context(), e.DB, e.Event(uuid.New(), struct{}{})); err != nil {
		t.Fatal(err)
	}
	e.Exec(`UPDATE outbox SET created_at = now() - interval '90 s'`)
	e.Exec(`INSERT INTO dead_events (id, stream_seq, subject, headers, body, reason) VALUES ($1, 1, 's', '', '', 'r')`, uuid.New())

	got := collected(t, metrics.Backlog(e.DB))
	for name, v := range map[string]float64{
		"database_up": 1, "deliveries_waiting due": 2, "deliveries_waiting in_flight": 3, "deliveries_leases_expired": 4,
		"deliveries_waiting circuit_open": 5, "deliveries_waiting retry_after": 6, "deliveries_waiting schedule": 0,
		"outbox_rows_waiting": 1, "dead_events": 1,
	} {
		want(t, got, name, v)
	}
	for _, name := range []string{"oldest_due_delivery_age_seconds", "outbox_oldest_row_age_seconds"} {
		if age := got[name]; age < 90 || age > 90+steptest.Bound.Seconds() {
			t.Errorf("%s: %v, want 90 and a little", name, age)
		}
	}

	e.DB.Close()
	if got := collected(t, metrics.Backlog(e.DB)); len(got) != 1 || got["database_up"] != 0 {
		t.Errorf("without PostgreSQL: %v", got)
	}
}

func TestLagTellsHowFarAConsumerIsBehind(t *testing.T) {
	t.Parallel()
	b := natstest.Start(t)
	js := natstest.JetStream(t, b, "operator")
	lag := func() map[string]float64 {
		return collected(t, metrics.Lag(natstest.JetStream(t, b, "webhooks"), streams.Events, streams.FanOut))
	}
	if got := lag(); len(got) != 1 || got["consumer_up fanout EVENTS"] != 0 {
		t.Errorf("before there is a stream: %v", got)
	}
	cfg := streams.DefaultConfig()
	cfg.EventsMaxBytes, cfg.EventsMaxAge = 1<<20, time.Hour
	if _, err := streams.EnsureStream(t.Context(), js, cfg.EventsStream()); err != nil {
		t.Fatal(err)
	}
	consumer, err := streams.EnsureConsumer(t.Context(), js, streams.Events, streams.FanOutConsumer())
	if err != nil {
		t.Fatal(err)
	}
	for range 3 {
		if _, err := js.Publish(t.Context(), streams.EventSubject(uuid.New(), "card.viewed"), nil); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := consumer.Next(); err != nil {
		t.Fatal(err)
	}
	got := lag()
	want(t, got, "consumer_up fanout EVENTS", 1)
	want(t, got, "consumer_pending_messages fanout EVENTS", 2)
	want(t, got, "consumer_unacked_messages fanout EVENTS", 1)
}
