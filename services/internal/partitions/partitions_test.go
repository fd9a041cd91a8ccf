package partitions

import (
	"context"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/rs/zerolog"

	"github.com/cardwire/cardwire/events"
	"github.com/cardwire/cardwire/services/internal/sqlstate"
	"github.com/cardwire/cardwire/sql/db"
	"github.com/cardwire/cardwire/sql/pgtest"
)

func TestMain(m *testing.M) { os.Exit(pgtest.Main(m)) }

var noon = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

func keeper(pool *pgxpool.Pool, now time.Time, retentionDays int) *Keeper {
	k := NewKeeper(pool, time.Duration(retentionDays)*day, zerolog.Nop())
	k.now = func() time.Time { return now }
	return k
}

// tables lists the partitions of events; those of the other tables must be the same.
func tables(t *testing.T, pool *pgxpool.Pool) (days []string) {
	t.Helper()
	rows, err := pool.Query(t.Context(), `
		SELECT right(c.relname, 8), count(*) FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
		WHERE i.inhparent IN ('events'::regclass, 'deliveries'::regclass, 'attempts'::regclass)
		GROUP BY 1 ORDER BY 1`)
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	for rows.Next() {
		var d string
		var n int
		if err := rows.Scan(&d, &n); err != nil {
			t.Fatal(err)
		}
		if n != 3 {
			t.Errorf("%s: %d tables, want 3", d, n)
		}
		days = append(days, d)
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	return days
}

// idAt is the id of an event of a time.
func idAt(t *testing.T, at time.Time) uuid.UUID {
	t.Helper()
	e, err := events.NewAt(at, uuid.New(), events.CardViewed, struct{}{})
	if err != nil {
		t.Fatal(err)
	}
	return e.ID
}

func insert(ctx context.Context, pool *pgxpool.Pool, id uuid.UUID) error {
	_, err := pool.Exec(ctx, `INSERT INTO events (id, user_id, type, body, occurred_at, stream_seq) VALUES ($1, $1, 'x', '', now(), 1)`, id)
	return err
}

// makeToday is what a keeper does when it starts.
func makeToday(t *testing.T, k *Keeper) {
	t.Helper()
	today := k.now().UTC().Truncate(day)
	if _, err := k.ensure(t.Context(), today, today.Add(Ahead*day)); err != nil {
		t.Fatal(err)
	}
}

func TestPartitionsAreMadeAheadByManyAtOnce(t *testing.T) {
	t.Parallel()
	pool := pgtest.New(t)
	var keepers sync.WaitGroup
	for range 5 {
		keepers.Go(func() { makeToday(t, keeper(pool, noon, 30)) })
	}
	keepers.Wait()
	if diff := cmp.Diff([]string{"20260301", "20260302", "20260303", "20260304"}, tables(t, pool)); diff != "" {
		t.Error(diff)
	}
	// The bounds of a day: its first and its last millisecond are of it.
	for _, at := range []time.Time{noon.Truncate(day), noon.Truncate(day).Add(4*day - time.Millisecond)} {
		if err := insert(t.Context(), pool, idAt(t, at)); err != nil {
			t.Errorf("%s: %v", at, err)
		}
	}
	for _, at := range []time.Time{noon.Truncate(day).Add(-time.Millisecond), noon.Truncate(day).Add(4 * day)} {
		if err := insert(t.Context(), pool, idAt(t, at)); !sqlstate.NoPartition(err) {
			t.Errorf("%s: %v, want a missing partition", at, err)
		}
	}
}

func TestAnOlderDayIsMadeOnDemand(t *testing.T) {
	t.Parallel()
	pool := pgtest.New(t)
	k := keeper(pool, noon, 30)
	old := idAt(t, noon.Add(-10*day))
	if err := insert(t.Context(), pool, old); !sqlstate.NoPartition(err) {
		t.Fatalf("got %v, want a missing partition", err)
	}
	if err := k.EnsureFor(t.Context(), []uuid.UUID{old, old, idAt(t, noon)}); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"20260219", "20260301"}, tables(t, pool)); diff != "" {
		t.Error(diff)
	}
	if err := insert(t.Context(), pool, old); err != nil {
		t.Error(err)
	}
	if err := insert(t.Context(), pool, old); err == nil || sqlstate.NoPartition(err) {
		t.Errorf("the same id again: %v, want another error", err)
	}
}

