package view

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"github.com/rs/zerolog"

	"github.com/cardwire/cardwire/events/streams"
	"github.com/cardwire/cardwire/services/internal/process"
	"github.com/cardwire/cardwire/sql/db"
	"github.com/cardwire/cardwire/sql/migrations"
	"github.com/cardwire/cardwire/sql/pgtest"
)

func TestViewBecomesARow(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.run(w.View)
	w.do("GET", "/api/u/alice", header("User-Agent", "a\tb"+strings.Repeat("é", 400)))
	w.do("GET", "/api/u/alice/card/"+cardID.String()+"?source=nfc", bearer(bobID), header("User-Agent", ""))
	w.awaitSettled(2)

	on := w.events()
	hash := w.hasher.hash(mustAddr("192.0.2.7"))
	agent := "ab" + strings.Repeat("é", 255)
	want := []db.CardView{
		{EventID: on[0].ID, OwnerID: ownerID, ViewerHash: &hash, UserAgent: &agent, Source: "link", ViewedAt: on[0].Time},
		{EventID: on[1].ID, OwnerID: ownerID, CardID: &cardID, ViewerID: &bobID, ViewerHash: &hash, Source: "nfc", ViewedAt: on[1].Time},
	}
	if diff := cmp.Diff(want, w.rows()); diff != "" {
		t.Errorf("view rows (-want +got):\n%s", diff)
	}
}

// rows are the view rows, oldest first.
func (w *world) rows() (all []db.CardView) {
	w.t.Helper()
	rows, err := w.pool.Query(w.t.Context(), `SELECT event_id, owner_id, card_id, viewer_id, viewer_hash, user_agent, source, viewed_at FROM card_views ORDER BY viewed_at, event_id`)
	if err != nil {
		w.t.Fatal(err)
	}
	defer rows.Close()
	for rows.Next() {
		var r db.CardView
		if err := rows.Scan(&r.EventID, &r.OwnerID, &r.CardID, &r.ViewerID, &r.ViewerHash, &r.UserAgent, &r.Source, &r.ViewedAt); err != nil {
			w.t.Fatal(err)
		}
		all = append(all, r)
	}
	if err := rows.Err(); err != nil {
		w.t.Fatal(err)
	}
	return all
}

func TestRedeliveredEventsAreOneRowEach(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	stop := w.run(w.View)
	const views = 20
	for range views {
		w.do("GET", "/api/u/alice")
	}
	w.awaitSettled(views)
	before := w.rows()
	stop()

	// Without its consumer the broker has forgotten that they were read.
	if err := w.stream.DeleteConsumer(t.Context(), streams.Events, streams.CardViews); err != nil {
		t.Fatal(err)
	}
	w.run(w.View)
	w.awaitSettled(views)
	if diff := cmp.Diff(before, w.rows()); diff != "" || len(before) != views {
		t.Errorf("%d view rows, want %d and no change (-before +after):\n%s", len(before), views, diff)
	}
}

func TestTwoReplicasWriteEachRowOnce(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	other, _ := w.open()
	const views = 2_000
	for range views {
		e, _, err := viewEvent(&page{key: pageKey{username: "alice"}, ownerID: ownerID}, viewer{}, "link", w.hasher)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := w.stream.PublishMsgAsync(e.Msg()); err != nil {
			t.Fatal(err)
		}
	}
	<-w.stream.PublishAsyncComplete()
	w.run(w.View)
	w.run(other)
	w.awaitSettled(views)
	if n := w.count("SELECT count(*) FROM card_views"); n != views {
		t.Errorf("%d view rows, want %d", n, views)
	}
	if strings.Contains(w.logs.String(), `"waiting for a dependency"`) {
		t.Errorf("something went wrong: %s", w.logs)
	}
}

