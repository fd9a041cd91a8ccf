package deliver_test

import (
	"net/http"
	"net/http/httptest"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/cardwire/cardwire/services/deliverer/deliver"
	"github.com/cardwire/cardwire/services/internal/delivery"
	"github.com/cardwire/cardwire/services/internal/steptest"
	"github.com/cardwire/cardwire/sql/db"
)

// A gauge counts requests at once.
type gauge struct{ now, most atomic.Int64 }

func (g *gauge) enter() {
	n := g.now.Add(1)
	for most := g.most.Load(); n > most && !g.most.CompareAndSwap(most, n); most = g.most.Load() {
	}
}

func (g *gauge) leave() { g.now.Add(-1) }

// hanging is a receiver that answers nothing until it is let go.
func hanging(t *testing.T) (url string, g *gauge, release func()) {
	t.Helper()
	g = &gauge{}
	gate := make(chan struct{})
	release = sync.OnceFunc(func() { close(gate) })
	s := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		g.enter()
		defer g.leave()
		select {
		case <-gate:
		case <-r.Context().Done():
		}
	}))
	t.Cleanup(s.Close)
	t.Cleanup(release)
	return s.URL, g, release
}

func records(e *steptest.Env, ep steptest.Endpoint, n int) []delivery.Delivery {
	e.T.Helper()
	list := make([]delivery.Delivery, n)
	for i := range list {
		_, list[i] = record(e, ep)
	}
	return list
}

func TestAnEndpointAtItsCapHoldsUpNobodyAndLosesNothing(t *testing.T) {
	t.Parallel()
	e := steptest.New(t)
	slow, g, release := hanging(t)
	fast, posts := receiver(t, always(204))
	stuck, well := e.Endpoint(alice, slow), e.Endpoint(alice, fast)
	e.Exec(`UPDATE endpoints SET max_in_flight = 2 WHERE id = $1`, stuck.ID)
	cfg := config(e)
	cfg.AttemptTimeout = 30 * time.Second // longer than what follows takes
	start(e, cfg)
	publish(e, records(e, stuck, 20)...)
	_, d := record(e, well)
	publish(e, d)
	awaitStatus(e, d, "success")
	if len(posts) != 1 {
		t.Errorf("%d POSTs to the other endpoint, want 1", len(posts))
	}
	e.Await("the surplus parked", `SELECT count(*) = 18 FROM deliveries WHERE endpoint_id = $1 AND waits_for = 'at_capacity' AND leased_until IS NULL`, stuck.ID)
	if n := e.Count(`SELECT count(*) FROM attempts WHERE endpoint_id = $1`, stuck.ID); n != 2 {
		t.Errorf("%d attempts, want 2: what waits is no attempt", n)
	}
	if n := e.Count(`SELECT count(*) FROM endpoint_states WHERE endpoint_id = $1 AND waits_for = 'at_capacity' AND wait_until IS NOT NULL`, stuck.ID); n != 1 {
		t.Error("the endpoint's state does not say what is waited for")
	}
	release()
	e.Await("all delivered", `SELECT count(*) = 20 FROM deliveries WHERE endpoint_id = $1 AND status = 'success' AND attempts = 1`, stuck.ID)
	e.Await("nothing waits", `SELECT waits_for IS NULL AND wait_until IS NULL FROM endpoint_states WHERE endpoint_id = $1`, stuck.ID)
	if g.most.Load() > 2 {
		t.Errorf("%d requests at once with a cap of 2", g.most.Load())
	}
}

func TestACircuitOpensAndTheRestWaitsForTheEndpoint(t *testing.T) {
	t.Parallel()
	e := steptest.New(t)
	var well atomic.Bool
	url, _ := receiver(t, func(_ int, w http.ResponseWriter) {
		if !well.Load() {
			w.WriteHeader(http.StatusInternalServerError)
		}
	})
	ep := e.Endpoint(alice, url)
	cfg := config(e)
	cfg.Schedule = slices.Repeat(deliver.Schedule{100 * time.Millisecond}, 10)
	stop := start(e, cfg)
	startSweeper(e)
	publish(e, records(e, ep, 30)...)
	e.Await("circuit open", `SELECT EXISTS (SELECT FROM endpoint_states WHERE circuit = 'open' AND circuit_reason = 'circuit_open' AND circuit_until > now())`)
	e.Await("the rest waits", `SELECT count(*) >= 15 FROM deliveries WHERE status = 'pending' AND waits_for = 'circuit_open'`)
	if n := e.Count(`SELECT count(*) FROM attempts`); n > 15 {
		t.Errorf("%d attempts to an endpoint that fails all", n)
	}
	stop() // another process goes on with what this one knew
	if n := e.Count(`SELECT count(*) FROM endpoint_states WHERE circuit = 'open'`); n != 1 {
		t.Error("the open circuit is not noted")
	}
	well.Store(true)
	start(e, cfg)
	e.Await("all delivered", `SELECT count(*) = 30 FROM deliveries WHERE status = 'success'`)
	e.Await("circuit closed", `SELECT circuit = 'closed' AND failures = 0 AND failing_since IS NULL FROM endpoint_states`)
}

