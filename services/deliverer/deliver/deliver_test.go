package deliver_test

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/rs/zerolog"
	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"

	"github.com/cardwire/cardwire/events"
	"github.com/cardwire/cardwire/events/streams"
	"github.com/cardwire/cardwire/services/deliverer/deliver"
	"github.com/cardwire/cardwire/services/deliverer/sweep"
	"github.com/cardwire/cardwire/services/internal/delivery"
	"github.com/cardwire/cardwire/services/internal/signing"
	"github.com/cardwire/cardwire/services/internal/steptest"
	"github.com/cardwire/cardwire/sql/db"
	"github.com/cardwire/cardwire/sql/migrations"
	"github.com/cardwire/cardwire/sql/pgtest"
)

func TestMain(m *testing.M) { os.Exit(pgtest.Main(m)) }

var alice = uuid.MustParse("00000000-0000-7000-8000-000000000001")

// A post is what a receiver got.
type post struct {
	header http.Header
	body   []byte
	at     time.Time
}

// receiver answers each POST with what answer says of its number, from 1.
func receiver(t *testing.T, answer func(n int, w http.ResponseWriter)) (url string, posts chan post) {
	t.Helper()
	posts = make(chan post, 1000)
	n := 0
	turn := make(chan struct{}, 1)
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		turn <- struct{}{}
		n++
		mine := n
		<-turn
		posts <- post{r.Header.Clone(), body, time.Now()}
		answer(mine, w)
	}))
	t.Cleanup(s.Close)
	return s.URL, posts
}

func always(code int) func(int, http.ResponseWriter) {
	return func(_ int, w http.ResponseWriter) { w.WriteHeader(code) }
}

func config(e *steptest.Env) deliver.Config {
	return deliver.Config{
		EncryptionKeyset: e.Serial,
		AttemptTimeout:   5 * time.Second,
		Schedule:         deliver.Schedule{50 * time.Millisecond, 100 * time.Millisecond, 150 * time.Millisecond},
		Concurrency:      16,
		AllowCIDRs:       []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("::1/128")},
	}
}

func start(e *steptest.Env, cfg deliver.Config) (stop func()) {
	e.T.Helper()
	w, err := deliver.New(cfg, e.Deps("deliverer"))
	if err != nil {
		e.T.Fatal(err)
	}
	return e.Run(w)
}

func startSweeper(e *steptest.Env) (stop func()) {
	e.T.Helper()
	s, err := sweep.New(sweep.Config{SweepInterval: 20 * time.Millisecond, SweepGrace: 50 * time.Millisecond}, e.Deps("deliverer"))
	if err != nil {
		e.T.Fatal(err)
	}
	return e.Run(s)
}

// record writes an event and its delivery to an endpoint, as fan-out does.
func record(e *steptest.Env, ep steptest.Endpoint) (events.Event, delivery.Delivery) {
	e.T.Helper()
	ev := e.Event(ep.UserID, map[string]any{"source": "qr", "note": "é\u2028<>&"})
	d := delivery.Delivery{ID: delivery.ID(ev.ID, ep.ID), EventID: ev.ID, EndpointID: ep.ID}
	e.Exec(`INSERT INTO events (id, user_id, type, body, occurred_at, stream_seq) VALUES ($1, $2, $3, $4, $5, 1)`,
		ev.ID, ev.UserID, ev.Type, ev.Body, ev.Time)
	e.Exec(`INSERT INTO deliveries (id, event_id, endpoint_id, event_type) VALUES ($1, $2, $3, $4)`, d.ID, ev.ID, ep.ID, ev.Type)
	return ev, d
}

// publish publishes deliveries as fan-out does.
func publish(e *steptest.Env, ds ...delivery.Delivery) {
	e.T.Helper()
	js := e.Deps("webhooks").JS
	if _, err := streams.EnsureStream(e.T.Context(), js, e.Streams.DeliveriesStream()); err != nil {
		e.T.Fatal(err)
	}
	for _, d := range ds {
		m := d.FirstMsg()
		m.Header.Set("Nats-Msg-Id", uuid.NewString()) // past the stream's dedup: the claim must do
		if _, err := js.PublishMsg(e.T.Context(), m); err != nil {
			e.T.Fatal(err)
		}
	}
}

func awaitStatus(e *steptest.Env, d delivery.Delivery, status string) {
	e.T.Helper()
	e.Await("delivery "+status, `SELECT status = $2 FROM deliveries WHERE id = $1`, d.ID, status)
}

// An attempt as the log has it.
type attempt struct {
	N       int
	Outcome string
	Code    int
	Class   string
}