func TestMessagesThatAreNoViews(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	const subject = "events.00000000-0000-7000-8000-000000000001.card.viewed"
	body := func(data string) string {
		return fmt.Sprintf(`{"type":"card.viewed","timestamp":"2026-01-31T12:00:00Z","data":%s}`, data)
	}
	fresh := func() string { return uuid.Must(uuid.NewV7()).String() }
	good := `{"cardId":null,"viewerId":null,"username":"alice","source":"link"}`
	w.publish(subject, fresh(), `no JSON`)
	w.publish(subject, "no id", body(good))
	w.publish(subject, fresh(), body(`{"source":"no such source"}`))
	w.publish(subject, fresh(), body(`{"source":"qr","cardId":"no id"}`))
	w.publish(subject, fresh(), body(`{"source":7}`))
	w.publish(subject, fresh(), body(`{}`))                                                     // another service's view, which names no source
	w.publish("events.00000000-0000-7000-8000-000000000001.contact.saved", fresh(), body(good)) // not for us
	w.publish("events.nobody.card.viewed", fresh(), body(good))
	w.publish(subject, fresh(), body(good))
	w.run(w.View)
	w.awaitSettled(9)
	if n := w.count("SELECT count(*) FROM card_views WHERE source IN ('link', 'unknown')"); n != 2 || len(w.rows()) != 2 {
		t.Errorf("%d view rows, %d of them as wanted; want 2", len(w.rows()), n)
	}
	lines := w.logs.lines(t, "view row refused")
	if len(lines) != 6 {
		t.Errorf("%d refusals logged, want 6: %s", len(lines), w.logs)
	}
	for _, line := range lines {
		if line["error"] == "" || line["stream_seq"] == nil {
			t.Errorf("log line %v", line)
		}
	}
}

// A row that the database will never take must not hold up the others.
func TestRowThatTheDatabaseRefuses(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.exec(`ALTER TABLE card_views ADD CONSTRAINT no_poison CHECK (source <> 'poison')`)
	for _, source := range []string{"a", "b", "poison", "c"} {
		w.do("GET", "/api/u/alice?source="+source)
	}
	w.run(w.View)
	w.awaitSettled(4)
	var sources []string
	for _, r := range w.rows() {
		sources = append(sources, r.Source)
	}
	if diff := cmp.Diff([]string{"a", "b", "c"}, sources); diff != "" {
		t.Errorf("sources (-want +got):\n%s", diff)
	}
	if lines := w.logs.lines(t, "view row refused"); len(lines) != 1 {
		t.Errorf("%d refusals logged, want 1", len(lines))
	}
}

func TestDatabaseAwayAndBack(t *testing.T) {
	t.Parallel()
	server := pgtest.NewServer(t)
	url := server.URL() + "&synchronous_commit=on" // off by default in tests: a crash would lose commits
	if err := migrations.Up(t.Context(), url, zerolog.Nop()); err != nil {
		t.Fatal(err)
	}
	pool, err := process.OpenDB(t.Context(), url, "views", nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pool.Close)
	w := newWorldOn(t, pool, func(c *Config) { c.ProfileCacheTTL = 5 * time.Minute })
	w.run(w.View)
	w.do("GET", "/api/u/alice")
	w.awaitSettled(1)

	if err := server.StopNow(); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		if answer := w.do("GET", "/api/u/alice"); answer.Code != 200 {
			t.Fatalf("status %d for a cached page: %s", answer.Code, answer.Body)
		}
	}
	if answer := w.do("GET", "/api/u/bob"); answer.Code != 503 || answer.Header().Get("Retry-After") == "" {
		t.Errorf("status %d for a page that is not cached: %s", answer.Code, answer.Body)
	}
	await(t, "the writer waits", func() bool { return len(w.logs.lines(t, "waiting for a dependency")) >= 2 })

	if err := server.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	w.awaitSettled(4)
	if n := len(w.rows()); n != 4 {
		t.Errorf("%d view rows, want 4", n)
	}
	if answer := w.do("GET", "/api/u/bob"); answer.Code != 200 {
		t.Errorf("status %d once the database is back: %s", answer.Code, answer.Body)
	}
}

// A service that is stopped while its database is away gives its messages back
// at once, and another writes them.
func TestStopWhileTheDatabaseIsAway(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.exec(`ALTER TABLE card_views RENAME TO away`)
	stop := w.run(w.View)
	w.do("GET", "/api/u/alice")
	await(t, "the writer waits", func() bool { return len(w.logs.lines(t, "waiting for a dependency")) >= 1 })
	stop()
	w.exec(`ALTER TABLE away RENAME TO card_views`)
	other, _ := w.open()
	w.run(other)
	w.awaitSettled(1)
	if n := len(w.rows()); n != 1 {
		t.Errorf("%d view rows, want 1", n)
	}
}