func TestAnAttemptThatAPersonAskedForIsMadeThoughTheCircuitIsOpen(t *testing.T) {
	t.Parallel()
	e := steptest.New(t)
	url, _ := receiver(t, always(204))
	ep := e.Endpoint(alice, url)
	e.Exec(`INSERT INTO endpoint_states (endpoint_id, circuit, circuit_reason, circuit_until) VALUES ($1, 'open', 'circuit_open', now() + interval '1 hour')`, ep.ID)
	start(e, config(e))
	_, first := record(e, ep)
	publish(e, first)
	e.Await("parked", `SELECT waits_for IS NOT DISTINCT FROM 'circuit_open' FROM deliveries WHERE id = $1`, first.ID)
	_, asked := record(e, ep)
	asked.Probe = true
	publish(e, asked)
	awaitStatus(e, asked, "success")
	awaitStatus(e, first, "success") // the circuit is closed
}

func TestRetryAfterLengthensTheWaitAndPausesTheEndpoint(t *testing.T) {
	t.Parallel()
	e := steptest.New(t)
	url, posts := receiver(t, func(n int, w http.ResponseWriter) {
		if n == 1 {
			w.Header().Set("Retry-After", "2")
			w.WriteHeader(http.StatusServiceUnavailable)
		}
	})
	ep := e.Endpoint(alice, url)
	start(e, config(e))
	startSweeper(e)
	_, first := record(e, ep)
	publish(e, first)
	e.Await("waits", `SELECT waits_for IS NOT DISTINCT FROM 'retry_after' FROM deliveries WHERE id = $1`, first.ID)
	_, second := record(e, ep)
	publish(e, second)
	e.Await("the other is parked", `SELECT waits_for IS NOT DISTINCT FROM 'paused' FROM deliveries WHERE id = $1`, second.ID)
	awaitStatus(e, first, "success")
	awaitStatus(e, second, "success")
	a := <-posts
	for range 2 {
		if b := <-posts; b.at.Sub(a.at) < 2*time.Second {
			t.Errorf("a POST %s after Retry-After: 2", b.at.Sub(a.at))
		}
	}
}

func TestAnEndpointsOwnSchedule(t *testing.T) {
	t.Parallel()
	e := steptest.New(t)
	url, posts := receiver(t, always(500))
	ep := e.Endpoint(alice, url)
	e.Exec(`UPDATE endpoints SET retry_schedule = '{70}' WHERE id = $1`, ep.ID) // no step of the settings' schedule
	start(e, config(e))
	startSweeper(e)
	_, d := record(e, ep)
	publish(e, d)
	awaitStatus(e, d, "failed")
	wantAttempts(e, d, attempt{1, "failure", 500, "status"}, attempt{2, "failure", 500, "status"})
	a, b := <-posts, <-posts
	if b.at.Sub(a.at) < 70*time.Millisecond {
		t.Errorf("retried after %s", b.at.Sub(a.at))
	}
}

func TestGoneEndsWhatIsPending(t *testing.T) {
	t.Parallel()
	e := steptest.New(t)
	url, posts := receiver(t, always(410))
	ep := e.Endpoint(alice, url)
	waits := records(e, ep, 5)
	e.Exec(`UPDATE deliveries SET next_attempt_at = now() + interval '1 hour'`)
	e.Exec(`UPDATE deliveries SET waits_for = 'schedule' WHERE id = $1`, waits[0].ID)
	start(e, config(e))
	_, d := record(e, ep)
	publish(e, d)
	e.Await("all ended", `SELECT count(*) = 6 FROM deliveries WHERE status = 'failed' AND reason = 'endpoint_disabled' AND waits_for IS NULL`)
	e.Await("done with it", `SELECT NOT ending FROM endpoint_states WHERE endpoint_id = $1`, ep.ID)
	if n := e.Count(`SELECT count(*) FROM outbox WHERE type = 'endpoint.disabled' AND user_id = $1`, alice); n != 1 {
		t.Errorf("%d events endpoint.disabled, want 1", n)
	}
	if n := e.Count(`SELECT count(*) FROM audit_log WHERE endpoint_id = $1 AND actor = 'deliverer' AND action = 'endpoint.disabled'`, ep.ID); n != 1 {
		t.Errorf("%d audit records, want 1", n)
	}
	if len(posts) != 1 {
		t.Errorf("%d POSTs, want 1", len(posts))
	}
}

