package deliver_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"

	"github.com/cardwire/cardwire/services/internal/signing"
	"github.com/cardwire/cardwire/services/internal/steptest"
)

func TestTheAttemptRowIsCommittedBeforeThePOST(t *testing.T) {
	t.Parallel()
	e := steptest.New(t)
	inFlight := make(chan int, 1)
	url, posts := receiver(t, func(_ int, w http.ResponseWriter) {
		inFlight <- e.Count(`SELECT count(*) FROM attempts WHERE outcome IS NULL AND n = 1`)
		w.Header().Set("X-Trace", "abc")
		w.WriteHeader(http.StatusCreated)
		fmt.Fprint(w, "thanks\x00\xff")
	})
	ep := e.Endpoint(alice, url)
	ev, d := record(e, ep)
	start(e, config(e))
	publish(e, d)

	p := <-posts
	if n := <-inFlight; n != 1 {
		t.Errorf("%d attempt rows while the POST was on its way, want 1", n)
	}
	awaitStatus(e, d, "success")
	wantAttempts(e, d, attempt{1, "success", 201, ""})
	if string(p.body) != string(ev.Body) {
		t.Errorf("body %q, want the event's bytes %q", p.body, ev.Body)
	}
	if got := p.header.Get("Webhook-Id"); got != ev.ID.String() {
		t.Errorf("webhook-id %q, want the event's id", got)
	}
	wh, err := standardwebhooks.NewWebhook(signing.Whsec(ep.Secret))
	if err != nil {
		t.Fatal(err)
	}
	if err := wh.Verify(p.body, p.header); err != nil {
		t.Errorf("foreign library: %v", err)
	}
	var headers, body []byte
	if err := e.DB.QueryRow(t.Context(), `SELECT response_headers, response_body FROM attempts`).Scan(&headers, &body); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(headers), "X-Trace: abc\n") || string(body) != "thanks\x00\xff" {
		t.Errorf("stored headers %q, body %q", headers, body)
	}
	drainMessages(e)
}

func TestAReceiverThatFailsTwiceGetsThreeAttempts(t *testing.T) {
	t.Parallel()
	e := steptest.New(t)
	url, posts := receiver(t, func(n int, w http.ResponseWriter) {
		w.WriteHeader([]int{503, 302, 200}[n-1])
	})
	ep := e.Endpoint(alice, url)
	ev, d := record(e, ep)
	cfg := config(e)
	start(e, cfg)
	publish(e, d)
	awaitStatus(e, d, "success")
	wantAttempts(e, d, attempt{1, "failure", 503, "status"}, attempt{2, "failure", 302, "status"}, attempt{3, "success", 200, ""})
	var last time.Time
	for n := range 3 {
		p := <-posts
		if got := p.header.Get("Webhook-Id"); got != ev.ID.String() {
			t.Errorf("attempt %d: webhook-id %q", n+1, got)
		}
		if n > 0 && p.at.Sub(last) < cfg.Schedule[n-1] {
			t.Errorf("attempt %d: %s after the one before, want at least %s", n+1, p.at.Sub(last), cfg.Schedule[n-1])
		}
		last = p.at
	}
	if n := e.Count(`SELECT count(*) FROM attempts a JOIN attempts b ON b.delivery_id = a.delivery_id AND b.n = a.n + 1 AND b.started_at < a.finished_at`); n != 0 {
		t.Errorf("%d attempts overlap", n)
	}
	drainMessages(e)
}

func TestAScheduleThatIsSpentEndsTheDelivery(t *testing.T) {
	t.Parallel()
	e := steptest.New(t)
	url, _ := receiver(t, always(500))
	_, d := record(e, e.Endpoint(alice, url))
	start(e, config(e))
	publish(e, d)
	awaitStatus(e, d, "failed")
	wantAttempts(e, d, attempt{1, "failure", 500, "status"}, attempt{2, "failure", 500, "status"}, attempt{3, "failure", 500, "status"}, attempt{4, "failure", 500, "status"})
	if n := e.Count(`SELECT count(*) FROM deliveries WHERE reason = 'exhausted' AND failures = 4 AND response_code = 500 AND error_message <> '' AND next_attempt_at IS NULL`); n != 1 {
		t.Error("the delivery does not say why it ended")
	}
	drainMessages(e)
}

func TestGoneDisablesTheEndpoint(t *testing.T) {
	t.Parallel()
	e := steptest.New(t)
	url, posts := receiver(t, always(410))
	ep := e.Endpoint(alice, url)
	_, d := record(e, ep)
	_, later := record(e, ep)
	start(e, config(e))
	publish(e, d)
	awaitStatus(e, d, "failed")
	publish(e, later)
	awaitStatus(e, later, "failed")
	if n := e.Count(`SELECT count(*) FROM deliveries WHERE reason = 'endpoint_disabled'`); n != 2 {
		t.Errorf("%d deliveries ended as endpoint_disabled, want 2", n)
	}
	if n := e.Count(`SELECT count(*) FROM endpoints WHERE NOT is_active AND disabled_reason = 'gone'`); n != 1 {
		t.Error("endpoint not disabled")
	}
	if len(posts) != 1 {
		t.Errorf("%d POSTs, want 1", len(posts))
	}
}

