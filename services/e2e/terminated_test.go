package e2e

import (
	"net/http"
	"syscall"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/cardwire/cardwire/services/internal/steptest"
)

// A deliverer is told to stop while receivers have requests that they have not
// answered and as many again wait: it finishes what it began, begins nothing
// more, exits with 0, and whoever comes next delivers the rest. Nothing is sent twice.
func TestADelivererThatIsToldToStopUnderLoadFinishesWhatItBegan(t *testing.T) {
	t.Parallel()
	p := start(t)
	const events = 60
	stopping := make(chan struct{})
	url, posts := receiver(t, func(_ http.ResponseWriter, r *http.Request) {
		select {
		case <-stopping:
		case <-r.Context().Done():
			t.Error("a request was cut off")
		}
	})
	for range 3 {
		p.register(alice, url)
	}
	first := p.spawnDeliverer()
	for range events / 3 {
		p.call(uuid.Nil, "GET", p.views+"/api/u/alice", "", 200, nil)
	}
	p.Await("all fanned out", `SELECT count(*) = 60 FROM deliveries`)
	sent := make(map[string]int)
	count := func(got post) { sent[got.header.Get("Webhook-Id")+" "+got.header.Get("X-Devcard-Signature")]++ }
	for range 6 { // what it may have in flight at first
		count(<-posts)
	}
	if err := first.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	p.awaitPrinted(first, "stopping: finishing what is in flight")
	close(stopping)
	ended := make(chan error, 1)
	go func() { ended <- first.Wait() }()
	select {
	case err := <-ended:
		if err != nil {
			t.Fatalf("it ended with %v, want exit code 0", err)
		}
	case <-time.After(steptest.Bound):
		t.Fatal("it did not end")
	}
	if n := p.Count(`SELECT count(*) FROM attempts WHERE outcome IS DISTINCT FROM 'success'`); n != 0 {
		t.Errorf("%d attempts are not settled as what they were", n)
	}
	if n := p.Count(`SELECT count(*) FROM deliveries WHERE status = 'pending'`); n == 0 {
		t.Error("nothing was left: it began more after it was told to stop")
	}
	p.spawnDeliverer()
	p.Await("all delivered", `SELECT count(*) = 60 FROM deliveries WHERE status = 'success' AND attempts = 1`)
	for len(posts) > 0 {
		count(<-posts)
	}
	total := 0
	for what, n := range sent {
		if total += n; n != 1 {
			t.Errorf("%s was sent %d times", what, n)
		}
	}
	if total != events {
		t.Errorf("%d POSTs, want %d", total, events)
	}
}
