package e2e

import (
	"errors"
	"net"
	"net/http"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/cardwire/cardwire/events/streams"
	"github.com/cardwire/cardwire/services/internal/natstest"
	"github.com/cardwire/cardwire/services/internal/steptest"
)

// failsFirst is a receiver that fails the first POST of each event, so that all
// events go through a delay line.
func failsFirst(t *testing.T) (url string, posts chan post) {
	t.Helper()
	var mu sync.Mutex
	known := make(map[string]bool)
	return receiver(t, func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		if id := r.Header.Get("Webhook-Id"); !known[id] {
			known[id] = true
			w.WriteHeader(http.StatusInternalServerError)
		}
	})
}

// Whatever of the broker vanishes under running services, they make it again
// without being started anew, and go on.
func TestWhatVanishesFromTheBrokerIsMadeAgain(t *testing.T) {
	t.Parallel()
	p := start(t)
	p.deliver()
	url, posts := failsFirst(t)
	p.register(alice, url)
	js := p.Deps("operator").JS

	consumers := map[string]string{ // and their streams
		streams.FanOut: streams.Events, streams.CardViews: streams.Events,
		streams.First: streams.Deliveries, streams.Again: streams.Deliveries,
	}
	for _, step := range deliverConfig("").Schedule {
		consumers[streams.WaitConsumer(step)] = streams.Deliveries
	}
	type row struct {
		name   string
		vanish func() error
	}
	rows := []row{{"nothing", func() error { return nil }}}
	for consumer, stream := range consumers {
		rows = append(rows, row{"the consumer " + consumer, func() error { return js.DeleteConsumer(t.Context(), stream, consumer) }})
	}
	for _, stream := range []string{streams.Events, streams.Deliveries} {
		rows = append(rows, row{"the stream " + stream, func() error { return js.DeleteStream(t.Context(), stream) }})
	}
	rows = append(rows, row{"the broker, and its whole store", func() error {
		_, port, err := net.SplitHostPort(p.Broker.Address())
		if err != nil {
			return err
		}
		n, err := strconv.Atoi(port)
		if err != nil {
			return err
		}
		p.Broker.Stop()
		p.Broker = natstest.StartIn(t, t.TempDir(), n)
		return nil
	}})

	for i, tt := range rows {
		there := func(consumer, stream string) bool {
			_, err := js.Consumer(t.Context(), stream, consumer)
			return err == nil
		}
		for consumer, stream := range consumers {
			eventually(t, consumer+" before "+tt.name+" vanishes", func() bool { return there(consumer, stream) })
		}
		if err := tt.vanish(); err != nil && !errors.Is(err, jetstream.ErrConsumerNotFound) {
			t.Fatalf("%s: %v", tt.name, err)
		}
		p.call(uuid.Nil, "GET", p.views+"/api/u/alice", "", 200, nil) // at once: before it is there again
		for consumer, stream := range consumers {
			eventually(t, consumer+" after "+tt.name+" vanished", func() bool { return there(consumer, stream) })
		}
		p.Await("the delivery after "+tt.name+" vanished", `SELECT count(*) = $1 FROM deliveries WHERE status = 'success' AND attempts = 2`, i+1)
		p.Await("the view row after "+tt.name+" vanished", `SELECT count(*) = $1 FROM card_views`, i+1)
	}
	if len(posts) != 2*len(rows) {
		t.Errorf("%d POSTs of %d events, want two of each", len(posts), len(rows))
	}
}

// eventually polls the broker, which has no way to tell.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	deadline := time.Now().Add(steptest.Bound)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		if time.Now().After(deadline) {
			t.Fatalf("%s: not there within %s", what, steptest.Bound)
		}
		<-tick.C
	}
}
