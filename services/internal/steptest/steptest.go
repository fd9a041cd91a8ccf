// Package steptest gives a test of a step what the step runs against: a real
// broker with the accounts of nats.conf, a real database, and rows to work on.
package steptest

import (
	"context"
	"net/http"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/nats-io/nats.go"
	"github.com/rs/zerolog"

	"github.com/cardwire/cardwire/events"
	"github.com/cardwire/cardwire/events/streams"
	"github.com/cardwire/cardwire/services/internal/broker"
	"github.com/cardwire/cardwire/services/internal/natstest"
	"github.com/cardwire/cardwire/services/internal/process"
	"github.com/cardwire/cardwire/services/internal/secrets"
	"github.com/cardwire/cardwire/services/internal/signing"
	"github.com/cardwire/cardwire/sql/db"
	"github.com/cardwire/cardwire/sql/pgtest"
)

// Bound is how long a test waits for what must happen. It says nothing about
// speed: it only turns a hang into a failure.
const Bound = 60 * time.Second

// An Env is a broker and a database of the test's own.
type Env struct {
	T       testing.TB
	Broker  *broker.Broker
	DB      *pgxpool.Pool
	Serial  string // the encryption keyset, as a setting
	Keyset  *secrets.Keyset
	Streams streams.Config
	connect func(user string) *nats.Conn
}

// New starts them and makes the partitions of today, and of the days beside it
// for tests that run around midnight.
func New(t testing.TB) *Env {
	t.Helper()
	b := natstest.Start(t)
	e := On(t, func(user string) *nats.Conn { return natstest.Connect(t, b, user) })
	e.Broker = b
	return e
}

// On is New on a broker that is there already, and is not in Broker: connect
// connects as a user of nats.conf.
func On(t testing.TB, connect func(user string) *nats.Conn) *Env {
	t.Helper()
	serial, err := secrets.NewKeyset()
	if err != nil {
		t.Fatal(err)
	}
	keyset, err := secrets.ParseKeyset(serial)
	if err != nil {
		t.Fatal(err)
	}
	e := &Env{T: t, connect: connect, DB: pgtest.New(t), Serial: serial, Keyset: keyset, Streams: streams.DefaultConfig()}
	e.Streams.EventsMaxBytes = 1 << 30
	today := time.Now().UTC()
	if _, err := db.New(e.DB).EnsurePartitions(t.Context(), db.EnsurePartitionsParams{FromDay: today.AddDate(0, 0, -1), ToDay: today.AddDate(0, 0, 1)}); err != nil {
		t.Fatal(err)
	}
	return e
}

// Deps is what a step of a service gets, connected as that service.
func (e *Env) Deps(service string) process.Deps {
	e.T.Helper()
	nc := e.connect(service)
	js, err := streams.Open(nc)
	if err != nil {
		e.T.Fatal(err)
	}
	return process.Deps{Log: zerolog.New(zerolog.NewTestWriter(e.T)).Level(zerolog.WarnLevel), NATS: nc, JS: js, DB: e.DB, Mux: http.NewServeMux(), Streams: e.Streams}
}

// Run runs a step until the test ends or stop is called, and fails the test if
// the step returns an error. stop returns when the step has finished.
func (e *Env) Run(step process.Step) (stop func()) {
	e.T.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- step.Run(ctx) }()
	stopped := false
	stop = func() {
		if stopped {
			return
		}
		stopped = true
		cancel()
		select {
		case err := <-done:
			if err != nil {
				e.T.Errorf("step ended with: %v", err)
			}
		case <-time.After(Bound):
			e.T.Error("step did not stop")
		}
	}
	e.T.Cleanup(stop)
	return stop
}

// An Endpoint is a registered one, with its secret.
type Endpoint struct {
	ID, UserID uuid.UUID
	Secret     string
}

// Endpoint registers an endpoint as a user's.
func (e *Env) Endpoint(userID uuid.UUID, url string, types ...string) Endpoint {
	e.T.Helper()
	if len(types) == 0 {
		types = []string{events.CardViewed}
	}
	ep := Endpoint{ID: uuid.Must(uuid.NewV7()), UserID: userID, Secret: signing.NewSecret()}
	e.Exec(`INSERT INTO endpoints (id, user_id, url, events) VALUES ($1, $2, $3, $4)`, ep.ID, userID, url, types)
	e.AddSecret(ep.ID, ep.Secret)
	return ep
}

// AddSecret gives an endpoint one more active secret, the newest.
func (e *Env) AddSecret(endpointID uuid.UUID, secret string) {
	e.T.Helper()
	sealed, err := e.Keyset.Seal(endpointID, []byte(secret))
	if err != nil {
		e.T.Fatal(err)
	}
	e.Exec(`INSERT INTO endpoint_secrets (id, endpoint_id, ciphertext) VALUES ($1, $2, $3)`, uuid.Must(uuid.NewV7()), endpointID, sealed)
}

// Event makes an event of a user.
func (e *Env) Event(userID uuid.UUID, data any) events.Event {
	e.T.Helper()
	ev, err := events.New(userID, events.CardViewed, data)
	if err != nil {
		e.T.Fatal(err)
	}
	return ev
}

// Exec runs a statement.
func (e *Env) Exec(sql string, args ...any) {
	e.T.Helper()
	if _, err := e.DB.Exec(e.T.Context(), sql, args...); err != nil {
		e.T.Fatal(err)
	}
}

// Await polls a query for one boolean until it is true. It polls as it watches
// the database from outside, which has no way to tell.
func (e *Env) Await(what, sql string, args ...any) {
	e.T.Helper()
	deadline := time.Now().Add(Bound)
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		var ok bool
		if err := e.DB.QueryRow(e.T.Context(), sql, args...).Scan(&ok); err != nil {
			e.T.Fatal(err)
		}
		if ok {
			return
		}
		if time.Now().After(deadline) {
			e.T.Fatalf("%s: not within %s", what, Bound)
		}
		<-tick.C
	}
}

// Count is a query for one number.
func (e *Env) Count(sql string, args ...any) (n int) {
	e.T.Helper()
	if err := e.DB.QueryRow(e.T.Context(), sql, args...).Scan(&n); err != nil {
		e.T.Fatal(err)
	}
	return n
}