func attempts(e *steptest.Env, d delivery.Delivery) (got []attempt) {
	e.T.Helper()
	rows, err := e.DB.Query(e.T.Context(), `SELECT n, coalesce(outcome, 'in flight'), coalesce(response_code, 0), coalesce(error_class, '')
		FROM attempts WHERE delivery_id = $1 ORDER BY n`, d.ID)
	if err != nil {
		e.T.Fatal(err)
	}
	defer rows.Close()
	for rows.Next() {
		var a attempt
		if err := rows.Scan(&a.N, &a.Outcome, &a.Code, &a.Class); err != nil {
			e.T.Fatal(err)
		}
		got = append(got, a)
	}
	if err := rows.Err(); err != nil {
		e.T.Fatal(err)
	}
	return got
}

func wantAttempts(e *steptest.Env, d delivery.Delivery, want ...attempt) {
	e.T.Helper()
	if diff := cmp.Diff(want, attempts(e, d)); diff != "" {
		e.T.Errorf("attempts (-want +got):\n%s", diff)
	}
}

func drainMessages(e *steptest.Env) {
	e.T.Helper()
	js := e.Deps("operator").JS
	deadline := time.Now().Add(steptest.Bound)
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for range tick.C {
		s, err := js.Stream(e.T.Context(), streams.Deliveries)
		if err != nil {
			e.T.Fatal(err)
		}
		if s.CachedInfo().State.Msgs == 0 {
			return
		}
		if time.Now().After(deadline) {
			e.T.Fatalf("%d messages left", s.CachedInfo().State.Msgs)
		}
	}
}

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

// A deliverer that dies between claim and settle leaves a lease, an attempt
// without outcome and, here, no message at all.
func TestAnAttemptWhoseProcessDiedIsInterruptedAndMadeAgain(t *testing.T) {
	t.Parallel()
	e := steptest.New(t)
	url, _ := receiver(t, always(200))
	_, d := record(e, e.Endpoint(alice, url))
	claim(e, d, 100*time.Millisecond)
	start(e, config(e))
	startSweeper(e)
	awaitStatus(e, d, "success")
	wantAttempts(e, d, attempt{1, "interrupted", 0, ""}, attempt{2, "success", 200, ""})
	if n := e.Count(`SELECT failures FROM deliveries`); n != 0 {
		t.Errorf("%d failures counted: the receiver failed nothing", n)
	}
}

func claim(e *steptest.Env, d delivery.Delivery, lease time.Duration) {
	e.T.Helper()
	rows, err := db.New(e.DB).ClaimDeliveries(e.T.Context(), db.ClaimDeliveriesParams{
		Ids: []uuid.UUID{d.ID}, Low: d.ID, High: d.ID, Lease: lease.Seconds(), MaxInterruptions: 10,
	})
	if err != nil || len(rows) != 1 {
		e.T.Fatalf("claimed %d, %v", len(rows), err)
	}
}

// The connection to PostgreSQL may break after a commit and before its answer:
// the batch is then written again.
func TestAResultWrittenTwiceCountsOnce(t *testing.T) {
	t.Parallel()
	e := steptest.New(t)
	_, d := record(e, e.Endpoint(alice, "http://127.0.0.1:1/"))
	claim(e, d, time.Hour)
	for range 2 {
		waiting, err := db.New(e.DB).SettleAttempts(t.Context(), db.SettleAttemptsParams{
			Ids: []uuid.UUID{d.ID}, Ns: []int32{1}, Outcomes: []string{"failure"}, ResponseCodes: []int32{500},
			ErrorClasses: []string{"status"}, ErrorMessages: []string{"no"}, DurationsMs: []int32{1},
			ResponseHeaders: [][]byte{nil}, ResponseBodies: [][]byte{nil}, Truncated: []bool{false},
			Waits: []float64{30}, Reasons: []string{""}, Failures: []int32{1}, Low: d.ID, High: d.ID,
		})
		if err != nil || len(waiting) != 1 {
			t.Errorf("%d deliveries wait, %v; want 1, as each time it must get into its delay line", len(waiting), err)
		}
	}
	wantAttempts(e, d, attempt{1, "failure", 500, "status"})
	if n := e.Count(`SELECT failures FROM deliveries`); n != 1 {
		t.Errorf("%d failures, want 1: a step of the schedule would be skipped", n)
	}
}

func TestWhatIsLeasedIsNotClaimedAgain(t *testing.T) {
	t.Parallel()
	e := steptest.New(t)
	url, posts := receiver(t, always(200))
	_, d := record(e, e.Endpoint(alice, url))
	claim(e, d, time.Hour)
	start(e, config(e))
	publish(e, d)
	drainMessages(e)
	if len(posts) != 0 {
		t.Errorf("%d POSTs while somebody else held the lease", len(posts))
	}
	wantAttempts(e, d, attempt{1, "in flight", 0, ""})
}

func TestADeliveryThatKeepsKillingUsIsGivenUp(t *testing.T) {
	t.Parallel()
	e := steptest.New(t)
	url, posts := receiver(t, always(200))
	_, d := record(e, e.Endpoint(alice, url))
	e.Exec(`UPDATE deliveries SET attempts = 10`)
	start(e, config(e))
	publish(e, d)
	awaitStatus(e, d, "failed")
	if n := e.Count(`SELECT count(*) FROM deliveries WHERE reason = 'interrupted'`); n != 1 || len(posts) != 0 {
		t.Errorf("wrong reason, or %d POSTs", len(posts))
	}
}

