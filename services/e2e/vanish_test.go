package e2e

import (
	"net/http"
	"net/url"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/cardwire/cardwire/events/streams"
	"github.com/cardwire/cardwire/services/internal/natstest"
)

// What vanishes from the broker under running services is made again, without a
// restart: after each loss a view reaches its receiver and its row.
func TestWhatVanishesFromTheBrokerIsMadeAgain(t *testing.T) {
	t.Parallel()
	p := start(t)
	p.deliver()
	var fails atomic.Int64 // the answers to come that are failures: the next attempt goes through a delay line
	target, posts := receiver(t, func(w http.ResponseWriter, _ *http.Request) {
		if fails.Add(-1) >= 0 {
			w.WriteHeader(http.StatusInternalServerError)
		}
	})
	endpointID, _ := p.register(alice, target)
	js := p.Deps("operator").JS
	// Each row awaits what it did before the next begins: they share the services.
	views := 0
	view := func(t *testing.T, what string) {
		t.Helper()
		views++
		fails.Store(1)
		p.call(uuid.Nil, "GET", p.views+"/api/u/alice", "", 200, nil)
		p.Await(what+": delivered", `SELECT count(*) = $2 FROM deliveries WHERE endpoint_id = $1 AND status = 'success'`, endpointID, views)
		p.Await(what+": view row", `SELECT count(*) = $1 FROM card_views`, views)
		for len(posts) > 0 {
			<-posts
		}
	}
	view(t, "before any loss")
	for _, c := range [][2]string{
		{streams.Events, streams.FanOut},
		{streams.Events, streams.CardViews},
		{streams.Deliveries, streams.First},
		{streams.Deliveries, streams.Again},
		{streams.Deliveries, streams.WaitConsumer(100 * time.Millisecond)},
	} {
		if err := js.DeleteConsumer(t.Context(), c[0], c[1]); err != nil {
			t.Fatal(err)
		}
		view(t, "consumer "+c[1]+" deleted")
	}
	for _, name := range []string{streams.Events, streams.Deliveries} {
		if err := js.DeleteStream(t.Context(), name); err != nil {
			t.Fatal(err)
		}
		view(t, "stream "+name+" deleted")
	}
	u, err := url.Parse(p.Broker.URL("operator"))
	if err != nil {
		t.Fatal(err)
	}
	port, err := strconv.Atoi(u.Port())
	if err != nil {
		t.Fatal(err)
	}
	p.Broker.Stop()
	empty := t.TempDir()
	p.call(uuid.Nil, "GET", p.views+"/api/u/alice", "", 200, nil) // into the outbox
	views++
	p.Broker = natstest.StartIn(t, empty, port)
	view(t, "broker back with an empty store")
}
