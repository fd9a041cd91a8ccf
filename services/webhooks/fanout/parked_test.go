package fanout_test

import (
	"testing"

	"github.com/cardwire/cardwire/events"
	"github.com/cardwire/cardwire/services/internal/delivery"
	"github.com/cardwire/cardwire/services/internal/steptest"
)

func TestDeliveriesOfAnEndpointThatHasOthersParkedAreParkedBehindThem(t *testing.T) {
	t.Parallel()
	e := steptest.New(t)
	backlogged, well := e.Endpoint(alice, "https://one.example/"), e.Endpoint(alice, "https://two.example/")
	e.Exec(`INSERT INTO endpoint_states (endpoint_id, waits_for, wait_until) VALUES ($1, 'circuit_open', now() + interval '1 hour')`, backlogged.ID)
	ev := e.Event(alice, map[string]string{"source": "qr"})
	test, err := events.New(alice, events.Test, map[string]any{"endpointId": backlogged.ID})
	if err != nil {
		t.Fatal(err)
	}
	start(e)
	publish(e, ev.Msg(), test.Msg())
	awaitAcked(e, 2)

	if n := e.Count(`SELECT count(*) FROM deliveries WHERE id = $1 AND status = 'pending' AND waits_for = 'circuit_open' AND next_attempt_at > '9000-01-01Z'`,
		delivery.ID(ev.ID, backlogged.ID)); n != 1 {
		t.Error("not parked")
	}
	want := map[string]bool{delivery.ID(ev.ID, well.ID).String(): true, delivery.ID(test.ID, backlogged.ID).String(): true} // a person waits for the test
	got := queued(e)
	if len(got) != len(want) {
		t.Errorf("%d messages, want %d", len(got), len(want))
	}
	for id := range got {
		if !want[id.String()] || e.Count(`SELECT count(*) FROM deliveries WHERE id = $1 AND waits_for IS NULL AND next_attempt_at <= now()`, id) != 1 {
			t.Errorf("message of %s", id)
		}
	}

	// The same events again, as after a crash before the ack: nothing is published for what is parked.
	again := ev.Msg()
	again.Header.Set("Nats-Msg-Id", "another")
	publish(e, again)
	awaitAcked(e, 3)
	if got := queued(e); len(got) != len(want) {
		t.Errorf("%d messages after a repeat, want %d", len(got), len(want))
	}
}
