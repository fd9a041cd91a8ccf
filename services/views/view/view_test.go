package view

import (
	"bytes"
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/rs/zerolog"

	"github.com/cardwire/cardwire/events"
	"github.com/cardwire/cardwire/events/streams"
	"github.com/cardwire/cardwire/services/internal/auth"
	"github.com/cardwire/cardwire/services/internal/broker"
	"github.com/cardwire/cardwire/services/internal/natstest"
	"github.com/cardwire/cardwire/services/internal/process"
	"github.com/cardwire/cardwire/services/internal/webjson"
	"github.com/cardwire/cardwire/sql/pgtest"
)

// People and cards of the tests. bobID is viewerID.
var (
	bobID     = viewerID
	carolID   = uuid.MustParse("00000000-0000-7000-8000-000000000003")
	bobCardID = uuid.MustParse("00000000-0000-7000-8000-0000000000c2")
)

const people = `
INSERT INTO users (id, username, display_name, bio, pronouns, role, company, avatar_url, accent_color) VALUES
	('00000000-0000-7000-8000-000000000001', 'alice', 'Alice <A>', 'Builds "things"', 'she/her', 'Engineer', 'Acme', 'https://img.example/a.png', '#112233'),
	('00000000-0000-7000-8000-000000000002', 'bob', 'Bob', NULL, NULL, NULL, NULL, NULL, '#6366f1');
INSERT INTO links (id, user_id, platform, username, url, display_order) VALUES
	('00000000-0000-7000-8000-0000000000a1', '00000000-0000-7000-8000-000000000001', 'github', 'alice', 'https://github.example/alice', 2),
	('00000000-0000-7000-8000-0000000000a2', '00000000-0000-7000-8000-000000000001', 'web', 'alice', 'https://alice.example/?a=1&b=2', 1);
INSERT INTO cards (id, user_id, title) VALUES
	('00000000-0000-7000-8000-0000000000c1', '00000000-0000-7000-8000-000000000001', 'Conference'),
	('00000000-0000-7000-8000-0000000000c2', '00000000-0000-7000-8000-000000000002', 'Empty');
INSERT INTO card_links (card_id, link_id, display_order) VALUES
	('00000000-0000-7000-8000-0000000000c1', '00000000-0000-7000-8000-0000000000a1', 0);`

// A world is a View with everything around it.
type world struct {
	*View
	t       testing.TB
	handler http.Handler
	broker  *broker.Broker
	store   string              // of the broker
	stream  jetstream.JetStream // as operator, of the broker at start
	pool    *pgxpool.Pool       // the same as the View's
	logs    *logs
}

// newWorld makes a View that is not running, with alice and bob in its
// database. The stream exists.
func newWorld(t testing.TB, changes ...func(*Config)) *world {
	t.Helper()
	return newWorldOn(t, pgtest.New(t), changes...)
}

func newWorldOn(t testing.TB, pool *pgxpool.Pool, changes ...func(*Config)) *world {
	t.Helper()
	w := newWorldWithoutStream(t, pool, changes...)
	if _, err := streams.EnsureStream(t.Context(), w.stream, streams.DefaultConfig().EventsStream()); err != nil {
		t.Fatal(err)
	}
	return w
}

func newWorldWithoutStream(t testing.TB, pool *pgxpool.Pool, changes ...func(*Config)) *world {
	t.Helper()
	w := &world{t: t, store: t.TempDir(), pool: pool, logs: &logs{}}
	w.broker = natstest.StartIn(t, w.store, -1)
	w.stream = natstest.JetStream(t, w.broker, "operator")
	w.exec(people)
	w.View, w.handler = w.open(changes...)
	return w
}

// open makes another View of the same world: a replica.
func (w *world) open(changes ...func(*Config)) (*View, http.Handler) {
	w.t.Helper()
	cfg := defaults(w.t)
	cfg.ViewsRate = 0
	for _, change := range changes {
		change(&cfg)
	}
	log := zerolog.New(w.logs)
	nc, err := process.ConnectNATS(w.broker.URL("views"), "views", log, func(error) {})
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(nc.Close)
	js, err := jetstream.New(nc)
	if err != nil {
		w.t.Fatal(err)
	}
	mux := http.NewServeMux()
	v, err := New(cfg, process.Deps{Log: log, NATS: nc, JS: js, DB: w.pool, Mux: mux, Streams: streams.DefaultConfig()})
	if err != nil {
		w.t.Fatal(err)
	}
	return v, webjson.Handler(mux, log)
}

