package deliver_test

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/rs/zerolog"

	"github.com/cardwire/cardwire/events/streams"
	"github.com/cardwire/cardwire/services/deliverer/deliver"
	"github.com/cardwire/cardwire/services/deliverer/sweep"
	"github.com/cardwire/cardwire/services/internal/delivery"
	"github.com/cardwire/cardwire/services/internal/steptest"
	"github.com/cardwire/cardwire/sql/db"
	"github.com/cardwire/cardwire/sql/migrations"
	"github.com/cardwire/cardwire/sql/pgtest"
)

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

func claim(e *steptest.Env, d delivery.Delivery, lease time.Duration) (claimID uuid.UUID) {
	e.T.Helper()
	claimID = uuid.New()
	rows, err := db.New(e.DB).ClaimDeliveries(e.T.Context(), db.ClaimDeliveriesParams{
		Ids: []uuid.UUID{d.ID}, Low: d.ID, High: d.ID, Lease: lease.Seconds(), MaxInterruptions: 10, ClaimID: claimID,
	})
	if err != nil || len(rows) != 1 {
		e.T.Fatalf("claimed %d, %v", len(rows), err)
	}
	return claimID
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

// After the broker lost its store, 500 a second would take minutes. The pause here
// is so long that the sweeper must not make it between these sweeps.
func TestTheSweeperGoesOnAtOnceWhileThereIsMore(t *testing.T) {
	t.Parallel()
	e := steptest.New(t)
	ep := e.Endpoint(alice, "https://receiver.example/")
	const due = 4_500
	e.Exec(`INSERT INTO deliveries (id, event_id, endpoint_id, event_type, next_attempt_at)
		SELECT new_id(), new_id(), $1, 'card.viewed', now() - interval '1 hour' FROM generate_series(1, $2)`, ep.ID, due)
	deps := e.Deps("deliverer")
	if _, err := streams.EnsureStream(t.Context(), deps.JS, e.Streams.DeliveriesStream()); err != nil {
		t.Fatal(err)
	}
	if _, err := streams.EnsureConsumer(t.Context(), deps.JS, streams.Deliveries, streams.LaneConsumer(streams.Again, streams.AllAgain)); err != nil {
		t.Fatal(err)
	}
	s, err := sweep.New(sweep.Config{SweepInterval: 10 * time.Second, SweepGrace: time.Second}, deps)
	if err != nil {
		t.Fatal(err)
	}
	e.Run(s)
	e.Await("all are published", `SELECT count(*) = $1 FROM deliveries WHERE swept_at IS NOT NULL`, due)
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
	if _, err := s.Once(t.Context()); err != nil {
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
