package deliver

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/cardwire/cardwire/events"
	"github.com/cardwire/cardwire/services/internal/delivery"
	"github.com/cardwire/cardwire/sql/db"
	"github.com/cardwire/cardwire/sql/pgtest"
)

// grid is what all times of the conformance test are multiples of, so that the
// clocks of the two stores may differ by almost half of it.
const grid = time.Minute

// A pair is the simulator's store and PostgreSQL, with the same rows.
type pair struct {
	t         *testing.T
	pool      *pgxpool.Pool
	sim       *simStore
	queries   [2]*db.Queries // of PostgreSQL and of the simulator
	rnd       *rand.Rand
	ids       []uuid.UUID // of deliveries
	endpoints []uuid.UUID
	claims    []claimedRow // all that there were
}

// A claimedRow is what a claim returned, with what it is known by.
type claimedRow struct {
	db.ClaimDeliveriesRow
	claimID uuid.UUID
}

// TestTheSimulatedStoreDoesWhatPostgreSQLDoes runs random operations on both, and
// compares what each returns and every row after it.
func TestTheSimulatedStoreDoesWhatPostgreSQLDoes(t *testing.T) {
	t.Parallel()
	simShared()
	pool := pgtest.New(t)
	today := time.Now().UTC()
	if _, err := db.New(pool).EnsurePartitions(t.Context(), db.EnsurePartitionsParams{FromDay: today, ToDay: today.AddDate(0, 0, 1)}); err != nil {
		t.Fatal(err)
	}
	for seed := range uint64(30) {
		p := newPair(t, pool, seed)
		var done []string
		for range 40 {
			name := p.step()
			done = append(done, name)
			if diff := cmp.Diff(p.real(), p.simulated()); diff != "" {
				t.Fatalf("seed %d, after %v: PostgreSQL (-) and the simulator (+) differ:\n%s", seed, done, diff)
			}
		}
	}
}

func newPair(t *testing.T, pool *pgxpool.Pool, seed uint64) *pair {
	t.Helper()
	p := &pair{t: t, pool: pool, sim: newSimStore(), rnd: rand.New(rand.NewPCG(seed, 2))}
	conn := &simConn{store: p.sim, fault: func(context.Context, bool) error { return nil }}
	p.queries = [2]*db.Queries{db.New(pool), db.New(conn)}
	p.exec(`TRUNCATE events, endpoints, endpoint_secrets, endpoint_states, deliveries, attempts, audit_log CASCADE`)
	for range 2 {
		if err := p.sim.addEndpoint(p.rnd); err != nil {
			t.Fatal(err)
		}
	}
	for _, e := range p.sim.endpoints {
		p.endpoints = append(p.endpoints, e.id)
		p.exec(`INSERT INTO endpoints (id, user_id, url, events, max_in_flight, rate_limit) VALUES ($1, $2, 'https://receiver.test/', '{*}', nullif($3, 0), nullif($4, 0))`,
			e.id, uuid.Max, e.maxInFlight, e.rate)
		p.exec(`INSERT INTO endpoint_secrets (id, endpoint_id, ciphertext) VALUES (new_id(), $1, $2)`, e.id, e.secret)
	}
	for i := range 5 {
		event, err := events.New(uuid.Max, events.CardViewed, struct{}{})
		if err != nil {
			t.Fatal(err)
		}
		endpoint := p.endpoints[i%2]
		d := delivery.Delivery{ID: delivery.ID(event.ID, endpoint), EventID: event.ID, EndpointID: endpoint}
		p.ids = append(p.ids, d.ID)
		p.sim.insert(d, event.Body)
		p.exec(`INSERT INTO events (id, user_id, type, body, occurred_at, stream_seq) VALUES ($1, $2, 'card.viewed', $3, now(), 1)`, event.ID, uuid.Max, event.Body)
		p.exec(`INSERT INTO deliveries (id, event_id, endpoint_id, event_type) VALUES ($1, $2, $3, 'card.viewed')`, d.ID, d.EventID, d.EndpointID)
	}
	return p
}

func (p *pair) exec(sql string, args ...any) {
	p.t.Helper()
	if _, err := p.pool.Exec(p.t.Context(), sql, args...); err != nil {
		p.t.Fatal(err)
	}
}

// some is a random part of a list, not empty.
func some(r *rand.Rand, list []uuid.UUID) []uuid.UUID {
	list = slices.Clone(list)
	r.Shuffle(len(list), func(i, j int) { list[i], list[j] = list[j], list[i] })
	return list[:1+r.IntN(len(list))]
}

