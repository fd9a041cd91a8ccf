package retention

import (
	"bytes"
	"context"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/rs/zerolog"

	"github.com/cardwire/cardwire/services/internal/delivery"
	"github.com/cardwire/cardwire/sql/db"
	"github.com/cardwire/cardwire/sql/pgtest"
)

func TestMain(m *testing.M) { os.Exit(pgtest.Main(m)) }

// A lab has events, deliveries and attempts of the last ten days.
type lab struct {
	*testing.T
	pool    *pgxpool.Pool
	cleaner *Cleaner
	logs    bytes.Buffer
}

// Of the days that are cleared after seven there are more rows than one batch.
const (
	perOldDay = 2*batch + 1
	perDay    = 10
	oldRows   = 2 * perOldDay
	keptRows  = 8 * perDay // of today and seven days before
)

func newLab(t *testing.T, bodies time.Duration) *lab {
	t.Helper()
	l := &lab{T: t, pool: pgtest.New(t)}
	l.cleaner = New(Config{Rows: 30 * day, Bodies: bodies}, l.pool, zerolog.New(&l.logs))
	today := time.Now().UTC().Truncate(day)
	if _, err := db.New(l.pool).EnsurePartitions(t.Context(), db.EnsurePartitionsParams{FromDay: today.Add(-9 * day), ToDay: today}); err != nil {
		t.Fatal(err)
	}
	for age := range 10 {
		n := perDay
		if age > 7 {
			n = perOldDay
		}
		l.exec(`WITH ids AS (
			SELECT overlay(new_id()::text PLACING left($1::text, 11) FROM 1 FOR 11)::uuid AS id FROM generate_series(1, $2)
		), v AS (
			INSERT INTO events (id, user_id, type, body, occurred_at, stream_seq) SELECT id, new_id(), 'a', '{"data":{}}', now(), 1 FROM ids RETURNING id
		), d AS (
			INSERT INTO deliveries (id, event_id, endpoint_id, event_type, status, next_attempt_at, delivered_at)
			SELECT overlay(new_id()::text PLACING left(id::text, 13) FROM 1 FOR 13)::uuid, id, $3, 'a', 'success', NULL, now() FROM v RETURNING id
		)
		INSERT INTO attempts (delivery_id, n, endpoint_id, finished_at, outcome, response_body, response_headers, request_headers)
		SELECT id, n, $3, now(), 'success', 'ok', 'A: b', 'C: d' FROM d, generate_series(1, 2) AS n`,
			delivery.Floor(today.Add(-time.Duration(age)*day)).String(), n, "00000000-0000-7000-8000-0000000000e1")
	}
	return l
}

func (l *lab) exec(sql string, args ...any) {
	l.Helper()
	if _, err := l.pool.Exec(l.Context(), sql, args...); err != nil {
		l.Fatal(err)
	}
}

func (l *lab) expect(what string, want int, sql string, args ...any) {
	l.Helper()
	var n int
	if err := l.pool.QueryRow(l.Context(), sql, args...).Scan(&n); err != nil {
		l.Fatal(err)
	}
	if n != want {
		l.Errorf("%s: %d, want %d", what, n, want)
	}
}

func (l *lab) once() {
	l.Helper()
	if err := l.cleaner.Once(l.Context()); err != nil {
		l.Fatal(err)
	}
}

func TestBodiesGoBeforeRows(t *testing.T) {
	t.Parallel()
	l := newLab(t, 7*day)
	l.exec(`UPDATE deliveries SET status = 'pending', delivered_at = NULL, next_attempt_at = now() WHERE id = (SELECT id FROM deliveries ORDER BY id LIMIT 1)`)
	l.once()
	l.expect("events with bodies", keptRows+1, `SELECT count(*) FROM events WHERE body = '{"data":{}}'`)
	l.expect("what is pending has its body", 1, `SELECT count(*) FROM deliveries d JOIN events e ON e.id = d.event_id WHERE d.status = 'pending' AND e.body <> ''`)
	l.expect("attempts with bodies", 2*keptRows, `SELECT count(*) FROM attempts WHERE response_body IS NOT NULL AND response_headers IS NOT NULL AND request_headers IS NOT NULL`)
	l.expect("attempts without", 2*oldRows, `SELECT count(*) FROM attempts WHERE response_body IS NULL AND response_headers IS NULL AND request_headers IS NULL`)
	l.expect("events", keptRows+oldRows, `SELECT count(*) FROM events`)
	l.expect("finished days", 1, `SELECT count(*) FROM cleared_days WHERE finished_at IS NOT NULL`)
	l.expect("days begun", 2, `SELECT count(*) FROM cleared_days`)

	l.exec(`UPDATE deliveries SET status = 'success', delivered_at = now(), next_attempt_at = NULL WHERE status = 'pending'`)
	l.once()
	l.expect("events with bodies, once nothing is pending", keptRows, `SELECT count(*) FROM events WHERE body <> ''`)
	l.expect("finished days, once nothing is pending", 2, `SELECT count(*) FROM cleared_days WHERE finished_at IS NOT NULL`)
	l.expect("the oldest day that can be recovered, in days ago", 7, `SELECT (now() AT TIME ZONE 'UTC')::date - (SELECT max(day) + 1 FROM cleared_days)`)
}