// run runs a View until the test ends, or stop is called.
func (w *world) run(v *View) (stop func()) {
	w.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- v.Run(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			w.t.Errorf("Run: %v", err)
		}
	})
	w.t.Cleanup(stop)
	return stop
}

// do makes a request; each option changes it.
func (w *world) do(method, path string, options ...func(*http.Request)) *httptest.ResponseRecorder {
	w.t.Helper()
	r := httptest.NewRequestWithContext(w.t.Context(), method, path, http.NoBody)
	r.RemoteAddr = "192.0.2.7:40000"
	r.Header.Set("User-Agent", "test/1")
	for _, option := range options {
		option(r)
	}
	answer := httptest.NewRecorder()
	w.handler.ServeHTTP(answer, r)
	return answer
}

func (w *world) exec(sql string, args ...any) {
	w.t.Helper()
	if _, err := w.pool.Exec(w.t.Context(), sql, args...); err != nil {
		w.t.Fatal(err)
	}
}

// count returns the number that a query gives.
func (w *world) count(sql string, args ...any) int {
	w.t.Helper()
	var n int
	if err := w.pool.QueryRow(w.t.Context(), sql, args...).Scan(&n); err != nil {
		w.t.Fatal(err)
	}
	return n
}

// events are those on the stream, oldest first.
func (w *world) events() []events.Event {
	w.t.Helper()
	s, err := w.stream.Stream(w.t.Context(), streams.Events)
	if err != nil {
		w.t.Fatal(err)
	}
	var all []events.Event
	for seq := uint64(1); seq <= s.CachedInfo().State.LastSeq; seq++ {
		m, err := s.GetMsg(w.t.Context(), seq)
		if err != nil {
			w.t.Fatal(err)
		}
		e, err := events.Decode(m.Subject, m.Header, m.Data)
		if err != nil {
			w.t.Fatal(err)
		}
		all = append(all, e)
	}
	return all
}

// publish puts an event on the stream, as another service would.
func (w *world) publish(subject, id string, body string) {
	w.t.Helper()
	if _, err := w.stream.Publish(w.t.Context(), subject, []byte(body), jetstream.WithMsgID(id)); err != nil {
		w.t.Fatal(err)
	}
}

// await returns once ok is true.
func await(t testing.TB, what string, ok func() bool) {
	t.Helper()
	deadline := time.NewTimer(30 * time.Second) // only a broken test gets there
	defer deadline.Stop()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-tick.C:
		case <-deadline.C:
			t.Fatalf("still waiting: %s", what)
		}
	}
}

// awaitSettled returns once the writer of view rows has dealt with n messages.
func (w *world) awaitSettled(n uint64) {
	w.t.Helper()
	await(w.t, "view rows are written", func() bool {
		c, err := w.stream.Consumer(w.t.Context(), streams.Events, streams.CardViews)
		return err == nil && c.CachedInfo().AckFloor.Stream == n
	})
}

// dataOf is the data in the body of an event.
func dataOf(t testing.TB, e events.Event) string {
	t.Helper()
	var body struct{ Data json.RawMessage }
	if err := json.Unmarshal(e.Body, &body); err != nil {
		t.Fatal(err)
	}
	return string(body.Data)
}

func bearer(id uuid.UUID) func(*http.Request) {
	return func(r *http.Request) { r.Header.Set("Authorization", "Bearer "+token(id)) }
}

func cookie(id uuid.UUID) func(*http.Request) {
	return func(r *http.Request) { r.AddCookie(&http.Cookie{Name: "token", Value: token(id)}) }
}

func header(name, value string) func(*http.Request) {
	return func(r *http.Request) { r.Header.Set(name, value) }
}

func from(addr string) func(*http.Request) {
	return func(r *http.Request) { r.RemoteAddr = addr + ":40000" }
}

func token(id uuid.UUID) string { return tokenOf(id, time.Hour) }

func tokenOf(id uuid.UUID, ttl time.Duration) string {
	s, err := auth.Mint(strings.Repeat("s", 32), id, ttl, time.Now())
	if err != nil {
		panic(err)
	}
	return s
}

// logs are lines of JSON.
type logs struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *logs) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(b)
}

func (l *logs) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String()
}

// lines are those with a message.
func (l *logs) lines(t testing.TB, message string) []map[string]any {
	t.Helper()
	var found []map[string]any
	for line := range strings.Lines(l.String()) {
		var fields map[string]any
		if err := json.Unmarshal([]byte(line), &fields); err != nil {
			t.Fatalf("log line %q: %v", line, err)
		}
		if fields["message"] == message {
			found = append(found, fields)
		}
	}
	return found
}