func TestADeletedEndpointGetsNothing(t *testing.T) {
	t.Parallel()
	e := steptest.New(t)
	url, posts := receiver(t, always(200))
	ep := e.Endpoint(alice, url)
	_, d := record(e, ep)
	e.Exec(`UPDATE endpoints SET deleted_at = now() WHERE id = $1`, ep.ID)
	start(e, config(e))
	publish(e, d)
	awaitStatus(e, d, "failed")
	if n := e.Count(`SELECT count(*) FROM deliveries WHERE reason = 'endpoint_deleted' AND attempts = 0`); n != 1 || len(posts) != 0 {
		t.Errorf("reason not endpoint_deleted, or %d POSTs", len(posts))
	}
	drainMessages(e)
}

func TestTheSameMessageManyTimesIsOnePOST(t *testing.T) {
	t.Parallel()
	e := steptest.New(t)
	url, posts := receiver(t, always(200))
	_, d := record(e, e.Endpoint(alice, url))
	start(e, config(e))
	start(e, config(e)) // a second replica
	publish(e, d, d, d, d, d, d, d, d, d, d)
	awaitStatus(e, d, "success")
	drainMessages(e)
	if len(posts) != 1 {
		t.Errorf("%d POSTs, want 1", len(posts))
	}
	wantAttempts(e, d, attempt{1, "success", 200, ""})
}

func TestARotatedSecretSignsBesideTheNewOne(t *testing.T) {
	t.Parallel()
	e := steptest.New(t)
	url, posts := receiver(t, always(200))
	ep := e.Endpoint(alice, url)
	newer := signing.NewSecret()
	e.AddSecret(ep.ID, newer)
	e.Exec(`INSERT INTO endpoint_secrets (id, endpoint_id, ciphertext, expires_at) VALUES ($1, $2, 'gone', now() - interval '1 s')`, uuid.Must(uuid.NewV7()), ep.ID)
	_, d := record(e, ep)
	start(e, config(e))
	publish(e, d)
	p := <-posts
	for _, secret := range []string{ep.Secret, newer} {
		wh, err := standardwebhooks.NewWebhook(signing.Whsec(secret))
		if err != nil {
			t.Fatal(err)
		}
		if err := wh.Verify(p.body, p.header); err != nil {
			t.Error(err)
		}
	}
	if got := len(strings.Fields(p.header.Get("Webhook-Signature"))); got != 2 {
		t.Errorf("%d signatures, want 2", got)
	}
}

func TestAReceiverThatHangsEndsAtTheTimeout(t *testing.T) {
	t.Parallel()
	e := steptest.New(t)
	release := make(chan struct{})
	url, _ := receiver(t, func(n int, w http.ResponseWriter) {
		if n == 1 {
			<-release
		}
	})
	t.Cleanup(func() { close(release) }) // before the receiver waits for it
	_, d := record(e, e.Endpoint(alice, url))
	cfg := config(e)
	cfg.AttemptTimeout = 200 * time.Millisecond
	start(e, cfg)
	publish(e, d)
	awaitStatus(e, d, "success")
	wantAttempts(e, d, attempt{1, "failure", 0, "timeout"}, attempt{2, "success", 200, ""})
}

func TestA2xxWhoseBodyStallsIsASuccess(t *testing.T) {
	t.Parallel()
	e := steptest.New(t)
	release := make(chan struct{})
	url, _ := receiver(t, func(_ int, w http.ResponseWriter) {
		fmt.Fprint(w, "begun")
		w.(http.Flusher).Flush()
		<-release
	})
	t.Cleanup(func() { close(release) }) // before the receiver waits for it
	_, d := record(e, e.Endpoint(alice, url))
	cfg := config(e)
	cfg.AttemptTimeout = 200 * time.Millisecond
	start(e, cfg)
	publish(e, d)
	awaitStatus(e, d, "success")
	wantAttempts(e, d, attempt{1, "success", 200, ""})
}

func TestALongAnswerIsKeptTo64KiB(t *testing.T) {
	t.Parallel()
	e := steptest.New(t)
	url, _ := receiver(t, func(_ int, w http.ResponseWriter) {
		fmt.Fprint(w, strings.Repeat("x", 64<<10+1))
	})
	_, d := record(e, e.Endpoint(alice, url))
	start(e, config(e))
	publish(e, d)
	awaitStatus(e, d, "success")
	if n := e.Count(`SELECT count(*) FROM attempts WHERE response_truncated AND octet_length(response_body) = 65536`); n != 1 {
		t.Error("body not cut at 64 KiB, or not said so")
	}
}

func TestAnAddressThatIsNotAllowedIsRefusedToTheEnd(t *testing.T) {
	t.Parallel()
	e := steptest.New(t)
	url, posts := receiver(t, always(200))
	_, d := record(e, e.Endpoint(alice, url))
	cfg := config(e)
	cfg.AllowCIDRs = nil
	start(e, cfg)
	publish(e, d)
	awaitStatus(e, d, "failed")
	refused := attempt{Outcome: "failure", Class: "refused_address"}
	want := []attempt{refused, refused, refused, refused}
	for i := range want {
		want[i].N = i + 1
	}
	wantAttempts(e, d, want...)
	if n := e.Count(`SELECT count(*) FROM deliveries WHERE reason = 'refused_address' AND error_message = 'The address is not allowed.'`); n != 1 || len(posts) != 0 {
		t.Errorf("wrong reason, or %d POSTs", len(posts))
	}
}