// Who makes a delivery pending while its day is cleared holds the bodies: they
// are cleared after that, and then it is seen to be pending.
func TestWhatIsMadePendingMeanwhileKeepsItsBody(t *testing.T) {
	t.Parallel()
	l := newLab(t, 7*day)
	tx, err := l.pool.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = tx.Rollback(context.WithoutCancel(t.Context())) }()
	if err := db.New(tx).HoldBodies(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := tx.Exec(t.Context(), `UPDATE deliveries SET status = 'pending', delivered_at = NULL, next_attempt_at = now() WHERE id = (SELECT id FROM deliveries ORDER BY id LIMIT 1)`); err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- l.cleaner.Once(t.Context()) }()
	waiting := false
	for !waiting {
		select {
		case err := <-done:
			t.Fatalf("did not wait: %v", err)
		default:
		}
		if err := l.pool.QueryRow(t.Context(), `SELECT EXISTS (SELECT FROM pg_locks l JOIN pg_database d ON d.oid = l.database
			WHERE d.datname = current_database() AND l.locktype = 'advisory' AND NOT l.granted)`).Scan(&waiting); err != nil {
			t.Fatal(err)
		}
	}
	if err := tx.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	l.expect("what is pending has its body", 1, `SELECT count(*) FROM deliveries d JOIN events e ON e.id = d.event_id WHERE d.status = 'pending' AND e.body <> ''`)
	l.expect("events with bodies", keptRows+1, `SELECT count(*) FROM events WHERE body <> ''`)
}

func TestBodiesStayAsLongAsTheirRowsByDefault(t *testing.T) {
	t.Parallel()
	l := newLab(t, 0)
	for _, bodies := range []time.Duration{0, 30 * day, 60 * day} {
		l.cleaner.cfg.Bodies = bodies
		l.cleaner.now = func() time.Time { return time.Now().Add(29 * day) }
		l.once()
		l.expect("events with bodies", keptRows+oldRows, `SELECT count(*) FROM events WHERE body <> ''`)
	}
}

func TestOldRowsOfSmallTablesAreDeleted(t *testing.T) {
	t.Parallel()
	l := newLab(t, 0)
	l.exec(`INSERT INTO dead_events (id, stream_seq, subject, headers, body, reason, created_at)
		SELECT new_id(), n, 'events.x', '', '', 'broken', now() - make_interval(days => n % 40) FROM generate_series(0, 1999) AS n`)
	l.exec(`INSERT INTO endpoints (id, user_id, url, events, deleted_at) VALUES
		('00000000-0000-7000-8000-0000000000e1', new_id(), 'https://a.example/', '{a}', NULL),
		(new_id(), new_id(), 'https://b.example/', '{a}', now() - interval '29 days'), (new_id(), new_id(), 'https://c.example/', '{a}', now() - interval '32 days')`)
	l.exec(`INSERT INTO recoveries (id, endpoint_id, since, until, at, missing_at, finished_at)
		SELECT new_id(), '00000000-0000-7000-8000-0000000000e1', now() - interval '1 day', now(), new_id(), new_id(), finished
		FROM unnest(ARRAY[NULL, now() - interval '31 days', now()]) AS finished`)
	l.once()
	l.expect("dead events", 1500, `SELECT count(*) FROM dead_events`)
	l.expect("endpoints", 2, `SELECT count(*) FROM endpoints`)
	l.expect("recoveries", 2, `SELECT count(*) FROM recoveries`)
}

func TestWarnings(t *testing.T) {
	t.Parallel()
	l := newLab(t, 0)
	l.cleaner.cfg.Rows = 10 * day
	l.once()
	if l.logs.Len() > 0 {
		t.Errorf("logged %s", l.logs.String())
	}
	l.exec(`INSERT INTO endpoints (id, user_id, url, events, retry_schedule) VALUES (new_id(), new_id(), 'https://a.example/', '{a}', ARRAY[432000000, 432001000])`)
	l.exec(`UPDATE deliveries SET status = 'pending', delivered_at = NULL, next_attempt_at = now() WHERE id < $1`, delivery.Floor(time.Now().UTC().Truncate(day).Add(-8*day)))
	l.cleaner.now = func() time.Time { return time.Now().Add(day) }
	l.once()
	for _, want := range []string{`"endpoints":1,"retention_ms":864000000`, `"deliveries":1001,`} {
		if !strings.Contains(l.logs.String(), want) {
			t.Errorf("logged %s, want %s in it", l.logs.String(), want)
		}
	}
}

func TestCheck(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		cfg  Config
		want string
	}{
		{Config{30 * day, 7 * day}, ""},
		{Config{day, 30 * day}, ""},
		{Config{day, 0}, ""},
		{Config{0, day}, "RETENTION: must be whole days, such as 720h, not 0s"},
		{Config{day, time.Hour}, "BODY_RETENTION: must be whole days, such as 720h, not 1h0m0s"},
		{Config{day, -day}, "BODY_RETENTION: must be whole days, such as 720h, not -24h0m0s"},
	} {
		got := ""
		if err := tt.cfg.Check(); err != nil {
			got = err.Error()
		}
		if got != tt.want {
			t.Errorf("%v: %q, want %q", tt.cfg, got, tt.want)
		}
	}
}
