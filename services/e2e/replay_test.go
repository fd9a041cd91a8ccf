package e2e

import (
	"net/http"
	"testing"
	"time"

	"github.com/cardwire/cardwire/services/webhooks/replay"
)

// An integrator registers a second endpoint and has yesterday's events replayed
// to it: the ids are those of before, and a header says whose doing it is.
func TestAReplayArrivesWithTheIDsOfBeforeAndItsOwn(t *testing.T) {
	t.Parallel()
	p := start(t)
	p.deliver()
	step, err := replay.New(replay.Config{}, p.Deps("webhooks"))
	if err != nil {
		t.Fatal(err)
	}
	p.Run(step)
	url, posts := receiver(t, func(http.ResponseWriter, *http.Request) {})
	p.register(alice, url)
	const views = 3
	ids := make(map[string]bool)
	for range views {
		p.call(bob, "GET", p.views+"/api/u/alice", "", 200, nil)
		first := <-posts
		ids[first.header.Get("Webhook-Id")] = true
		if got, there := first.header["Webhook-Replay"]; there {
			t.Errorf("a first try says webhook-replay: %s", got)
		}
	}
	if len(ids) != views {
		t.Fatalf("ids %v", ids)
	}

	newURL, newPosts := receiver(t, func(http.ResponseWriter, *http.Request) {})
	newID, _ := p.register(alice, newURL)
	since := time.Now().UTC().Truncate(24 * time.Hour).Format(time.RFC3339)
	var started struct{ Replay struct{ ID string } }
	p.call(alice, "POST", p.webhooks+"/api/replays", `{"endpointId":"`+newID+`","since":"`+since+`","mode":"missing"}`, 202, &started)
	for range views {
		got := (<-newPosts).header
		if id := got.Get("Webhook-Id"); !ids[id] {
			t.Errorf("webhook-id %s is not that of an event before, or came twice", id)
		}
		delete(ids, got.Get("Webhook-Id"))
		if got.Get("Webhook-Replay") != started.Replay.ID {
			t.Errorf("webhook-replay %s, want %s", got.Get("Webhook-Replay"), started.Replay.ID)
		}
	}
	p.Await("delivered", `SELECT count(*) = $1 FROM deliveries WHERE status = 'success' AND trigger = 'replay' AND replay_id = $2`, views, started.Replay.ID)
	p.Await("the log shows the header", `SELECT bool_and(convert_from(request_headers, 'UTF8') LIKE '%Webhook-Replay: ' || $1 || '%') FROM attempts WHERE trigger = 'replay' AND finished_at IS NOT NULL`, started.Replay.ID)
	p.Await("the replay finished", `SELECT state = 'finished' AND made = $2 AND total = $2 FROM replays WHERE id = $1`, started.Replay.ID, views)
}
