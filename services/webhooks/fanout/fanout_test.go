package fanout_test

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/cardwire/cardwire/events"
	"github.com/cardwire/cardwire/events/streams"
	"github.com/cardwire/cardwire/services/internal/delivery"
	"github.com/cardwire/cardwire/services/internal/steptest"
	"github.com/cardwire/cardwire/services/webhooks/fanout"
	"github.com/cardwire/cardwire/sql/pgtest"
)

func TestMain(m *testing.M) { os.Exit(pgtest.Main(m)) }

var (
	alice = uuid.MustParse("00000000-0000-7000-8000-000000000001")
	bob   = uuid.MustParse("00000000-0000-7000-8000-000000000002")
)

func start(e *steptest.Env) (stop func()) {
	e.T.Helper()
	f, err := fanout.New(fanout.Config{Retention: 30 * 24 * time.Hour, FanoutBatch: 100}, e.Deps("webhooks"))
	if err != nil {
		e.T.Fatal(err)
	}
	return e.Run(f)
}

// publish puts a message on EVENTS as any NATS client can.
func publish(e *steptest.Env, msgs ...*nats.Msg) {
	e.T.Helper()
	js := e.Deps("operator").JS
	if _, err := streams.EnsureStream(e.T.Context(), js, e.Streams.EventsStream()); err != nil {
		e.T.Fatal(err)
	}
	if errs, ok := streams.PublishAll(e.T.Context(), js, msgs); !ok {
		e.T.Fatal(errs)
	}
}

// queued lists the delivery ids in the work queue.
func queued(e *steptest.Env) map[uuid.UUID]int {
	e.T.Helper()
	js := e.Deps("operator").JS
	s, err := js.Stream(e.T.Context(), streams.Deliveries)
	if err != nil {
		e.T.Fatal(err)
	}
	got := make(map[uuid.UUID]int)
	state := s.CachedInfo().State
	for seq := state.FirstSeq; seq <= state.LastSeq && state.Msgs > 0; seq++ {
		m, err := s.GetMsg(e.T.Context(), seq)
		if err != nil {
			e.T.Fatal(err)
		}
		d, err := delivery.Decode(m.Data)
		if err != nil {
			e.T.Fatal(err)
		}
		if m.Subject != streams.FirstSubject(d.EndpointID) || d.ID != delivery.ID(d.EventID, d.EndpointID) {
			e.T.Errorf("message %s on %s", m.Data, m.Subject)
		}
		got[d.ID]++
	}
	return got
}

func awaitAcked(e *steptest.Env, n uint64) {
	e.T.Helper()
	js := e.Deps("operator").JS
	deadline := time.Now().Add(steptest.Bound)
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for range tick.C {
		c, err := js.Consumer(e.T.Context(), streams.Events, streams.FanOut)
		if err == nil && c.CachedInfo().AckFloor.Stream >= n {
			return
		}
		if time.Now().After(deadline) {
			e.T.Fatalf("events not acked: %v", err)
		}
	}
}

func TestAnEventBecomesADeliveryForEachMatchingEndpoint(t *testing.T) {
	t.Parallel()
	e := steptest.New(t)
	one, two := e.Endpoint(alice, "https://one.example/"), e.Endpoint(alice, "https://two.example/", "contact.saved", "card.viewed")
	e.Endpoint(alice, "https://other-type.example/", "contact.saved")
	e.Endpoint(bob, "https://other-user.example/")
	inactive := e.Endpoint(alice, "https://inactive.example/")
	e.Exec(`UPDATE endpoints SET is_active = false, disabled_reason = 'owner' WHERE id = $1`, inactive.ID)
	deleted := e.Endpoint(alice, "https://deleted.example/")
	e.Exec(`UPDATE endpoints SET deleted_at = now() WHERE id = $1`, deleted.ID)

	ev := e.Event(alice, map[string]string{"source": "qr"})
	start(e)
	publish(e, ev.Msg())
	awaitAcked(e, 1)

	for _, ep := range []steptest.Endpoint{one, two} {
		if n := e.Count(`SELECT count(*) FROM deliveries WHERE id = $1 AND event_id = $2 AND endpoint_id = $3 AND event_type = 'card.viewed' AND status = 'pending'`,
			delivery.ID(ev.ID, ep.ID), ev.ID, ep.ID); n != 1 {
			t.Errorf("endpoint %s: %d deliveries", ep.ID, n)
		}
	}
	if n := e.Count(`SELECT count(*) FROM deliveries`); n != 2 {
		t.Errorf("%d deliveries, want 2", n)
	}
	if n := e.Count(`SELECT count(*) FROM events WHERE id = $1 AND user_id = $2 AND body = $3 AND stream_seq = 1`, ev.ID, alice, ev.Body); n != 1 {
		t.Error("event row missing or different")
	}
	if got := queued(e); len(got) != 2 {
		t.Errorf("queued: %v", got)
	}
}

