package deliver_test

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/cardwire/cardwire/services/deliverer/deliver"
	"github.com/cardwire/cardwire/services/internal/steptest"
)

// A mute pool loses the answers to some claims, which are committed.
type mute struct {
	*pgxpool.Pool
	left atomic.Int64 // how many to lose
}

var errMute = errors.New("connection reset")

func isClaim(sql string) bool { return strings.Contains(sql, "name: ClaimDeliveries ") }

func (m *mute) Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error) {
	rows, err := m.Pool.Query(ctx, sql, args...)
	if err == nil && isClaim(sql) && m.left.Add(-1) >= 0 {
		rows.Close() // reads it all
		return nil, errors.Join(errMute, rows.Err())
	}
	return rows, err
}

func (m *mute) Begin(ctx context.Context) (pgx.Tx, error) {
	tx, err := m.Pool.Begin(ctx)
	return &muteTx{Tx: tx, pool: m}, err
}

// A muteTx loses the answer to its commit, if it claimed.
type muteTx struct {
	pgx.Tx
	pool   *mute
	claims bool
}

func (tx *muteTx) Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error) {
	tx.claims = tx.claims || isClaim(sql)
	return tx.Tx.Query(ctx, sql, args...)
}

func (tx *muteTx) Commit(ctx context.Context) error {
	err := tx.Tx.Commit(ctx)
	if err == nil && tx.claims && tx.pool.left.Add(-1) >= 0 {
		return errMute
	}
	return err
}

// startMute starts a deliverer that gets no answer to its first claims. One that was
// not undone would end as an interrupted attempt, after its lease of 15 s.
func startMute(e *steptest.Env) {
	e.T.Helper()
	deps := e.Deps("deliverer")
	pool := &mute{Pool: deps.DB}
	pool.left.Store(3)
	w, err := deliver.NewOn(config(e), deps, pool)
	if err != nil {
		e.T.Fatal(err)
	}
	e.Run(w)
	e.T.Cleanup(func() {
		if pool.left.Load() >= 0 {
			e.T.Error("the claims were all answered")
		}
	})
}

func TestAClaimWithoutAnAnswerIsUndoneAndMadeAgain(t *testing.T) {
	t.Parallel()
	e := steptest.New(t)
	url, _ := receiver(t, always(204))
	_, d := record(e, e.Endpoint(alice, url))
	startMute(e)
	publish(e, d)
	awaitStatus(e, d, "success")
	wantAttempts(e, d, attempt{1, "success", 204, ""})
}

func TestParkedDeliveriesWhoseClaimGotNoAnswerAreParkedAgain(t *testing.T) {
	t.Parallel()
	e := steptest.New(t)
	url, posts := receiver(t, always(204))
	ep := e.Endpoint(alice, url)
	records(e, ep, 50)
	e.Exec(`UPDATE deliveries SET waits_for = 'at_capacity', next_attempt_at = '9999-01-01Z'`)
	e.Exec(`INSERT INTO endpoint_states (endpoint_id, waits_for, wait_until) VALUES ($1, 'at_capacity', now())`, ep.ID)
	startMute(e)
	e.Await("all delivered", `SELECT count(*) = 50 FROM deliveries WHERE status = 'success' AND attempts = 1`)
	if len(posts) != 50 {
		t.Errorf("%d POSTs, want 50", len(posts))
	}
}
