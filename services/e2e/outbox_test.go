package e2e

import (
	"errors"
	"os"
	"strings"
	"sync"
	"testing"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/cardwire/cardwire/events"
	"github.com/cardwire/cardwire/events/outbox"
	"github.com/cardwire/cardwire/events/streams"
	"github.com/cardwire/cardwire/services/internal/natstest"
	"github.com/cardwire/cardwire/services/internal/steptest"
)

// outboxRelay makes a relay, over the stream of a broker that has one.
func outboxRelay(e *steptest.Env) *outbox.Relay {
	e.T.Helper()
	if _, err := streams.EnsureStream(e.T.Context(), e.Deps("operator").JS, e.Streams.EventsStream()); err != nil {
		e.T.Fatal(err)
	}
	p, err := events.NewPublisher(natstest.Connect(e.T, e.Broker, "publisher"))
	if err != nil {
		e.T.Fatal(err)
	}
	return outbox.NewRelay(e.DB, p)
}

// published lists the events on the stream, in its order.
func published(e *steptest.Env) (got []events.Event) {
	e.T.Helper()
	s, err := e.Deps("operator").JS.Stream(e.T.Context(), streams.Events)
	if err != nil {
		e.T.Fatal(err)
	}
	for seq := uint64(1); seq <= s.CachedInfo().State.LastSeq; seq++ {
		m, err := s.GetMsg(e.T.Context(), seq)
		if err != nil {
			e.T.Fatal(err)
		}
		ev, err := events.Decode(m.Subject, m.Header, m.Data)
		if err != nil {
			e.T.Fatal(err)
		}
		got = append(got, ev)
	}
	return got
}

func TestTheOutboxPublishesWhatWasCommittedAndNothingElse(t *testing.T) {
	t.Parallel()
	e := steptest.New(t)
	relay := outboxRelay(e)
	committed, rolledBack := e.Event(alice, map[string]string{"n": "1"}), e.Event(alice, map[string]string{"n": "2"})
	committed.Attributes = map[string]string{"viewer-hash": "abc"}
	for range 2 { // a repeat changes nothing
		if err := outbox.Write(t.Context(), e.DB, committed); err != nil {
			t.Fatal(err)
		}
	}
	undo := errors.New("undo")
	err := pgx.BeginFunc(t.Context(), e.DB, func(tx pgx.Tx) error {
		if err := outbox.Write(t.Context(), tx, rolledBack); err != nil {
			t.Error(err)
		}
		return undo
	})
	if !errors.Is(err, undo) {
		t.Fatal(err)
	}
	if n, err := relay.Once(t.Context()); n != 1 || err != nil {
		t.Errorf("relayed %d, %v", n, err)
	}
	got := published(e)
	if len(got) != 1 || got[0].ID != committed.ID || string(got[0].Body) != string(committed.Body) || got[0].Attributes["viewer-hash"] != "abc" {
		t.Errorf("published %+v", got)
	}
	if n := e.Count(`SELECT count(*) FROM outbox`); n != 0 {
		t.Errorf("%d rows left", n)
	}
}

