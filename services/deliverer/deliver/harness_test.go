package deliver_test

import (
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"github.com/cardwire/cardwire/events"
	"github.com/cardwire/cardwire/events/streams"
	"github.com/cardwire/cardwire/services/deliverer/deliver"
	"github.com/cardwire/cardwire/services/deliverer/sweep"
	"github.com/cardwire/cardwire/services/internal/delivery"
	"github.com/cardwire/cardwire/services/internal/steptest"
	"github.com/cardwire/cardwire/sql/pgtest"
)

// ca signs the certificates of receivers that are to be trusted.
var ca *authority

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	dir, err := os.MkdirTemp("", "cardwire-authority-")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(dir)
	if ca, err = trusted(dir); err != nil {
		panic(err)
	}
	return pgtest.Main(m)
}

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
		PerEndpoint:      10,
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