// both runs an operation on both and compares what it returns, in any order.
func both[T any](p *pair, name string, run func(context.Context, *db.Queries) ([]T, error)) []T {
	p.t.Helper()
	var got [2][]T
	var text [2][]string
	for i, q := range p.queries {
		var err error
		if got[i], err = run(p.t.Context(), q); err != nil {
			p.t.Fatalf("%s: %v", name, err)
		}
		for _, row := range got[i] {
			text[i] = append(text[i], fmt.Sprint(row))
		}
		slices.Sort(text[i])
	}
	if diff := cmp.Diff(text[0], text[1]); diff != "" {
		p.t.Fatalf("%s: PostgreSQL (-) and the simulator (+) return:\n%s", name, diff)
	}
	return got[0]
}

func none(err error) ([]struct{}, error) { return nil, err }

// operations are what the deliverer and the sweeper do, with random arguments.
var operations = map[string]func(p *pair){
	"claim": func(p *pair) {
		p.claim(some(p.rnd, p.ids), false)
	},
	"settle": func(p *pair) { p.settle() },
	"unclaim": func(p *pair) {
		if len(p.claims) == 0 {
			return
		}
		c := p.claims[p.rnd.IntN(len(p.claims))]
		both(p, "unclaim", func(ctx context.Context, q *db.Queries) ([]struct{}, error) {
			return none(q.UnclaimDeliveries(ctx, db.UnclaimDeliveriesParams{Ids: []uuid.UUID{c.ID}, ClaimIds: []uuid.UUID{c.claimID}, Low: c.ID, High: c.ID}))
		})
	},
	"close overtaken": func(p *pair) {
		ids := some(p.rnd, p.ids)
		low, high := delivery.Bounds(ids)
		both(p, "close overtaken", func(ctx context.Context, q *db.Queries) ([]struct{}, error) {
			return none(q.CloseOvertaken(ctx, db.CloseOvertakenParams{Ids: ids, Low: low, High: high}))
		})
	},
	"park": func(p *pair) {
		ids := some(p.rnd, p.ids)
		low, high := delivery.Bounds(ids)
		a := db.ParkDeliveriesParams{
			Ids: ids, Low: low, High: high, Early: 1, EndpointIds: p.endpoints,
			EndpointReasons: []string{"at_capacity", "circuit_open"}, Waits: []float64{0, (2 * grid).Seconds()},
		}
		for range ids {
			a.Reasons = append(a.Reasons, "at_capacity")
		}
		both(p, "park", func(ctx context.Context, q *db.Queries) ([]struct{}, error) { return none(q.ParkDeliveries(ctx, a)) })
	},
	"draw": func(p *pair) {
		after := uuid.Nil
		if p.rnd.IntN(3) == 0 {
			after = p.ids[p.rnd.IntN(len(p.ids))]
		}
		var ids []uuid.UUID
		for _, row := range both(p, "lock parked", func(ctx context.Context, q *db.Queries) ([]db.LockParkedRow, error) {
			return q.LockParked(ctx, db.LockParkedParams{EndpointIds: p.endpoints, Afters: []uuid.UUID{after, after}, Limits: []int32{1, 2}})
		}) {
			ids = append(ids, row.ID)
		}
		if len(ids) > 0 {
			p.claim(ids, true)
		}
		both(p, "clear waiting", func(ctx context.Context, q *db.Queries) ([]struct{}, error) {
			return none(q.ClearWaiting(ctx, p.endpoints))
		})
		both(p, "still waiting", func(ctx context.Context, q *db.Queries) ([]uuid.UUID, error) { return q.StillWaiting(ctx, p.endpoints) })
	},
	"ready": func(p *pair) {
		both(p, "ready", func(ctx context.Context, q *db.Queries) ([]uuid.UUID, error) { return q.ReadyEndpoints(ctx, 100) })
		both(p, "parked", func(ctx context.Context, q *db.Queries) ([]uuid.UUID, error) { return q.ParkedEndpoints(ctx, 100) })
	},
	"sweep": func(p *pair) {
		both(p, "expired", func(ctx context.Context, q *db.Queries) ([]db.TakeExpiredLeasesRow, error) {
			return q.TakeExpiredLeases(ctx, 100)
		})
		both(p, "timed", func(ctx context.Context, q *db.Queries) ([]db.TakeTimedDeliveriesRow, error) {
			return q.TakeTimedDeliveries(ctx, 100)
		})
		both(p, "due", func(ctx context.Context, q *db.Queries) ([]db.TakeDueDeliveriesRow, error) {
			return q.TakeDueDeliveries(ctx, db.TakeDueDeliveriesParams{PublishedBefore: time.Now().Add(-grid / 2), MaxRows: 100})
		})
	},
	"failures": func(p *pair) {
		both(p, "failures", func(ctx context.Context, q *db.Queries) ([]struct{}, error) {
			return none(q.NoteFailures(ctx, db.NoteFailuresParams{EndpointIds: p.endpoints[:1], Failures: []int32{2}}))
		})
		both(p, "disable failing", func(ctx context.Context, q *db.Queries) ([]db.DisableEndpointsRow, error) {
			return q.DisableEndpoints(ctx, db.DisableEndpointsParams{Ids: p.endpoints, Reason: "failing", MinFailures: 6, After: grid.Seconds()})
		})
	},
	"end": func(p *pair) {
		if p.rnd.IntN(4) == 0 {
			both(p, "disable gone", func(ctx context.Context, q *db.Queries) ([]db.DisableEndpointsRow, error) {
				return q.DisableEndpoints(ctx, db.DisableEndpointsParams{Ids: p.endpoints[1:], Reason: "gone"})
			})
		}
		for _, e := range both(p, "ending", func(ctx context.Context, q *db.Queries) ([]db.EndingEndpointsRow, error) {
			return q.EndingEndpoints(ctx, 100)
		}) {
			both(p, "end", func(ctx context.Context, q *db.Queries) ([]uuid.UUID, error) {
				return q.EndDeliveries(ctx, db.EndDeliveriesParams{EndpointID: e.EndpointID, Reason: reasonDisabled, MaxRows: 2})
			})
			both(p, "ended", func(ctx context.Context, q *db.Queries) ([]struct{}, error) { return none(q.Ended(ctx, e.EndpointID)) })
		}
	},
	"wait": func(p *pair) { p.wait(time.Duration(1+p.rnd.IntN(6)) * grid) },
}