func TestARepeatedFanOutChangesNothing(t *testing.T) {
	t.Parallel()
	e := steptest.New(t)
	e.Endpoint(alice, "https://one.example/")
	ev := e.Event(alice, map[string]string{})
	stop := start(e)
	publish(e, ev.Msg())
	awaitAcked(e, 1)
	stop()
	// As after a crash before the ack: the consumer starts over.
	js := e.Deps("operator").JS
	if err := js.DeleteConsumer(t.Context(), streams.Events, streams.FanOut); err != nil {
		t.Fatal(err)
	}
	start(e)
	awaitAcked(e, 1)
	if events, deliveries := e.Count(`SELECT count(*) FROM events`), e.Count(`SELECT count(*) FROM deliveries`); events != 1 || deliveries != 1 {
		t.Errorf("%d events and %d deliveries, want one each", events, deliveries)
	}
	for id, n := range queued(e) {
		if n != 1 {
			t.Errorf("delivery %s queued %d times within the dedup window", id, n)
		}
	}
}

// Whoever deletes the consumer has the whole stream read again.
func TestARepeatIsForThoseWhoGotTheEventThen(t *testing.T) {
	t.Parallel()
	e := steptest.New(t)
	done, waiting, late := e.Endpoint(alice, "https://done.example/"), e.Endpoint(alice, "https://waiting.example/"), e.Endpoint(alice, "https://late.example/")
	e.Exec(`UPDATE endpoints SET is_active = false, disabled_reason = 'owner' WHERE id = $1`, late.ID)
	ev := e.Event(alice, map[string]string{})
	stop := start(e)
	publish(e, ev.Msg())
	awaitAcked(e, 1)
	stop()
	e.Exec(`UPDATE endpoints SET is_active = true, disabled_reason = NULL WHERE id = $1`, late.ID)
	e.Exec(`UPDATE deliveries SET status = 'success', next_attempt_at = NULL, delivered_at = now() WHERE endpoint_id = $1`, done.ID)
	js := e.Deps("operator").JS
	if err := js.DeleteConsumer(t.Context(), streams.Events, streams.FanOut); err != nil {
		t.Fatal(err)
	}
	if err := js.DeleteStream(t.Context(), streams.Deliveries); err != nil { // and with it what it knows of ids
		t.Fatal(err)
	}
	start(e)
	awaitAcked(e, 1)
	if n := e.Count(`SELECT count(*) FROM deliveries`); n != 2 {
		t.Errorf("%d deliveries, want the 2 of then", n)
	}
	if got := queued(e); len(got) != 1 || got[delivery.ID(ev.ID, waiting.ID)] != 1 {
		t.Errorf("queued %v, want what still waits", got)
	}
}