func TestTheSweeperPublishesWhatTheBrokerLost(t *testing.T) {
	t.Parallel()
	e := steptest.New(t)
	url, _ := receiver(t, always(200))
	ep := e.Endpoint(alice, url)
	_, never := record(e, ep) // committed, but never published
	start(e, config(e))
	startSweeper(e)
	awaitStatus(e, never, "success")
	wantAttempts(e, never, attempt{1, "success", 200, ""})
}

func TestTheSweeperLeavesAQueueAlone(t *testing.T) {
	t.Parallel()
	e := steptest.New(t)
	ep := e.Endpoint(alice, "http://127.0.0.1:1/")
	_, d := record(e, ep)
	publish(e, d) // waits in its lane: no deliverer runs
	_, lost := record(e, ep)
	s, err := sweep.New(sweep.Config{SweepInterval: time.Second, SweepGrace: time.Minute}, e.Deps("deliverer"))
	if err != nil {
		t.Fatal(err)
	}
	// Both became due when they were recorded; only what became due before the
	// oldest message can be without one.
	e.Exec(`UPDATE deliveries SET next_attempt_at = now() - interval '1 h' WHERE id = $1`, lost.ID)
	if err := s.Once(t.Context()); err != nil {
		t.Fatal(err)
	}
	if n := e.Count(`SELECT count(*) FROM deliveries WHERE swept_at IS NOT NULL AND id = $1`, lost.ID); n != 1 {
		t.Error("lost delivery not swept")
	}
	if n := e.Count(`SELECT count(*) FROM deliveries WHERE swept_at IS NOT NULL`); n != 1 {
		t.Error("a delivery with a message was swept")
	}
}

func TestStoppingFinishesWhatIsInFlight(t *testing.T) {
	t.Parallel()
	e := steptest.New(t)
	release := make(chan struct{})
	url, posts := receiver(t, func(int, http.ResponseWriter) { <-release })
	_, d := record(e, e.Endpoint(alice, url))
	stop := start(e, config(e))
	publish(e, d)
	<-posts
	stopped := make(chan struct{})
	go func() { stop(); close(stopped) }()
	close(release)
	<-stopped
	wantAttempts(e, d, attempt{1, "success", 200, ""})
	drainMessages(e)
}

// lines is a log that tells when a text has come.
type lines chan string

func (l lines) Write(p []byte) (int, error) {
	select {
	case l <- string(p):
	default:
	}
	return len(p), nil
}

func (l lines) await(t *testing.T, text string) {
	t.Helper()
	deadline := time.After(steptest.Bound)
	for {
		select {
		case line := <-l:
			if strings.Contains(line, text) {
				return
			}
		case <-deadline:
			t.Fatalf("not logged: %s", text)
		}
	}
}

func TestAResultInHandWhenPostgreSQLComesBackNeedsNoSecondPOST(t *testing.T) {
	t.Parallel()
	e := steptest.New(t)
	postgres := pgtest.NewServer(t)
	if err := migrations.Up(t.Context(), postgres.URL(), zerolog.Nop()); err != nil {
		t.Fatal(err)
	}
	var err error
	if e.DB, err = pgxpool.New(t.Context(), postgres.URL()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(e.DB.Close)
	today := time.Now().UTC()
	if _, err := db.New(e.DB).EnsurePartitions(t.Context(), db.EnsurePartitionsParams{FromDay: today, ToDay: today}); err != nil {
		t.Fatal(err)
	}
	release := make(chan struct{})
	url, posts := receiver(t, func(int, http.ResponseWriter) { <-release })
	_, d := record(e, e.Endpoint(alice, url))
	deps, log := e.Deps("deliverer"), make(lines, 1000)
	deps.Log = zerolog.New(log)
	w, err := deliver.New(config(e), deps)
	if err != nil {
		t.Fatal(err)
	}
	s, err := sweep.New(sweep.Config{SweepInterval: 20 * time.Millisecond, SweepGrace: 50 * time.Millisecond}, deps)
	if err != nil {
		t.Fatal(err)
	}
	e.Run(w)
	publish(e, d)
	<-posts
	e.Exec(`UPDATE deliveries SET leased_until = now()`) // as after a long outage
	if err := postgres.StopNow(); err != nil {
		t.Fatal(err)
	}
	e.Run(s)
	log.await(t, "sweeping interrupted")
	close(release)
	log.await(t, "PostgreSQL to take results")
	if err := postgres.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	log.await(t, "sweeping again")
	wantAttempts(e, d, attempt{1, "success", 200, ""})
	if len(posts) != 0 {
		t.Errorf("%d POSTs more", len(posts))
	}
}
