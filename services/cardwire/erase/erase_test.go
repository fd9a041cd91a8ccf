package erase

import (
	"context"
	"os"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"github.com/nats-io/nats.go"

	"github.com/cardwire/cardwire/events/streams"
	"github.com/cardwire/cardwire/services/internal/steptest"
	"github.com/cardwire/cardwire/sql/pgtest"
)

func TestMain(m *testing.M) { os.Exit(pgtest.Main(m)) }

var (
	alice = uuid.MustParse("00000000-0000-7000-8000-000000000001")
	bob   = uuid.MustParse("00000000-0000-7000-8000-000000000002")
)

// Whoever adds a table says here whether it holds something of users.
func TestEveryTableIsCoveredOrHoldsNothingOfUsers(t *testing.T) {
	t.Parallel()
	pool := pgtest.New(t)
	rows, err := pool.Query(t.Context(), `SELECT table_name::text FROM information_schema.tables t
		WHERE table_schema = 'public' AND table_type = 'BASE TABLE'
		  AND NOT EXISTS (SELECT FROM pg_inherits WHERE inhrelid = to_regclass(quote_ident(t.table_name)))`)
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	covered := []string{"deliveries", "attempts", endpoints.name}
	for _, t := range append(sources[:len(sources):len(sources)], records...) {
		covered = append(covered, t.name)
	}
	found := 0
	for rows.Next() {
		var name string
		if err := rows.Scan(&name); err != nil {
			t.Fatal(err)
		}
		found++
		if _, without := withoutUsers[name]; without == slices.Contains(covered, name) {
			t.Errorf("table %s: is in sources, records or withoutUsers of tables.go, and in one of them only", name)
		}
	}
	if err := rows.Err(); err != nil || found != len(covered)+len(withoutUsers) {
		t.Errorf("%v; %d tables, want %d and %d", err, found, len(covered), len(withoutUsers))
	}
}

// A lab has two users with something of everything.
type lab struct {
	*steptest.Env
	Eraser
}

const n = batch + 3 // of events, each with a delivery and two attempts

func newLab(t *testing.T) *lab {
	t.Helper()
	e := steptest.New(t)
	l := &lab{e, Eraser{DB: e.DB, JS: e.Deps("operator").JS}}
	if _, err := streams.EnsureStream(t.Context(), l.JS, e.Streams.EventsStream()); err != nil {
		t.Fatal(err)
	}
	if _, err := streams.EnsureStream(t.Context(), l.JS, e.Streams.DeliveriesStream()); err != nil {
		t.Fatal(err)
	}
	for name, user := range map[string]uuid.UUID{"alice": alice, "bob": bob} {
		l.fill(name, user)
	}
	// Each has seen and saved the other's card.
	for user, other := range map[uuid.UUID]uuid.UUID{alice: bob, bob: alice} {
		e.Exec(`INSERT INTO saved_contacts (user_id, card_id, event_id) SELECT $1, id, new_id() FROM cards WHERE user_id = $2`, user, other)
		e.Exec(`INSERT INTO card_views (event_id, owner_id, viewer_id, viewer_hash, source, viewed_at) VALUES (new_id(), $1, $2, 'x', 'qr', now())`, other, user)
	}
	return l
}

func (l *lab) fill(name string, user uuid.UUID) {
	e := l.Env
	ep := e.Endpoint(user, "https://one.example/")
	e.Exec(`INSERT INTO users (id, username, display_name) VALUES ($1, $2, $2)`, user, name)
	e.Exec(`INSERT INTO cards (id, user_id, title) VALUES (new_id(), $1, 'card')`, user)
	e.Exec(`INSERT INTO links (id, user_id, platform, username, url) VALUES (new_id(), $1, 'x', 'y', 'z')`, user)
	e.Exec(`INSERT INTO card_links (card_id, link_id) SELECT c.id, l.id FROM cards c JOIN links l USING (user_id) WHERE c.user_id = $1`, user)
	e.Exec(`INSERT INTO outbox (id, user_id, type, body) VALUES (new_id(), $1, 'card.viewed', '{}')`, user)
	e.Exec(`WITH v AS (
			INSERT INTO events (id, user_id, type, body, occurred_at, stream_seq)
			SELECT new_id(), $1, 'card.viewed', '{}', now(), n FROM generate_series(1, $3) AS n RETURNING id
		), d AS (
			INSERT INTO deliveries (id, event_id, endpoint_id, event_type, status, next_attempt_at, delivered_at, attempts)
			SELECT new_id(), id, $2, 'card.viewed', 'success', NULL, now(), 2 FROM v RETURNING id
		)
		INSERT INTO attempts (delivery_id, n, endpoint_id, finished_at, outcome) SELECT id, n, $2, now(), 'failure' FROM d, generate_series(1, 2) AS n`, user, ep.ID, n)
	e.Exec(`INSERT INTO dead_events (id, stream_seq, subject, headers, body, reason) VALUES (new_id(), 1, 'events.' || $1::text || '.x', '', '', 'broken')`, user.String())
	e.Exec(`INSERT INTO recoveries (id, endpoint_id, since, until, at, missing_at) VALUES (new_id(), $1, now() - interval '1 day', now(), new_id(), new_id())`, ep.ID)
	e.Exec(`INSERT INTO replays (id, actor, endpoint_id, user_id, mode, since, until, start_id, end_id, at) VALUES (new_id(), 'user:x', $1, $2, 'all', now() - interval '1 day', now(), new_id(), new_id(), new_id())`, ep.ID, ep.UserID)
	e.Exec(`INSERT INTO card_views (event_id, owner_id, source, viewed_at) VALUES (new_id(), $1, 'qr', now())`, user)
	e.Exec(`INSERT INTO idempotency_keys (user_id, key, request_hash, status, answer) VALUES ($1, 'k', $2, 201, '')`, user, make([]byte, 32))
	e.Exec(`INSERT INTO audit_log (id, user_id, endpoint_id, actor, action) VALUES (new_id(), $1, $2, 'x', 'endpoint.created')`, user, ep.ID)
	e.Exec(`INSERT INTO endpoint_states (endpoint_id) VALUES ($1)`, ep.ID)
	var msgs []*nats.Msg
	for _, subject := range []string{streams.EventSubject(user, "card.viewed"), streams.EventSubject(user, "a"), streams.FirstSubject(ep.ID), streams.AgainSubject(ep.ID), streams.WaitSubject(1e9, ep.ID)} {
		msgs = append(msgs, nats.NewMsg(subject))
	}
	if errs, ok := streams.PublishAll(e.T.Context(), l.JS, msgs); !ok {
		e.T.Fatal(errs)
	}
}