func TestAnEndpointThatDoesNothingButFailIsDisabled(t *testing.T) {
	t.Parallel()
	e := steptest.New(t)
	url, _ := receiver(t, always(500))
	failing := e.Endpoint(alice, url)
	young := e.Endpoint(alice, url+"/young")
	e.Exec(`INSERT INTO endpoint_states (endpoint_id, failing_since, failures) VALUES ($1, now() - interval '5 days', 9), ($2, now() - interval '4 days', 100)`,
		failing.ID, young.ID)
	cfg := config(e)
	cfg.DisableAfter = 5 * 24 * time.Hour
	cfg.Schedule = nil
	start(e, cfg)
	_, d := record(e, failing)
	_, other := record(e, young)
	publish(e, d, other)
	e.Await("disabled", `SELECT NOT is_active AND disabled_reason = 'failing' AND disabled_at IS NOT NULL FROM endpoints WHERE id = $1`, failing.ID)
	awaitStatus(e, other, "failed")
	if n := e.Count(`SELECT count(*) FROM endpoints WHERE is_active`); n != 1 {
		t.Errorf("%d endpoints active, want the one that has not failed for long enough", n)
	}
}

func TestExhaustedAndRecoveredDeliveriesAreTold(t *testing.T) {
	t.Parallel()
	e := steptest.New(t)
	var well atomic.Bool
	url, _ := receiver(t, func(_ int, w http.ResponseWriter) {
		if !well.Load() {
			w.WriteHeader(http.StatusInternalServerError)
		}
	})
	ep := e.Endpoint(alice, url)
	cfg := config(e)
	cfg.Schedule = nil
	start(e, cfg)
	_, d := record(e, ep)
	publish(e, d)
	awaitStatus(e, d, "failed")
	told := func(eventType string) int {
		return e.Count(`SELECT count(*) FROM outbox WHERE type = $1 AND user_id = $2
			AND convert_from(body, 'UTF8')::json -> 'data' ->> 'deliveryId' = $3`, eventType, alice, d.ID.String())
	}
	if n := told("message.attempt.exhausted"); n != 1 {
		t.Errorf("%d events message.attempt.exhausted, want 1", n)
	}
	well.Store(true)
	e.Exec(`UPDATE deliveries SET status = 'pending', reason = NULL, failures = 0, next_attempt_at = now(), trigger = 'resend'`)
	publish(e, d)
	awaitStatus(e, d, "success")
	if n := told("message.attempt.recovered"); n != 1 {
		t.Errorf("%d events message.attempt.recovered, want 1", n)
	}
	// The deliveries of such events tell of nothing further.
	e.Exec(`UPDATE deliveries SET status = 'pending', delivered_at = NULL, next_attempt_at = now(), event_type = 'message.attempt.exhausted'`)
	well.Store(false)
	publish(e, d)
	awaitStatus(e, d, "failed")
	if n := e.Count(`SELECT count(*) FROM outbox`); n != 2 {
		t.Errorf("%d events told, want 2", n)
	}
}

// However many endpoints hang, what they take of memory is bounded by
// DELIVER_CONCURRENCY: of 40 slots they get 30, each of them a body of 256 KiB,
// what is kept of an answer (64 KiB), buffers and stacks.
func TestHangingEndpointsTakeBoundedMemory(t *testing.T) { // not parallel: it measures the heap
	const endpoints, slots, perAttempt = 150, 40, 512 << 10
	e := steptest.New(t)
	url, g, release := hanging(t)
	body := []byte(`{"type":"card.viewed","timestamp":"2026-08-01T00:00:00Z","data":{"filler":"` + strings.Repeat("x", 256<<10-80) + `"}}`)
	var list []delivery.Delivery
	for range endpoints {
		_, d := record(e, e.Endpoint(alice, url))
		list = append(list, d)
	}
	e.Exec(`UPDATE events SET body = $1`, body)
	cfg := config(e)
	cfg.AttemptTimeout, cfg.Concurrency = 30*time.Second, slots
	start(e, cfg)
	t.Cleanup(release)
	before := heap()
	publish(e, list...)
	e.Await("slots taken", `SELECT count(*) = 30 FROM attempts`)
	e.Await("the rest waits", `SELECT count(*) = 120 FROM deliveries WHERE waits_for = 'at_capacity'`)
	if grown := int64(heap()) - int64(before); grown > slots*perAttempt {
		t.Errorf("the heap grew by %d KiB, which is more than %d KiB for each slot", grown>>10, perAttempt>>10)
	} else {
		t.Logf("the heap grew by %d KiB with 30 attempts in flight, and 120 waiting", grown>>10)
	}
	if g.most.Load() > 30 {
		t.Errorf("%d requests at once", g.most.Load())
	}
}