func TestManyRelaysPublishEachEventOnce(t *testing.T) {
	t.Parallel()
	e := steptest.New(t)
	want := make(map[uuid.UUID]bool)
	for range 1000 {
		ev := e.Event(alice, struct{}{})
		want[ev.ID] = true
		if err := outbox.Write(t.Context(), e.DB, ev); err != nil {
			t.Fatal(err)
		}
	}
	var relays sync.WaitGroup
	for range 4 {
		relay := outboxRelay(e)
		relays.Go(func() {
			for e.Count(`SELECT count(*) FROM outbox`) > 0 {
				if _, err := relay.Once(t.Context()); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	relays.Wait()
	got := published(e)
	for _, ev := range got {
		delete(want, ev.ID)
	}
	if len(got) != 1000 || len(want) != 0 {
		t.Errorf("%d published, %d missing", len(got), len(want))
	}
}

func TestARowThatIsNoEventIsSetAside(t *testing.T) {
	t.Parallel()
	e := steptest.New(t)
	relay := outboxRelay(e)
	good := e.Event(alice, struct{}{})
	// As a service in another language could write it.
	e.Exec(`INSERT INTO outbox (id, user_id, type, body) VALUES (gen_random_uuid(), $1, 'card.viewed', 'no JSON')`, alice)
	e.Exec(`INSERT INTO outbox (id, user_id, type, body, attributes) VALUES ($1, $2, $3, $4, '[1]')`,
		e.Event(alice, struct{}{}).ID, alice, good.Type, good.Body)
	if err := outbox.Write(t.Context(), e.DB, good); err != nil {
		t.Fatal(err)
	}
	if n, err := relay.Once(t.Context()); n != 3 || err != nil {
		t.Errorf("relayed or set aside %d, %v", n, err)
	}
	if got := published(e); len(got) != 1 || got[0].ID != good.ID {
		t.Errorf("published %+v", got)
	}
	if n := e.Count(`SELECT count(*) FROM outbox WHERE refused LIKE 'invalid event: %'`); n != 2 {
		t.Errorf("%d rows set aside with a reason, want 2", n)
	}
	invalid := good
	invalid.Type = "No Type"
	if err := outbox.Write(t.Context(), e.DB, invalid); !errors.Is(err, events.ErrInvalid) {
		t.Errorf("write of an invalid event: %v", err)
	}
}

func TestWithoutABrokerTheOutboxKeepsItsRows(t *testing.T) {
	t.Parallel()
	e := steptest.New(t)
	relay := outboxRelay(e)
	if err := outbox.Write(t.Context(), e.DB, e.Event(alice, struct{}{})); err != nil {
		t.Fatal(err)
	}
	e.Broker.Stop()
	if n, err := relay.Once(t.Context()); n != 0 || err == nil || !strings.Contains(err.Error(), "event not accepted") {
		t.Errorf("relayed %d, %v", n, err)
	}
	if n := e.Count(`SELECT count(*) FROM outbox WHERE refused IS NULL`); n != 1 {
		t.Errorf("%d rows wait, want 1", n)
	}
}

// The trace of an event goes through the outbox with it.
func TestAnEventKeepsItsTraceInTheOutbox(t *testing.T) {
	t.Parallel()
	e := steptest.New(t)
	relay := outboxRelay(e)
	ev := e.Event(alice, struct{}{})
	ev.Trace, ev.Attributes = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", map[string]string{"viewer": "x"}
	if err := outbox.Write(t.Context(), e.DB, ev); err != nil {
		t.Fatal(err)
	}
	if n, err := relay.Once(t.Context()); n != 1 || err != nil {
		t.Fatalf("%d relayed, %v", n, err)
	}
	stream, err := e.Deps("operator").JS.Stream(t.Context(), streams.Events)
	if err != nil {
		t.Fatal(err)
	}
	m, err := stream.GetMsg(t.Context(), 1)
	if err != nil {
		t.Fatal(err)
	}
	got, err := events.Decode(m.Subject, m.Header, m.Data)
	if err != nil || got.Trace != ev.Trace || len(got.Attributes) != 1 || got.Attributes["viewer"] != "x" {
		t.Errorf("relayed %+v, %v", got, err)
	}
}

// The statements of docs/outbox.md are run as they stand there.
func TestTheStatementsOfTheOutboxPageWork(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile("../../docs/outbox.md")
	if err != nil {
		t.Fatal(err)
	}
	var statements []string
	for _, block := range strings.Split(string(page), "```sql\n")[1:] {
		sql, _, _ := strings.Cut(block, "```")
		statements = append(statements, sql)
	}
	if len(statements) != 2 {
		t.Fatalf("%d statements on the page, want 2", len(statements))
	}
	e := steptest.New(t)
	relay := outboxRelay(e)
	var id uuid.UUID
	if err := e.DB.QueryRow(t.Context(), statements[0], alice, events.CardViewed, `{"cardId": null, "é": "\u0001"}`).Scan(&id); err != nil {
		t.Fatal(err)
	}
	own := e.Event(alice, struct{}{})
	for range 2 { // a repeat changes nothing
		e.Exec(statements[1], own.ID, alice, own.Type, own.Body)
	}
	if n, err := relay.Once(t.Context()); n != 2 || err != nil {
		t.Errorf("relayed %d, %v", n, err)
	}
	if n := e.Count(`SELECT count(*) FROM outbox`); n != 0 {
		t.Errorf("%d rows left, or set aside", n)
	}
	got := published(e)
	if len(got) != 2 || got[0].ID != id || got[1].ID != own.ID || !strings.Contains(string(got[0].Body), `"data" : {"cardId": null, "é": "\u0001"}`) {
		t.Errorf("published %+v", got)
	}
}