func TestWhatIsNoEventIsDeadAndBlocksNothing(t *testing.T) {
	t.Parallel()
	e := steptest.New(t)
	e.Endpoint(alice, "https://one.example/")
	good := e.Event(alice, map[string]string{})
	noID := e.Event(alice, map[string]string{}).Msg()
	noID.Header.Del(nats.MsgIdHdr)
	empty := nats.NewMsg(noID.Subject) // no header, no body
	notJSON := e.Event(alice, map[string]string{}).Msg()
	notJSON.Data = []byte("\x00\xff not JSON")
	notUTF8 := e.Event(alice, map[string]string{}).Msg()
	notUTF8.Subject = "events.\xff\xfe.x"
	old, err := events.NewAt(time.Now().AddDate(0, 0, -31), alice, events.CardViewed, struct{}{})
	if err != nil {
		t.Fatal(err)
	}
	future, err := events.NewAt(time.Now().AddDate(0, 0, 30), alice, events.CardViewed, struct{}{})
	if err != nil {
		t.Fatal(err)
	}
	start(e)
	publish(e, noID, notJSON, notUTF8, old.Msg(), future.Msg(), empty, good.Msg())
	awaitAcked(e, 7)
	if n := e.Count(`SELECT count(*) FROM deliveries WHERE event_id = $1`, good.ID); n != 1 {
		t.Errorf("the good event has %d deliveries", n)
	}
	for seq, want := range map[int]string{
		1: "header Nats-Msg-Id: must be the event's id",
		2: "body: must be UTF-8",
		3: "subject: the user id must be a UUID",
		4: "id: its time, ",
		5: "id: its time, ",
		6: "header Nats-Msg-Id: must be the event's id",
	} {
		var reason string
		if err := e.DB.QueryRow(t.Context(), `SELECT reason FROM dead_events WHERE stream_seq = $1`, seq).Scan(&reason); err != nil {
			t.Fatalf("message %d: %v", seq, err)
		}
		if !strings.Contains(reason, want) {
			t.Errorf("message %d: reason %q, want %q in it", seq, reason, want)
		}
	}
}

func TestAnIDUsedTwiceIsDead(t *testing.T) {
	t.Parallel()
	for _, sameBatch := range []bool{true, false} {
		t.Run(fmt.Sprintf("in the same batch: %v", sameBatch), func(t *testing.T) {
			t.Parallel()
			e := steptest.New(t)
			e.Endpoint(alice, "https://one.example/")
			e.Endpoint(bob, "https://two.example/")
			first := e.Event(alice, map[string]string{"n": "1"})
			second := e.Event(bob, map[string]string{"n": "2"})
			second.ID = first.ID
			again := second.Msg()
			again.Header.Del(nats.MsgIdHdr) // past the stream's dedup, then set below
			m := nats.NewMsg(again.Subject)
			m.Data = again.Data
			m.Header.Set(nats.MsgIdHdr, first.ID.String())
			js := e.Deps("operator").JS
			cfg := e.Streams.EventsStream()
			cfg.Duplicates = 100 * time.Millisecond
			if _, err := js.CreateStream(t.Context(), cfg); err != nil {
				t.Fatal(err)
			}
			publish(e, first.Msg())
			if !sameBatch {
				start(e)
				awaitAcked(e, 1)
			}
			awaitStored(e, js, m)
			if sameBatch {
				start(e)
			}
			awaitAcked(e, 2)
			if n := e.Count(`SELECT count(*) FROM deliveries`); n != 1 {
				t.Errorf("%d deliveries, want the first event's alone", n)
			}
			if n := e.Count(`SELECT count(*) FROM dead_events WHERE reason LIKE '%id: is used by another event'`); n != 1 {
				t.Error("the second is not dead")
			}
		})
	}
}

// awaitStored publishes until the stream's dedup window has passed and it
// takes the message.
func awaitStored(e *steptest.Env, js jetstream.JetStream, m *nats.Msg) {
	e.T.Helper()
	deadline := time.Now().Add(steptest.Bound)
	for {
		ack, err := js.PublishMsg(e.T.Context(), m)
		if err != nil {
			e.T.Fatal(err)
		}
		if !ack.Duplicate {
			return
		}
		if time.Now().After(deadline) {
			e.T.Fatal("still a duplicate")
		}
	}
}

func TestAnEventOfAnOlderDayGetsItsPartition(t *testing.T) {
	t.Parallel()
	e := steptest.New(t)
	e.Endpoint(alice, "https://one.example/")
	ev, err := events.NewAt(time.Now().AddDate(0, 0, -5), alice, events.CardViewed, struct{}{})
	if err != nil {
		t.Fatal(err)
	}
	start(e)
	publish(e, ev.Msg())
	awaitAcked(e, 1)
	if n := e.Count(`SELECT count(*) FROM deliveries WHERE event_id = $1`, ev.ID); n != 1 {
		t.Errorf("%d deliveries, want 1", n)
	}
}