func TestPartitionsAreDroppedWhenAllOfADayIsBeyondRetention(t *testing.T) {
	t.Parallel()
	pool := pgtest.New(t)
	makeToday(t, keeper(pool, noon, 2))
	for d := range time.Duration(4) {
		id := idAt(t, noon.Add(d*day))
		if _, err := pool.Exec(t.Context(), `INSERT INTO deliveries (id, event_id, endpoint_id, event_type) VALUES ($1, $1, $1, 'x')`, id); err != nil {
			t.Fatal(err)
		}
	}
	later := noon.Add(3 * day) // 4 March: kept from 2 March 12:00 on
	if err := keeper(pool, later, 2).drop(t.Context()); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"20260302", "20260303", "20260304"}, tables(t, pool)); diff != "" {
		t.Error(diff)
	}
	var counted, there int
	if err := pool.QueryRow(t.Context(), `SELECT sum(n), (SELECT count(*) FROM deliveries) FROM delivery_counts`).Scan(&counted, &there); err != nil {
		t.Fatal(err)
	}
	if counted != 3 || there != 3 {
		t.Errorf("%d deliveries of kept days are counted and %d are there, want 3", counted, there)
	}
}

// Dropping must not queue behind a long reader, with everybody else behind it.
func TestDroppingGivesUpRatherThanHoldUpOthers(t *testing.T) {
	t.Parallel()
	pool := pgtest.New(t)
	makeToday(t, keeper(pool, noon, 2))
	reader, err := pool.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := reader.Exec(t.Context(), `SELECT count(*) FROM events`); err != nil {
		t.Fatal(err)
	}
	k := keeper(pool, noon.Add(10*day), 2)
	if err := k.drop(t.Context()); err == nil {
		t.Error("dropped under a reader")
	}
	if err := reader.Rollback(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := k.drop(t.Context()); err != nil {
		t.Error(err)
	}
	if days := tables(t, pool); len(days) != 0 {
		t.Errorf("left: %v", days)
	}
}

// Each statement takes its tables one after the other: dropping must get through in between.
func TestPartitionsAreDroppedUnderLoad(t *testing.T) {
	t.Parallel()
	pool := pgtest.New(t)
	makeToday(t, keeper(pool, noon, 2))
	ids := []uuid.UUID{idAt(t, noon.Add(4*day-time.Minute))}
	ctx, cancel := context.WithCancel(t.Context())
	var load sync.WaitGroup
	for range 3 {
		load.Go(func() {
			for ctx.Err() == nil {
				_, err := db.New(pool).ClaimDeliveries(ctx, db.ClaimDeliveriesParams{Ids: ids, Low: ids[0], High: ids[0], Lease: 1, MaxInterruptions: 1})
				if err != nil && ctx.Err() == nil {
					t.Error(err)
					return
				}
			}
		})
	}
	k := keeper(pool, noon.Add(10*day), 2)
	err := k.drop(ctx)
	for try := 1; err != nil && try < 20; try++ { // a busy machine may refuse one or the other
		err = k.drop(ctx)
	}
	if err != nil {
		t.Error(err)
	}
	cancel()
	load.Wait()
}

func TestCovers(t *testing.T) {
	t.Parallel()
	k := keeper(nil, noon, 30)
	for _, tt := range []struct {
		name string
		at   time.Time
		want bool
	}{
		{"now", noon, true},
		{"just within retention", noon.Add(-30*day + time.Millisecond), true},
		{"just beyond retention", noon.Add(-30 * day), false},
		{"last moment of the last day ahead", noon.Truncate(day).Add((Ahead+1)*day - time.Millisecond), true},
		{"beyond it", noon.Truncate(day).Add((Ahead + 1) * day), false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if got := k.Covers(idAt(t, tt.at)); got != tt.want {
				t.Errorf("covers %s: %v", tt.at, got)
			}
		})
	}
}
