package e2e

import (
	"net/http"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/cardwire/cardwire/events"
	"github.com/cardwire/cardwire/services/internal/natstest"
	"github.com/cardwire/cardwire/services/internal/steptest"
	"github.com/cardwire/cardwire/services/webhooks/fanout"
)

// await receives n POSTs, and counts them by webhook-id.
func await(t *testing.T, posts <-chan post, n int) map[string]int {
	t.Helper()
	got := make(map[string]int)
	timeout := time.After(steptest.Bound)
	for range n {
		select {
		case p := <-posts:
			got[p.header.Get("Webhook-Id")]++
		case <-timeout:
			t.Fatalf("%d of %d POSTs within %s", len(got), n, steptest.Bound)
		}
	}
	return got
}

func TestTwoReplicasOfEachDeliverEachEventOnce(t *testing.T) {
	t.Parallel()
	p := start(t) // one replica of fan-out
	second, err := fanout.New(fanout.Config{Retention: 24 * time.Hour, FanoutBatch: 7}, p.Deps("webhooks"))
	if err != nil {
		t.Fatal(err)
	}
	p.Run(second)
	p.deliver()
	p.deliver()
	url, posts := receiver(t, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusOK) })
	p.register(alice, url)
	p.register(alice, url)

	const count = 300
	pub, err := events.NewPublisher(natstest.Connect(t, p.Broker, "publisher"))
	if err != nil {
		t.Fatal(err)
	}
	batch := make([]events.Event, count)
	for i := range batch {
		batch[i] = p.Event(alice, viewed)
	}
	if errs, ok := pub.PublishBatch(t.Context(), batch); !ok {
		t.Fatal(errs)
	}
	got := await(t, posts, 2*count)
	for _, e := range batch {
		if got[e.ID.String()] != 2 {
			t.Errorf("event %s: %d POSTs, want one for each of two endpoints", e.ID, got[e.ID.String()])
		}
	}
	p.Await("all settled", `SELECT count(*) = $1 FROM deliveries WHERE status = 'success' AND attempts = 1`, 2*count)
	if len(posts) != 0 {
		t.Errorf("%d POSTs too many", len(posts))
	}
}

// Whatever the broker stored is gone, in the middle of it.
func TestABrokerThatLosesItsStreamsLosesNoDelivery(t *testing.T) {
	t.Parallel()
	p := start(t)
	url, posts := receiver(t, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusOK) })
	endpointID, _ := p.register(alice, url)
	p.call(uuid.Nil, "GET", p.views+"/api/u/alice", "", 200, nil)
	// Fanned out, but not delivered: no deliverer runs yet.
	p.Await("fanned out", `SELECT count(*) = 1 FROM deliveries WHERE endpoint_id = $1`, endpointID)
	js := p.Deps("operator").JS
	for _, stream := range []string{"DELIVERIES", "EVENTS"} {
		if err := js.DeleteStream(t.Context(), stream); err != nil {
			t.Fatal(err)
		}
	}
	p.deliver()
	await(t, posts, 1)
	p.Await("delivered", `SELECT count(*) = 1 FROM deliveries WHERE status = 'success'`)

	// The streams are made again by whoever needs them, and all goes on.
	p.call(uuid.Nil, "GET", p.views+"/api/u/alice", "", 200, nil)
	await(t, posts, 1)
	p.Await("delivered", `SELECT count(*) = 2 FROM deliveries WHERE status = 'success'`)
}
