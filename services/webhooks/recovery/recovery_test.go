package recovery

import (
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/cardwire/cardwire/events"
	"github.com/cardwire/cardwire/events/streams"
	"github.com/cardwire/cardwire/services/internal/delivery"
	"github.com/cardwire/cardwire/services/internal/steptest"
	"github.com/cardwire/cardwire/sql/db"
	"github.com/cardwire/cardwire/sql/pgtest"
)

func TestMain(m *testing.M) { os.Exit(pgtest.Main(m)) }

var alice = uuid.MustParse("00000000-0000-7000-8000-000000000001")

// A lab is an endpoint with a past.
type lab struct {
	*steptest.Env
	step     *Recoverer
	endpoint uuid.UUID
}

func newLab(t *testing.T) *lab {
	t.Helper()
	e := steptest.New(t)
	d := e.Deps("webhooks")
	if _, err := streams.EnsureStream(t.Context(), e.Deps("operator").JS, e.Streams.DeliveriesStream()); err != nil {
		t.Fatal(err)
	}
	r, err := New(Config{}, d)
	if err != nil {
		t.Fatal(err)
	}
	return &lab{Env: e, step: r, endpoint: e.Endpoint(alice, "https://one.example/").ID}
}

// write writes n deliveries of the endpoint with a status, of events of now.
func (l *lab) write(n int, status string) {
	l.T.Helper()
	l.Exec(`WITH v AS (
			INSERT INTO events (id, user_id, type, body, occurred_at, stream_seq)
			SELECT new_id(), $4, 'contact.saved', '{}', now(), 1 FROM generate_series(1, $3) RETURNING id)
		INSERT INTO deliveries (id, event_id, endpoint_id, event_type, status, reason, attempts, failures, next_attempt_at, delivered_at, exhausted_at)
		SELECT new_id(), v.id, $1, 'card.viewed', $2, CASE WHEN $2 = 'failed' THEN 'exhausted' END, 4, 4,
		       CASE WHEN $2 = 'pending' THEN now() + interval '1 day' END, CASE WHEN $2 = 'success' THEN now() END,
		       CASE WHEN $2 = 'failed' THEN now() END
		FROM v`, l.endpoint, status, n, alice)
}

// ask writes a recovery of the last hour up to a time.
func (l *lab) ask(missing bool, until time.Time) uuid.UUID {
	l.T.Helper()
	id := uuid.Must(uuid.NewV7())
	since := until.Add(-time.Hour)
	if _, err := db.New(l.DB).InsertRecovery(l.T.Context(), db.InsertRecoveryParams{
		ID: id, EndpointID: l.endpoint, Since: since, Until: until, Missing: missing, At: delivery.Floor(since),
	}); err != nil {
		l.T.Fatal(err)
	}
	return id
}

// finish works until nothing is left to do, without the pauses, and returns the
// numbers of deliveries of the batches.
func (l *lab) finish() (batches []int) {
	l.T.Helper()
	for {
		l.Exec(`UPDATE recoveries SET next_at = now() - interval '1 second'`)
		done, err := l.step.Once(l.T.Context())
		if err != nil {
			l.T.Fatal(err)
		}
		if !done.found {
			return batches
		}
		batches = append(batches, len(done.recovered))
	}
}

// queued counts messages on the lane again.
func (l *lab) queued() int {
	l.T.Helper()
	s, err := l.Deps("operator").JS.Stream(l.T.Context(), streams.Deliveries)
	if err != nil {
		l.T.Fatal(err)
	}
	return int(s.CachedInfo().State.Msgs)
}

func (l *lab) expect(what string, want int, sql string, args ...any) {
	l.T.Helper()
	if n := l.Count(sql, args...); n != want {
		l.T.Errorf("%s: %d, want %d", what, n, want)
	}
}

func TestAllThatFailedInTheRangeIsPendingAgain(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	l.write(7, "failed") // before the range
	l.Exec(`UPDATE deliveries SET id = overlay(id::text PLACING left($1::text, 8) FROM 1 FOR 8)::uuid`, delivery.Floor(time.Now().Add(-2*time.Hour)).String())
	l.write(2*batch+1, "failed")
	l.write(30, "success")
	l.write(20, "pending")
	until := time.Now().Add(time.Second)
	id := l.ask(false, until)
	batches := l.finish()
	if got, want := fmt.Sprint(batches), fmt.Sprint([]int{batch, batch, 1, 0}); got != want {
		t.Errorf("batches of %s, want %s", got, want)
	}
	l.expect("pending, due, as if never attempted", 2*batch+1, `SELECT count(*) FROM deliveries WHERE status = 'pending' AND trigger = 'recover' AND failures = 0
		AND attempts = 4 AND attempts_before = 4 AND next_attempt_at <= now() AND exhausted_at IS NOT NULL`)
	l.expect("others as they were", 57, `SELECT count(*) FROM deliveries WHERE trigger = 'event' AND failures = 4`)
	l.expect("the recovery", 1, `SELECT count(*) FROM recoveries WHERE id = $1 AND recovered = $2 AND finished_at IS NOT NULL`, id, 2*batch+1)
	if n := l.queued(); n != 2*batch+1 {
		t.Errorf("%d queued", n)
	}
}

