package deliver

import (
	"strconv"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"github.com/cardwire/cardwire/events"
	"github.com/cardwire/cardwire/services/internal/delivery"
	"github.com/cardwire/cardwire/services/internal/steptest"
	"github.com/cardwire/cardwire/sql/db"
)

// A modelled is what the model and PostgreSQL must agree on about a delivery.
// Times are told as what they mean to a statement.
type modelled struct {
	Status, Reason, WaitsFor        string
	Attempts, Failures              int32
	Due, Parked, Null, Leased, Held bool // of next_attempt_at: past, 9999, null; leased_until is set, and not over
	Swept                           bool
	Log                             []string
}

// The same statements, made through the same generated code, do the same to
// rows in PostgreSQL and to those of the simulator.
func TestTheModelIsPostgreSQL(t *testing.T) {
	t.Parallel()
	e := steptest.New(t)
	ep := e.Endpoint(uuid.New(), "http://receiver.test/")
	store := newSimStore()
	real, model := db.New(e.DB), db.New(plain{store})
	var ids, eventIDs []uuid.UUID
	for range 5 {
		event := uuid.Must(uuid.NewV7())
		id := delivery.ID(event, ep.ID)
		ids, eventIDs = append(ids, id), append(eventIDs, event)
		e.Exec(`INSERT INTO deliveries (id, event_id, endpoint_id, event_type) VALUES ($1, $2, $3, $4)`, id, event, ep.ID, events.CardViewed)
		store.add(id, event, ep.ID, time.Now())
	}
	low, high := delivery.Bounds(ids)
	type op struct {
		name string
		do   func(*db.Queries) (int, error) // returns the number of rows
	}
	claim := func(early, lease float64, ids ...uuid.UUID) func(*db.Queries) (int, error) {
		return func(q *db.Queries) (int, error) {
			rows, err := q.ClaimDeliveries(t.Context(), db.ClaimDeliveriesParams{Ids: ids, Low: low, High: high, Early: early, Lease: lease, MaxInterruptions: 2})
			return len(rows), err
		}
	}
	settle := func(id uuid.UUID, n int32, outcome string, failures int32, wait float64, waitsFor, reason string) func(*db.Queries) (int, error) {
		return func(q *db.Queries) (int, error) {
			rows, err := q.SettleAttempts(t.Context(), db.SettleAttemptsParams{
				Ids: []uuid.UUID{id}, Ns: []int32{n}, Outcomes: []string{outcome}, ResponseCodes: []int32{200}, ErrorClasses: []string{""},
				ErrorMessages: []string{""}, DurationsMs: []int32{1}, ResponseHeaders: [][]byte{nil}, ResponseBodies: [][]byte{nil}, Truncated: []bool{false},
				Waits: []float64{wait}, WaitsFor: []string{waitsFor}, Reasons: []string{reason}, Failures: []int32{failures}, DnsMs: []int32{-1},
				ConnectMs: []int32{-1}, TlsMs: []int32{-1}, FirstByteMs: []int32{-1}, AddressClasses: []string{""}, RequestHeaders: [][]byte{nil}, Low: low, High: high,
			})
			return len(rows), err
		}
	}
	park := func(reason string, id uuid.UUID) func(*db.Queries) (int, error) {
		return func(q *db.Queries) (int, error) {
			return 0, q.ParkDeliveries(t.Context(), db.ParkDeliveriesParams{
				EndpointIds: []uuid.UUID{ep.ID}, EndpointReasons: []string{reason}, Waits: []float64{0}, Ids: []uuid.UUID{id}, Low: low, High: high, Early: 1, Reasons: []string{reason},
			})
		}
	}
	unclaim := func(id uuid.UUID, n int32) func(*db.Queries) (int, error) {
		return func(q *db.Queries) (int, error) {
			return 0, q.UnclaimDeliveries(t.Context(), db.UnclaimDeliveriesParams{Ids: []uuid.UUID{id}, Low: low, High: high, Ns: []int32{n}})
		}
	}
	expired := func(q *db.Queries) (int, error) {
		rows, err := q.TakeExpiredLeases(t.Context(), 10)
		return len(rows), err
	}
	due := func(before time.Duration) func(*db.Queries) (int, error) {
		return func(q *db.Queries) (int, error) {
			rows, err := q.TakeDueDeliveries(t.Context(), db.TakeDueDeliveriesParams{PublishedBefore: time.Now().Add(before), MaxRows: 10})
			return len(rows), err
		}
	}
	timed := func(q *db.Queries) (int, error) {
		rows, err := q.TakeTimedDeliveries(t.Context(), 10)
		return len(rows), err
	}
	release := func(most int32) func(*db.Queries) (int, error) {
		return func(q *db.Queries) (int, error) {
			rows, err := q.ReleaseDeliveries(t.Context(), db.ReleaseDeliveriesParams{EndpointIds: []uuid.UUID{ep.ID}, Limits: []int32{most}})
			return len(rows), err
		}
	}
	ready := func(q *db.Queries) (int, error) {
		rows, err := q.ReadyEndpoints(t.Context(), 10)
		return len(rows), err
	}
	a, b, c, d, l := ids[0], ids[1], ids[2], ids[3], ids[4]
	const hour = 3600
	for _, o := range []op{
		{"what is due is claimed", claim(1, hour, a, b)},
		{"what is leased is not claimed", claim(1, hour, a, b)},
		{"a success ends the delivery", settle(a, 1, "success", 0, 0, "", "")},
		{"what is delivered is not claimed", claim(1, hour, a)},
		{"a result written twice counts once", settle(a, 1, "success", 0, 0, "", "")},
		{"a failure waits for its time", settle(b, 1, "failure", 1, hour, "", "")},
		{"a failure written twice counts once", settle(b, 1, "failure", 1, hour, "", "")},
		{"what is not due is not claimed", claim(1, hour, b)},
		{"what is nearly due is", claim(hour+60, -1, b)},
		{"a lease that ran out is taken over", claim(hour+60, -1, b)},
		{"a late failure ends its attempt and not the delivery", settle(b, 2, "failure", 2, hour, "", "")},
		{"a third interruption ends the delivery", claim(hour+60, -1, b)},
		{"a late success ends it all the same", settle(b, 3, "success", 1, 0, "", "")},
		{"claim another, whose lease is over at once", claim(1, -1, c)},
		{"claim another like that", claim(1, -1, l)},
		{"and again", claim(1, hour, l)},
		{"a late success closes the attempt in flight", settle(l, 1, "success", 0, 0, "", "")},
		{"whose result still counts, if it comes", settle(l, 2, "failure", 1, 0, "", "")},
		{"what has an attempt to close is not parked", park("paused", c)},
		{"the sweeper frees it", expired},
		{"and finds no other", expired},
		{"what was swept is left alone for a while", due(-time.Minute)},
		{"what is due and was not swept since is taken", due(time.Minute)},
		{"and again only later", due(-time.Minute)},
		{"claim it to undo that", claim(1, hour, c)},
		{"an undone claim never was", unclaim(c, 2)},
		{"and can't be undone twice", unclaim(c, 2)},
		{"what can be claimed can be parked", park("circuit_open", c)},
		{"an endpoint with parked deliveries is ready", ready},
		{"parked ones are not claimed", claim(1, hour, c)},
		{"nor are they due", due(time.Minute)},
		{"another is parked", park("at_capacity", d)},
		{"release lets the oldest go", release(1)},
		{"and then the other", release(5)},
		{"a released one is claimed", claim(1, hour, c)},
		{"Retry-After waits in PostgreSQL", settle(c, 2, "failure", 1, -1, "retry_after", "")},
		{"until the sweeper takes it", timed},
		{"claim for the last time", claim(1, hour, c, d)},
		{"a spent schedule ends the delivery", settle(c, 3, "failure", 2, 0, "", "exhausted")},
		{"a success after that still counts", settle(c, 3, "success", 2, 0, "", "")},
		{"what is leased can't be parked", park("paused", d)},
	} {
		wantN, err := o.do(real)
		if err != nil {
			t.Fatalf("%s: PostgreSQL: %v", o.name, err)
		}
		gotN, err := o.do(model)
		if err != nil {
			t.Fatalf("%s: model: %v", o.name, err)
		}
		if gotN != wantN {
			t.Errorf("%s: the model returns %d rows, PostgreSQL %d", o.name, gotN, wantN)
		}
		for i, id := range ids {
			if diff := gocmp.Diff(stored(e, id), store.rows[id].modelled(time.Now())); diff != "" {
				t.Errorf("%s: delivery %d (-PostgreSQL +model):\n%s", o.name, i, diff)
			}
		}
	}
}