func TestStoppingGivesBackWhatHasNotBegun(t *testing.T) {
	t.Parallel()
	e := steptest.New(t)
	url, g, release := hanging(t)
	ep := e.Endpoint(alice, url)
	cfg := config(e)
	cfg.AttemptTimeout = 30 * time.Second
	stop := start(e, cfg)
	list := records(e, ep, 50)
	publish(e, list...)
	e.Await("attempts in flight", `SELECT count(*) = 2 FROM attempts`)
	for g.now.Load() < 2 {
		runtime.Gosched()
	}
	stopped := make(chan struct{})
	go func() { defer close(stopped); stop() }()
	release()
	<-stopped
	if n := e.Count(`SELECT count(*) FROM attempts`); n != 2 {
		t.Errorf("%d attempts, want the 2 that were in flight", n)
	}
	if n := e.Count(`SELECT count(*) FROM attempts WHERE outcome = 'success'`); n != 2 {
		t.Errorf("%d attempts settled, want 2", n)
	}
	start(e, cfg) // what was given back comes at once, and nothing twice
	e.Await("all delivered", `SELECT count(*) = 50 FROM deliveries WHERE status = 'success' AND attempts = 1`)
}

func TestStoppingParksAgainWhatItHasDrawn(t *testing.T) {
	t.Parallel()
	e := steptest.New(t)
	const quick, all = 300, 400
	gate := make(chan struct{})
	release := sync.OnceFunc(func() { close(gate) })
	var n atomic.Int64
	s := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		if n.Add(1) > quick { // by then claims are made ahead
			<-gate
		}
	}))
	t.Cleanup(s.Close)
	t.Cleanup(release)
	ep := e.Endpoint(alice, s.URL)
	records(e, ep, all)
	e.Exec(`UPDATE deliveries SET waits_for = 'at_capacity', next_attempt_at = '9999-01-01Z'`)
	e.Exec(`INSERT INTO endpoint_states (endpoint_id, waits_for, wait_until) VALUES ($1, 'at_capacity', now())`, ep.ID)
	cfg := config(e)
	cfg.AttemptTimeout = 30 * time.Second
	stop := start(e, cfg)
	e.Await("claims ahead of the attempts that hang", `SELECT count(*) > 10 FROM deliveries WHERE leased_until IS NOT NULL AND status = 'pending'`)
	stopped := make(chan struct{})
	go func() { defer close(stopped); stop() }()
	release()
	<-stopped
	if n := e.Count(`SELECT count(*) FROM deliveries WHERE status = 'pending' AND (waits_for IS NULL OR leased_until IS NOT NULL OR attempts > 0)`); n != 0 {
		t.Errorf("%d deliveries are neither delivered nor parked", n)
	}
	start(e, cfg)
	e.Await("all delivered", `SELECT count(*) = $1 FROM deliveries WHERE status = 'success' AND attempts = 1`, all)
}

func TestUnclaimedDeliveriesWereNeverAttempted(t *testing.T) {
	t.Parallel()
	e := steptest.New(t)
	_, d := record(e, e.Endpoint(alice, "http://127.0.0.1:1/"))
	c := claim(e, d, time.Hour)
	unclaim(e, d, uuid.New()) // another's
	wantAttempts(e, d, attempt{1, "in flight", 0, ""})
	unclaim(e, d, c)
	wantAttempts(e, d)
	if n := e.Count(`SELECT count(*) FROM deliveries WHERE attempts = 0 AND leased_until IS NULL AND status = 'pending'`); n != 1 {
		t.Error("the delivery is not as it was before")
	}
}

func unclaim(e *steptest.Env, d delivery.Delivery, claimID uuid.UUID) {
	e.T.Helper()
	err := db.New(e.DB).UnclaimDeliveries(e.T.Context(), db.UnclaimDeliveriesParams{Ids: []uuid.UUID{d.ID}, ClaimIds: []uuid.UUID{claimID}, Low: d.ID, High: d.ID})
	if err != nil {
		e.T.Fatal(err)
	}
}