func TestAMillionThatNeedNothingAreExaminedInBoundedSteps(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	l.write(2*examine+1, "success")
	l.write(1, "failed")
	l.ask(false, time.Now().Add(time.Second))
	if got, want := fmt.Sprint(l.finish()), fmt.Sprint([]int{0, 0, 1, 0}); got != want {
		t.Errorf("batches of %s, want %s", got, want)
	}
}

func TestMissingDeliveriesAreMade(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	// Events of the last hour: some of types that the endpoint does not ask for, some delivered, some of somebody else.
	var evs db.StoreEventsParams
	add := func(user uuid.UUID, eventType string) uuid.UUID {
		e, err := events.New(user, eventType, map[string]any{})
		if err != nil {
			t.Fatal(err)
		}
		evs.Ids, evs.UserIds, evs.Types = append(evs.Ids, e.ID), append(evs.UserIds, user), append(evs.Types, eventType)
		evs.Bodies, evs.OccurredAts, evs.StreamSeqs = append(evs.Bodies, e.Body), append(evs.OccurredAts, e.Time), append(evs.StreamSeqs, 1)
		return e.ID
	}
	for range batch + 5 {
		add(alice, events.CardViewed)
		add(alice, events.ContactSaved)
	}
	known := add(alice, events.CardViewed)
	add(uuid.New(), events.CardViewed)
	if _, err := db.New(l.DB).StoreEvents(t.Context(), evs); err != nil {
		t.Fatal(err)
	}
	l.Exec(`INSERT INTO deliveries (id, event_id, endpoint_id, event_type, status, next_attempt_at, delivered_at) VALUES ($1, $2, $3, 'card.viewed', 'success', NULL, now())`,
		delivery.ID(known, l.endpoint), known, l.endpoint)
	until := time.Now().Add(time.Second)
	l.ask(false, until)
	l.finish()
	l.expect("without missing", 1, `SELECT count(*) FROM deliveries`)

	id := l.ask(true, until)
	l.finish()
	l.expect("made", batch+5, `SELECT count(*) FROM deliveries d JOIN events e ON e.id = d.event_id
		WHERE d.endpoint_id = $1 AND d.trigger = 'recover' AND d.status = 'pending' AND d.event_type = 'card.viewed' AND e.user_id = $2 AND e.type = 'card.viewed'`, l.endpoint, alice)
	l.expect("as it was", 1, `SELECT count(*) FROM deliveries WHERE status = 'success' AND trigger = 'event'`)
	l.expect("counted", batch+6, `SELECT sum(n) FROM delivery_counts WHERE endpoint_id = $1`, l.endpoint)
	l.expect("the recovery", 1, `SELECT count(*) FROM recoveries WHERE id = $1 AND recovered = $2 AND finished_at IS NOT NULL`, id, batch+5)
	if n := l.queued(); n != batch+5 {
		t.Errorf("%d queued", n)
	}
	l.ask(true, until)
	l.finish()
	l.expect("after it was asked for again", batch+6, `SELECT count(*) FROM deliveries`)
}

// A process can die at any moment: what was committed stays, what was not is as
// if it had never begun.
func TestACrashDoublesNothing(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	l.write(2*batch+10, "failed")
	id := l.ask(false, time.Now().Add(time.Second))
	// Dies between the commit and telling the broker.
	tx, err := l.DB.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if done, err := advance(t.Context(), db.New(tx)); err != nil || len(done.recovered) != batch {
		t.Fatalf("%+v, %v", done, err)
	}
	if err := tx.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	// Dies before the commit.
	l.Exec(`UPDATE recoveries SET next_at = now()`)
	if tx, err = l.DB.Begin(t.Context()); err != nil {
		t.Fatal(err)
	}
	if done, err := advance(t.Context(), db.New(tx)); err != nil || len(done.recovered) != batch {
		t.Fatalf("%+v, %v", done, err)
	}
	if err := tx.Rollback(t.Context()); err != nil {
		t.Fatal(err)
	}
	// Meanwhile some of the first batch failed once more.
	l.Exec(`UPDATE deliveries SET status = 'failed', reason = 'exhausted', next_attempt_at = NULL
		WHERE id IN (SELECT id FROM deliveries WHERE trigger = 'recover' LIMIT 5)`)
	l.finish()
	l.expect("the recovery", 1, `SELECT count(*) FROM recoveries WHERE id = $1 AND recovered = $2 AND finished_at IS NOT NULL`, id, 2*batch+10)
	l.expect("failed once more, and left alone", 5, `SELECT count(*) FROM deliveries WHERE status = 'failed'`)
	if n := l.queued(); n != batch+10 {
		t.Errorf("%d queued, want those of the second half", n)
	}
	due, err := db.New(l.DB).TakeDueDeliveries(t.Context(), db.TakeDueDeliveriesParams{PublishedBefore: time.Now().Add(time.Minute), MaxRows: 5000})
	if err != nil || len(due) != 2*batch+5 {
		t.Errorf("the sweeper finds %d, %v", len(due), err)
	}
}