func TestAnEventWith5000MatchesIsOneBatch(t *testing.T) {
	t.Parallel()
	e := steptest.New(t)
	e.Exec(`INSERT INTO endpoints (id, user_id, url, events) SELECT gen_random_uuid(), $1, 'https://x.example/', '{card.viewed}' FROM generate_series(1, 5001)`, alice)
	start(e)
	ev, next := e.Event(alice, struct{}{}), e.Event(alice, struct{}{})
	publish(e, ev.Msg(), next.Msg())
	awaitAcked(e, 2)
	if n := e.Count(`SELECT count(*) FROM deliveries WHERE event_id = $1`, ev.ID); n != 5001 {
		t.Errorf("%d deliveries, want 5001", n)
	}
	if n := len(queued(e)); n != 2*5001 {
		t.Errorf("%d queued, want %d", n, 2*5001)
	}
}

func TestFiltersAndPatternsHoldInFanOut(t *testing.T) {
	t.Parallel()
	e := steptest.New(t)
	all, prefix, exact := e.Endpoint(alice, "https://all.example/", "*"), e.Endpoint(alice, "https://prefix.example/", "card.*"), e.Endpoint(alice, "https://exact.example/")
	other := e.Endpoint(alice, "https://other.example/", "contact.*")
	e.Exec(`UPDATE endpoints SET filter = '{"source":"qr"}' WHERE id = $1`, prefix.ID)
	qr, link := e.Event(alice, map[string]string{"source": "qr"}), e.Event(alice, map[string]string{"source": "link"})
	operational, err := events.New(alice, events.EndpointDisabled, map[string]string{"source": "qr"})
	if err != nil {
		t.Fatal(err)
	}
	start(e)
	publish(e, qr.Msg(), link.Msg(), operational.Msg())
	awaitAcked(e, 3)
	for id, want := range map[uuid.UUID]int{all.ID: 2, prefix.ID: 1, exact.ID: 2, other.ID: 0} {
		if n := e.Count(`SELECT count(*) FROM deliveries WHERE endpoint_id = $1`, id); n != want {
			t.Errorf("endpoint %s: %d deliveries, want %d", id, n, want)
		}
	}
	if n := e.Count(`SELECT count(*) FROM deliveries WHERE endpoint_id = $1 AND event_id = $2`, prefix.ID, qr.ID); n != 1 {
		t.Error("the filter let the wrong event through")
	}
}

// 200 events of a user with 5,000 endpoints: a few go to all of them, the others
// to 25 each. No transaction writes more deliveries than one chunk.
func TestManyEventsFor5000EndpointsGoInChunks(t *testing.T) {
	t.Parallel()
	const (
		endpoints, published, toAll, groups = 5_000, 200, 4, 200
		maxRows                             = 5_000
	)
	e := steptest.New(t)
	e.Exec(`INSERT INTO endpoints (id, user_id, url, events, filter)
		SELECT gen_random_uuid(), $1, 'https://x.example/', '{card.*}', json_build_object('group', json_build_array(-1, n % $2::int))
		FROM generate_series(0, $3::int - 1) AS n`, alice, groups, endpoints)
	var msgs []*nats.Msg
	for i := range published {
		group := i
		if i%(published/toAll) == 0 {
			group = -1
		}
		msgs = append(msgs, e.Event(alice, map[string]int{"group": group}).Msg())
	}
	publish(e, msgs...)
	start(e)
	awaitAcked(e, published)
	want := toAll*endpoints + (published-toAll)*endpoints/groups
	if n := e.Count(`SELECT count(*) FROM deliveries`); n != want {
		t.Errorf("%d deliveries, want %d", n, want)
	}
	if n := e.Count(`SELECT count(*) FROM deliveries d JOIN events v ON v.id = d.event_id JOIN endpoints e ON e.id = d.endpoint_id
		WHERE (convert_from(v.body, 'UTF8')::json -> 'data' ->> 'group')::int NOT IN (-1, (e.filter -> 'group' ->> 1)::int)`); n != 0 {
		t.Errorf("%d deliveries to endpoints whose filter the event does not pass", n)
	}
	if n := e.Count(`SELECT max(n) FROM (SELECT count(*) AS n FROM deliveries GROUP BY xmin::text) AS transactions`); n > maxRows {
		t.Errorf("a transaction wrote %d deliveries, want %d at most", n, maxRows)
	}
	if n := len(queued(e)); n != want {
		t.Errorf("%d queued, want %d", n, want)
	}
}