// stored is a delivery as PostgreSQL has it.
func stored(e *steptest.Env, id uuid.UUID) (m modelled) {
	e.T.Helper()
	err := e.DB.QueryRow(e.T.Context(), `
		SELECT status, coalesce(reason, ''), coalesce(waits_for, ''), attempts, failures, coalesce(next_attempt_at <= now(), false),
		       coalesce(next_attempt_at > '9000-01-01Z', false), next_attempt_at IS NULL, leased_until IS NOT NULL, coalesce(leased_until > now(), false),
		       swept_at IS NOT NULL, ARRAY (SELECT n || ' ' || coalesce(outcome, '') FROM attempts a WHERE a.delivery_id = d.id ORDER BY n)
		FROM deliveries d WHERE id = $1`, id).
		Scan(&m.Status, &m.Reason, &m.WaitsFor, &m.Attempts, &m.Failures, &m.Due, &m.Parked, &m.Null, &m.Leased, &m.Held, &m.Swept, &m.Log)
	if err != nil {
		e.T.Fatal(err)
	}
	return m
}

// modelled is a delivery as the simulator has it.
func (d *simDelivery) modelled(now time.Time) modelled {
	m := modelled{
		Status: d.status, Reason: d.reason, WaitsFor: d.waitsFor, Attempts: d.attempts, Failures: d.failures,
		Due: !d.next.IsZero() && !d.next.After(now), Parked: d.next.Equal(parkedUntil), Null: d.next.IsZero(),
		Leased: !d.leased.IsZero(), Held: d.leased.After(now), Swept: !d.swept.IsZero(), Log: []string{},
	}
	for _, a := range d.log {
		m.Log = append(m.Log, strconv.Itoa(int(a.n))+" "+a.outcome)
	}
	return m
}