func TestWhatFanOutParkedIsDeliveredAndThenNothingWaits(t *testing.T) {
	t.Parallel()
	e := steptest.New(t)
	url, posts := receiver(t, always(204))
	ep := e.Endpoint(alice, url)
	records(e, ep, 50) // without messages
	e.Exec(`UPDATE deliveries SET waits_for = 'at_capacity', next_attempt_at = '9999-01-01Z'`)
	e.Exec(`INSERT INTO endpoint_states (endpoint_id, waits_for, wait_until) VALUES ($1, 'at_capacity', now())`, ep.ID)
	start(e, config(e))
	e.Await("all delivered", `SELECT count(*) = 50 FROM deliveries WHERE status = 'success' AND waits_for IS NULL`)
	e.Await("noted that nothing waits", `SELECT waits_for IS NULL AND wait_until IS NULL FROM endpoint_states`)
	if len(posts) != 50 {
		t.Errorf("%d POSTs, want 50", len(posts))
	}
}

// Fan-out parks while the deliverer, which has seen the last one, is about to note that nothing waits.
func TestWhatIsParkedWhileTheLastOneLeavesIsNotForgotten(t *testing.T) {
	t.Parallel()
	e := steptest.New(t)
	url, _ := receiver(t, always(204))
	ep := e.Endpoint(alice, url)
	e.Exec(`INSERT INTO endpoint_states (endpoint_id, waits_for, wait_until) VALUES ($1, 'at_capacity', now())`, ep.ID)
	_, d := record(e, ep)
	tx, err := e.DB.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = tx.Rollback(t.Context()) }()
	for _, sql := range []string{ // as fan-out's statement does
		`SELECT FROM endpoint_states WHERE waits_for IS NOT NULL FOR SHARE`,
		`UPDATE deliveries SET waits_for = 'at_capacity', next_attempt_at = '9999-01-01Z'`,
	} {
		if _, err := tx.Exec(t.Context(), sql); err != nil {
			t.Fatal(err)
		}
	}
	start(e, config(e))
	e.Await("the deliverer waits for fan-out", `SELECT EXISTS (SELECT FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock')`)
	if err := tx.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	awaitStatus(e, d, "success")
}

func TestACircuitThatTheOwnerResetIsProbedAtOnce(t *testing.T) {
	t.Parallel()
	e := steptest.New(t)
	url, _ := receiver(t, always(204))
	ep := e.Endpoint(alice, url)
	e.Exec(`INSERT INTO endpoint_states (endpoint_id, circuit, circuit_reason, circuit_until) VALUES ($1, 'open', 'circuit_open', now() + interval '1 hour')`, ep.ID)
	start(e, config(e))
	_, d := record(e, ep)
	publish(e, d)
	e.Await("parked", `SELECT waits_for IS NOT DISTINCT FROM 'circuit_open' FROM deliveries WHERE id = $1`, d.ID)
	e.Exec(`UPDATE endpoint_states SET circuit = 'closed', circuit_reason = NULL, circuit_until = NULL, wait_until = now()`) // as PATCH does
	awaitStatus(e, d, "success")
}

// All that is new for an endpoint with parked deliveries is parked too: nobody
// offers the gate something that it could probe the endpoint with.
func TestACircuitThatAnotherDelivererClosedIsProbedAtOnce(t *testing.T) {
	t.Parallel()
	e := steptest.New(t)
	url, _ := receiver(t, always(204))
	ep := e.Endpoint(alice, url)
	e.Exec(`INSERT INTO endpoint_states (endpoint_id, circuit, circuit_reason, circuit_until) VALUES ($1, 'open', 'circuit_open', now() + interval '1 hour')`, ep.ID)
	_, surveyed := record(e, e.Endpoint(alice, url))
	e.Exec(`UPDATE deliveries SET waits_for = 'at_capacity', next_attempt_at = '9999-01-01Z'`) // which only a survey finds
	start(e, config(e))
	awaitStatus(e, surveyed, "success") // the next one is in ten minutes
	_, d := record(e, ep)
	publish(e, d)
	e.Await("parked", `SELECT waits_for IS NOT DISTINCT FROM 'circuit_open' FROM deliveries WHERE id = $1`, d.ID)
	err := db.New(e.DB).SaveCircuits(t.Context(), db.SaveCircuitsParams{EndpointIds: []uuid.UUID{ep.ID}, Circuits: []string{"closed"}, Reasons: []string{""}, Waits: []float64{0}})
	if err != nil {
		t.Fatal(err)
	}
	awaitStatus(e, d, "success")
}