func TestReplicasTakeTurnsAndKeepTheRateTogether(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	l.write(batch+10, "failed")
	l.ask(false, time.Now().Add(time.Second))
	nothing := func(when string) {
		t.Helper()
		if done, err := l.step.Once(t.Context()); err != nil || done.found {
			t.Errorf("%s: went on with %+v, %v", when, done, err)
		}
	}
	other, err := l.DB.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if done, err := advance(t.Context(), db.New(other)); err != nil || len(done.recovered) != batch {
		t.Fatalf("%+v, %v", done, err)
	}
	nothing("while another is at it")
	if err := other.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	l.expect("with the pause that the rate asks for", 1, `SELECT count(*) FROM recoveries
		WHERE next_at >= (SELECT max(updated_at) FROM deliveries) + make_interval(secs => $1::float8)`, float64(batch)/rate)
	l.endpoint = l.Endpoint(alice, "https://two.example/").ID
	l.ask(false, time.Now().Add(time.Second))
	l.Exec(`UPDATE recoveries SET next_at = now() + interval '1 hour' WHERE recovered > 0`)
	nothing("within the pause, not even of another recovery")
}

func TestRecoveriesGoOnInTurn(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	first, second := l.endpoint, l.Endpoint(alice, "https://two.example/").ID
	l.write(3*batch, "failed")
	l.ask(false, time.Now().Add(time.Second))
	l.endpoint = second
	l.write(batch, "failed")
	l.ask(false, time.Now().Add(time.Second))
	for range 2 {
		l.Exec(`UPDATE recoveries SET next_at = next_at - interval '1 hour'`)
		if _, err := l.step.Once(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	for _, id := range []uuid.UUID{first, second} {
		l.expect("recovered", batch, `SELECT recovered FROM recoveries WHERE endpoint_id = $1`, id)
	}
}

func TestARecoveryEndsWithItsEndpoint(t *testing.T) {
	t.Parallel()
	for name, end := range map[string]string{
		"disabled": `UPDATE endpoints SET is_active = false, disabled_reason = 'gone'`,
		"deleted":  `UPDATE endpoints SET deleted_at = now()`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := newLab(t)
			l.write(3, "failed")
			id := l.ask(false, time.Now().Add(time.Second))
			l.Exec(end)
			l.finish()
			l.expect("finished", 1, `SELECT count(*) FROM recoveries WHERE id = $1 AND finished_at IS NOT NULL AND recovered = 0`, id)
			l.expect("failed", 3, `SELECT count(*) FROM deliveries WHERE status = 'failed'`)
		})
	}
}

func TestTheStepWorksOffWhatIsAskedFor(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	l.write(3, "failed")
	id := l.ask(true, time.Now().Add(time.Second))
	l.Run(l.step)
	l.Await("finished", `SELECT finished_at IS NOT NULL AND recovered = 3 FROM recoveries WHERE id = $1`, id)
}

func TestWhatIsMissingFollowsPatternsAndFilter(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name, events, filter string
		want                 int // of 100 card.viewed with n from 0 on, and 100 contact.saved
	}{
		{"a prefix", "{card.*}", "", 100},
		{"everything", "{*}", "", 200},
		{"a filter", "{card.viewed}", `{"n":{"lt":70}}`, 70},
		{"everything and a filter", "{*}", `{"n":{"gte":90}}`, 20},
		{"a filter that nothing passes", "{*}", `{"n":"x"}`, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			l := newLab(t)
			l.Exec(`UPDATE endpoints SET events = $1, filter = nullif($2, '')::json`, tt.events, tt.filter)
			l.Exec(`INSERT INTO events (id, user_id, type, body, occurred_at, stream_seq)
				SELECT new_id(), $1, type, convert_to('{"data":{"n":' || n || '}}', 'UTF8'), now(), n
				FROM generate_series(0, 99) AS n, unnest('{card.viewed,contact.saved}'::text[]) AS type`, alice)
			// Of these nothing is left to send.
			l.Exec(`INSERT INTO events (id, user_id, type, body, occurred_at, stream_seq)
				SELECT new_id(), $1, 'card.viewed', '', now(), n FROM generate_series(1, 10) AS n`, alice)
			l.ask(true, time.Now().Add(time.Second))
			l.finish()
			l.expect("made", tt.want, `SELECT count(*) FROM deliveries WHERE trigger = 'recover'`)
		})
	}
}

func TestWhatFailedIsLeftIfItsBodyIsNoLongerKept(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	l.write(20, "failed")
	l.Exec(`UPDATE events SET body = '' WHERE id IN (SELECT id FROM events ORDER BY id LIMIT 5)`)
	l.ask(false, time.Now().Add(time.Second))
	l.finish()
	l.expect("pending", 15, `SELECT count(*) FROM deliveries d JOIN events e ON e.id = d.event_id WHERE d.status = 'pending' AND e.body <> ''`)
	l.expect("left", 5, `SELECT count(*) FROM deliveries WHERE status = 'failed'`)
}
