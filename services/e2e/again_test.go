package e2e

import (
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cardwire/cardwire/services/webhooks/recovery"
)

// An integrator fixes a receiver and has sent again what it missed: one delivery,
// then all of them.
func TestWhatFailedIsSentAgainWhenItsOwnerAsksForIt(t *testing.T) {
	t.Parallel()
	p := start(t)
	p.deliver()
	rec, err := recovery.New(recovery.Config{}, p.Deps("webhooks"))
	if err != nil {
		t.Fatal(err)
	}
	p.Run(rec)
	var fixed atomic.Bool
	url, posts := receiver(t, func(w http.ResponseWriter, _ *http.Request) {
		if !fixed.Load() {
			w.WriteHeader(http.StatusInternalServerError)
		}
	})
	endpointID, _ := p.register(alice, url)
	api := p.webhooks + "/api/webhooks/" + endpointID
	p.call(bob, "GET", p.views+"/api/u/alice", "", 200, nil)
	p.Await("given up", `SELECT count(*) = 1 FROM deliveries WHERE status = 'failed' AND reason = 'exhausted' AND attempts = 4`)
	for range 4 {
		<-posts
	}

	fixed.Store(true)
	var failed log
	p.call(alice, "GET", api+"/deliveries?status=failed", "", 200, &failed)
	p.call(alice, "POST", api+"/deliveries/"+failed.Data[0].ID+"/resend", "", 202, nil)
	if got := (<-posts).header.Get("Webhook-Id"); got != failed.Data[0].EventID {
		t.Errorf("webhook-id %s, want %s", got, failed.Data[0].EventID)
	}
	p.Await("delivered", `SELECT count(*) = 1 FROM deliveries WHERE status = 'success' AND trigger = 'resend' AND attempts = 5 AND exhausted_at IS NULL`)

	const views = 2
	ids := make(map[string]bool)
	for range views {
		p.call(bob, "GET", p.views+"/api/u/alice", "", 200, nil)
		ids[(<-posts).header.Get("Webhook-Id")] = true
	}
	p.Await("delivered", `SELECT count(*) = $1 FROM deliveries WHERE status = 'success' AND trigger = 'event'`, views)
	// More failures would open the endpoint's circuit, and the test would wait for that.
	p.Exec(`UPDATE deliveries SET status = 'failed', reason = 'exhausted', delivered_at = NULL WHERE trigger = 'event'`)

	var recovered struct{ ID string }
	since := time.Now().UTC().Truncate(24 * time.Hour).Format(time.RFC3339)
	p.call(alice, "POST", api+"/recover", `{"since":"`+since+`"}`, 202, &recovered)
	for range views {
		got := (<-posts).header.Get("Webhook-Id")
		if !ids[got] {
			t.Errorf("webhook-id %s is not that of an event before, or came twice", got)
		}
		delete(ids, got)
	}
	p.Await("all delivered", `SELECT count(*) = $1 FROM deliveries WHERE status = 'success' AND trigger = 'recover'`, views)
	p.Await("the recovery finished", `SELECT finished_at IS NOT NULL AND recovered = $2 FROM recoveries WHERE id = $1`, recovered.ID, views)

	// And a test of it goes the same way.
	var sent struct {
		EventID    string `json:"eventId"`
		DeliveryID string `json:"deliveryId"`
	}
	p.call(alice, "POST", api+"/test", "", 202, &sent)
	if got := <-posts; got.header.Get("Webhook-Id") != sent.EventID || !strings.Contains(string(got.body), `"type":"webhook.test"`) {
		t.Errorf("test: %v %s", got.header, got.body)
	}
	p.Await("the test is in the log", `SELECT EXISTS (SELECT FROM deliveries WHERE id = $1 AND status = 'success' AND trigger = 'test')`, sent.DeliveryID)
}