// all is what there is of a user that has everything.
var all = []Line{
	{"saved_contacts", 2},
	{"card_links", 1},
	{"links", 1},
	{"cards", 1},
	{"users", 1},
	{"outbox", 1},
	{"endpoint_secrets", 1},
	{"messages of EVENTS", 2},
	{"messages of DELIVERIES", 3},
	{"deliveries", n},
	{"attempts", 2 * n},
	{"events", n},
	{"dead_events", 1},
	{"delivery_counts", 1},
	{"recoveries", 1},
	{"replays", 1},
	{"card_views", 2},
	{"idempotency_keys", 1},
	{"audit_log", 1},
	{"endpoint_states", 1},
	{"endpoints", 1},
	{viewer, 1},
}

func (l *lab) counts(user uuid.UUID) []Line {
	l.T.Helper()
	lines, err := l.Eraser.Count(l.T.Context(), user)
	if err != nil {
		l.T.Fatal(err)
	}
	return lines
}

// isGone checks that nothing is left of alice, and all of bob's but what he shared with her.
func (l *lab) isGone() {
	l.T.Helper()
	for _, line := range l.counts(alice) {
		if line.N != 0 {
			l.T.Errorf("%d of alice's are left of %s", line.N, line.What)
		}
	}
	bobs := slices.Clone(all)
	bobs[0].N = 0 // he saved her card, she saved his
	bobs[len(bobs)-1].N = 0
	if diff := cmp.Diff(bobs, l.counts(bob)); diff != "" {
		l.T.Errorf("bob's (-want +got):\n%s", diff)
	}
	if views := l.Env.Count(`SELECT count(*) FROM card_views WHERE owner_id = $1 AND viewer_id IS NULL AND viewer_hash IS NULL`, bob); views != 2 {
		l.T.Errorf("%d views of bob's without a viewer, want 2", views)
	}
}

func TestCountChangesNothing(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	for range 2 {
		if diff := cmp.Diff(all, l.counts(alice)); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
	}
	if diff := cmp.Diff(all, l.counts(bob)); diff != "" {
		t.Errorf("bob's (-want +got):\n%s", diff)
	}
}

func TestEraseRemovesOneUser(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	lines, err := l.Erase(t.Context(), alice)
	if err != nil {
		t.Fatal(err)
	}
	byName := func(a, b Line) int {
		if a.What < b.What {
			return -1
		}
		return 1
	}
	want := slices.Clone(all)
	slices.SortFunc(want, byName)
	slices.SortFunc(lines, byName)
	if diff := cmp.Diff(want, lines); diff != "" {
		t.Errorf("removed (-want +got):\n%s", diff)
	}
	l.isGone()
	for _, line := range func() []Line { again, _ := l.Erase(t.Context(), alice); return again }() {
		if line.N != 0 {
			t.Errorf("once more: %v", line)
		}
	}
}

// Interrupted after any of its steps, it is repeated.
func TestEraseGoesOnAfterAnInterruption(t *testing.T) {
	t.Parallel()
	for _, table := range []string{"users", "outbox", "deliveries", "events", "recoveries", "audit_log", "endpoint_states", "endpoints"} {
		t.Run("at "+table, func(t *testing.T) {
			t.Parallel()
			l := newLab(t)
			l.Exec(`CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'cut off'; END $$`)
			l.Exec(`CREATE TRIGGER refuse BEFORE DELETE ON ` + table + ` FOR EACH ROW EXECUTE FUNCTION refuse()`)
			if _, err := l.Erase(t.Context(), alice); err == nil {
				t.Fatal("it was not interrupted")
			}
			if active := l.Env.Count(`SELECT count(*) FROM endpoints WHERE user_id = $1 AND deleted_at IS NULL`, alice); active != 0 {
				t.Error("an endpoint still gets events")
			}
			l.Exec(`DROP TRIGGER refuse ON ` + table)
			if _, err := l.Erase(t.Context(), alice); err != nil {
				t.Fatal(err)
			}
			l.isGone()
		})
	}
}

func TestEraseWithoutStreams(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	for _, name := range []string{streams.Events, streams.Deliveries} {
		if err := l.JS.DeleteStream(t.Context(), name); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := l.Erase(t.Context(), alice); err != nil {
		t.Fatal(err)
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := l.Erase(ended, bob); err == nil {
		t.Error("a cancelled erasure has no error")
	}
}