// operationNames are those of operations, some more than once, in an order that
// does not change.
var operationNames = func() []string {
	names := []string{"claim", "claim", "settle", "settle", "settle", "wait"}
	for name := range operations {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}()

func (p *pair) step() string {
	name := operationNames[p.rnd.IntN(len(operationNames))]
	operations[name](p)
	return name
}

func (p *pair) claim(ids []uuid.UUID, parked bool) {
	low, high := delivery.Bounds(ids)
	claimID := uuid.New()
	rows := both(p, "claim", func(ctx context.Context, q *db.Queries) ([]db.ClaimDeliveriesRow, error) {
		return q.ClaimDeliveries(ctx, db.ClaimDeliveriesParams{
			Ids: ids, Low: low, High: high, Early: 1, Lease: (5 * grid).Seconds(), MaxInterruptions: 3, Parked: parked, ClaimID: claimID,
		})
	})
	for _, row := range rows {
		p.claims = append(p.claims, claimedRow{row, claimID})
	}
}

// settle writes a result of any claim that there was: in time, late, or again.
func (p *pair) settle() {
	if len(p.claims) == 0 {
		return
	}
	c := p.claims[p.rnd.IntN(len(p.claims))]
	r := result{item: &item{Attempt: Attempt{DeliveryID: c.ID, EndpointID: c.EndpointID, N: int(c.N), Failures: int(c.Failures)}}}
	r.Class = classStatus
	switch p.rnd.IntN(5) {
	case 0:
		r.Outcome = Outcome{Success: true, Code: 200}
	case 1:
		r.reason = reasonExhausted
	case 2:
		r.Class, r.wait = classInterrupted, 2*grid
	case 3:
		r.wait, r.waitsFor = 4*grid, waitsRetryAfter
	default:
		r.wait = 3 * grid
	}
	a := params([]result{r})
	both(p, "settle", func(ctx context.Context, q *db.Queries) ([]uuid.UUID, error) {
		rows, err := q.SettleAttempts(ctx, a)
		var ids []uuid.UUID
		for _, row := range rows {
			ids = append(ids, row.ID)
		}
		return ids, err
	})
}

// wait has time pass: all times are put back.
func (p *pair) wait(d time.Duration) {
	p.exec(`UPDATE deliveries SET leased_until = leased_until - $1::interval, swept_at = swept_at - $1::interval,
		next_attempt_at = CASE WHEN next_attempt_at > '9000-01-01Z' THEN next_attempt_at ELSE next_attempt_at - $1::interval END`, d)
	p.exec(`UPDATE endpoint_states SET wait_until = wait_until - $1::interval, failing_since = failing_since - $1::interval`, d)
	back := func(times ...*time.Time) {
		for _, at := range times {
			if !at.IsZero() && !at.Equal(parkedUntil) {
				*at = at.Add(-d)
			}
		}
	}
	for _, row := range p.sim.deliveries {
		back(&row.next, &row.leased, &row.swept)
	}
	for _, e := range p.sim.endpoints {
		back(&e.waitUntil, &e.failingSince)
	}
}
