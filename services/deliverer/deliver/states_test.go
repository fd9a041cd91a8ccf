package deliver_test

import (
	"bytes"
	"context"
	"slices"
	"testing"

	"github.com/google/uuid"

	"github.com/cardwire/cardwire/services/internal/steptest"
	"github.com/cardwire/cardwire/sql/db"
)

// One that has no row yet can't be locked in its place in the order, unless it gets one.
func TestSettlingDoesNotDeadlockWithWhoWritesTheFirstStateOfAnEndpoint(t *testing.T) {
	t.Parallel()
	e := steptest.New(t)
	ids := []uuid.UUID{e.Endpoint(alice, "https://receiver.example/1").ID, e.Endpoint(alice, "https://receiver.example/2").ID}
	slices.SortFunc(ids, func(a, b uuid.UUID) int { return bytes.Compare(a[:], b[:]) })
	e.Exec(`INSERT INTO endpoint_states (endpoint_id, failing_since, failures) VALUES ($1, now(), 1)`, ids[1])
	failures := db.NoteFailuresParams{EndpointIds: ids, Failures: []int32{1, 1}}
	tx, err := e.DB.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = tx.Rollback(context.WithoutCancel(t.Context())) }()
	answering, err := db.New(tx).LockStates(t.Context(), db.LockStatesParams{Failing: ids[:1], Answering: ids[1:]})
	if err != nil || len(answering) != 1 {
		t.Fatalf("locked, answering %v: %v", answering, err)
	}
	other := make(chan error, 1)
	go func() { other <- db.New(e.DB).NoteFailures(t.Context(), failures) }()
	e.Await("the other waits", `SELECT EXISTS (SELECT FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock')`)
	if err := db.New(tx).NoteFailures(t.Context(), failures); err != nil {
		t.Fatal(err)
	}
	if err := tx.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := <-other; err != nil {
		t.Error(err)
	}
	if n := e.Count(`SELECT sum(failures) FROM endpoint_states`); n != 5 {
		t.Errorf("%d failures noted, want 5", n)
	}
}

// A deliverer parks the first delivery of an endpoint that another one has disabled meanwhile.
func TestWhatIsParkedAsTheEndpointIsDisabledIsEnded(t *testing.T) {
	t.Parallel()
	e := steptest.New(t)
	ep := e.Endpoint(alice, "https://receiver.example/")
	_, d := record(e, ep)
	e.Exec(`UPDATE endpoints SET is_active = false, disabled_reason = 'gone', disabled_at = now()`)
	e.Exec(`INSERT INTO endpoint_states (endpoint_id, ending) VALUES ($1, true)`, ep.ID)
	tx, err := e.DB.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = tx.Rollback(context.WithoutCancel(t.Context())) }()
	err = db.New(tx).ParkDeliveries(t.Context(), db.ParkDeliveriesParams{
		Ids: []uuid.UUID{d.ID}, Reasons: []string{"circuit_open"}, Low: d.ID, High: d.ID,
		EndpointIds: []uuid.UUID{ep.ID}, EndpointReasons: []string{"circuit_open"}, Waits: []float64{3600},
	})
	if err != nil {
		t.Fatal(err)
	}
	start(e, config(e))
	e.Await("the deliverer waits", `SELECT EXISTS (SELECT FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock')`)
	if err := tx.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	awaitStatus(e, d, "failed")
}
