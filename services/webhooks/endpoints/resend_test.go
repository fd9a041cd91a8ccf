package endpoints

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"github.com/cardwire/cardwire/events"
	"github.com/cardwire/cardwire/events/streams"
	"github.com/cardwire/cardwire/services/internal/delivery"
	"github.com/cardwire/cardwire/services/internal/steptest"
	"github.com/cardwire/cardwire/services/webhooks/fanout"
	"github.com/cardwire/cardwire/sql/db"
)

// again lists what is queued, all of it on the lane again, oldest first.
func again(e *steptest.Env) (list []delivery.Delivery) {
	e.T.Helper()
	s, err := e.Deps("operator").JS.Stream(e.T.Context(), streams.Deliveries)
	if err != nil {
		e.T.Fatal(err)
	}
	state := s.CachedInfo().State
	for seq := state.FirstSeq; seq <= state.LastSeq && state.Msgs > 0; seq++ {
		m, err := s.GetMsg(e.T.Context(), seq)
		if err != nil {
			e.T.Fatal(err)
		}
		d, err := delivery.Decode(m.Data)
		if err != nil || m.Subject != streams.AgainSubject(d.EndpointID) {
			e.T.Errorf("%s on %s: %v", m.Data, m.Subject, err)
		}
		list = append(list, d)
	}
	return list
}

func ensureDeliveries(e *steptest.Env) {
	e.T.Helper()
	if _, err := streams.EnsureStream(e.T.Context(), e.Deps("operator").JS, e.Streams.DeliveriesStream()); err != nil {
		e.T.Fatal(err)
	}
}

func TestResend(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name, set string
		status    int
		sentence  string
		failures  int // then
	}{
		{"what failed is pending again, as if never attempted", `status = 'failed', reason = 'exhausted', attempts = 4, failures = 4, next_attempt_at = NULL, exhausted_at = now(), response_code = 500, error_message = 'x'`, 202, "", 0},
		{"what was delivered too", `status = 'success', delivered_at = now(), attempts = 2, failures = 1, next_attempt_at = NULL, response_code = 200`, 202, "", 0},
		{"what waits for its time is due, and its schedule goes on", `attempts = 2, failures = 2, next_attempt_at = now() + interval '1 day'`, 202, "", 2},
		{"what waits for its endpoint is due", `waits_for = 'circuit_open', next_attempt_at = '9999-01-01Z'`, 202, "", 0},
		{"an attempt is in flight", `attempts = 1, leased_until = now() + interval '1 minute'`, 409, "an attempt of the delivery is in flight: try again when it has ended", 0},
		{"an attempt was in flight and nobody knows what came of it", `attempts = 1, leased_until = now() - interval '1 minute'`, 409, "an attempt of the delivery is in flight: try again when it has ended", 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s, e := newServerWithBroker(t)
			ensureDeliveries(e)
			id := s.create(t, alice).ID
			d, other := s.deliver(t, id, 2)[1], s.deliver(t, id, 1)[0]
			e.Exec(`UPDATE deliveries SET `+tt.set+` WHERE id IN ($1, $2)`, d.ID, other.ID)
			a := s.call(t, alice, "POST", "/api/webhooks/"+id.String()+"/deliveries/"+d.ID.String()+"/resend", nil)
			if a.status != tt.status {
				t.Fatalf("%d %s", a.status, a.body)
			}
			changed := e.Count(`SELECT count(*) FROM deliveries WHERE trigger = 'resend'`)
			audited := e.Count(`SELECT count(*) FROM audit_log WHERE action = 'delivery.resent' AND endpoint_id = $1 AND user_id = $2 AND details->>'deliveryId' = $3`, id, alice, d.ID.String())
			if tt.status != 202 {
				if got := a.sentence(t); got != tt.sentence || changed+audited+len(again(e)) > 0 {
					t.Errorf("%s; %d changed, %d audited", got, changed, audited)
				}
				return
			}
			shown := decode[Delivery](t, a)
			if shown.ID != d.ID || shown.Status != "pending" || shown.Trigger != "resend" || shown.Reason != nil || shown.WaitsFor != nil || shown.DeliveredAt != nil {
				t.Errorf("answered %s", a.body)
			}
			due := e.Count(`SELECT count(*) FROM deliveries WHERE id = $1 AND next_attempt_at <= now() AND failures = $2 AND waits_for IS NULL
				AND attempts_before = attempts - failures AND (exhausted_at IS NOT NULL) = (failures = 0 AND attempts = 4)`, d.ID, tt.failures)
			if due != 1 || changed != 1 || audited != 1 {
				t.Errorf("%d due, %d changed, %d audited, want one each", due, changed, audited)
			}
			if diff := cmp.Diff([]delivery.Delivery{{ID: d.ID, EventID: d.event.ID, EndpointID: id, Probe: true}}, again(e)); diff != "" {
				t.Errorf("published: %s", diff)
			}
		})
	}
}

func TestResendIsRefusedForWhatCanNotBeSent(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	id := s.create(t, alice).ID
	d := s.deliver(t, id, 1)[0]
	path := "/api/webhooks/" + id.String() + "/deliveries/" + d.ID.String() + "/resend"
	for _, step := range []struct{ name, set, sentence string }{
		{"disabled", `UPDATE endpoints SET is_active = false, disabled_reason = 'owner'`, errInactive.sentence},
		{"no body", `UPDATE endpoints SET is_active = true, disabled_reason = NULL; UPDATE events SET body = ''`, errEventGone.sentence},
		{"no event", `UPDATE endpoints SET is_active = true, disabled_reason = NULL; DELETE FROM events`, errEventGone.sentence},
	} {
		if _, err := s.db.Exec(t.Context(), step.set); err != nil {
			t.Fatal(err)
		}
		if a := s.call(t, alice, "POST", path, nil); a.status != 409 || a.sentence(t) != step.sentence {
			t.Errorf("%s: %d %s", step.name, a.status, a.body)
		}
	}
}

// Resent while the broker is away, it is what the sweeper looks for, although the
// sweeper has published it before.
func TestWhatWasResentWithoutABrokerIsSwept(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	id := s.create(t, alice).ID
	d := s.deliver(t, id, 1)[0]
	if _, err := s.db.Exec(t.Context(), `UPDATE deliveries SET status = 'failed', reason = 'exhausted', next_attempt_at = NULL, swept_at = now()`); err != nil {
		t.Fatal(err)
	}
	if a := s.call(t, alice, "POST", "/api/webhooks/"+id.String()+"/deliveries/"+d.ID.String()+"/resend", nil); a.status != 202 {
		t.Fatalf("%d %s", a.status, a.body)
	}
	due, err := db.New(s.db).TakeDueDeliveries(t.Context(), db.TakeDueDeliveriesParams{PublishedBefore: time.Now().Add(time.Minute), MaxRows: 10})
	if err != nil || len(due) != 1 || due[0].ID != d.ID {
		t.Errorf("swept %v, %v", due, err)
	}
}

// However often a delivery is resent, only what was cut off since counts against it.
func TestAResentDeliveryIsClaimedHoweverManyAttemptsItHad(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	id := s.create(t, alice).ID
	d := s.deliver(t, id, 1)[0]
	if _, err := s.db.Exec(t.Context(), `UPDATE deliveries SET status = 'failed', reason = 'exhausted', attempts = 40, failures = 4, next_attempt_at = NULL`); err != nil {
		t.Fatal(err)
	}
	if a := s.call(t, alice, "POST", "/api/webhooks/"+id.String()+"/deliveries/"+d.ID.String()+"/resend", nil); a.status != 202 {
		t.Fatalf("%d %s", a.status, a.body)
	}
	claimed, err := db.New(s.db).ClaimDeliveries(t.Context(), db.ClaimDeliveriesParams{
		Ids: []uuid.UUID{d.ID}, Low: d.ID, High: d.ID, Lease: 60, MaxInterruptions: 10,
	})
	if err != nil || len(claimed) != 1 || claimed[0].N != 41 || claimed[0].Failures != 0 {
		t.Errorf("claimed %v, %v", claimed, err)
	}
}

func TestATestEventGoesToItsEndpointAlone(t *testing.T) {
	t.Parallel()
	s, e := newServerWithBroker(t)
	tested, other := s.create(t, alice).ID, s.create(t, alice).ID
	e.Exec(`UPDATE endpoints SET events = '{webhook.test}' WHERE id = $1`, other)
	fan, err := fanout.New(fanout.Config{Retention: 24 * time.Hour, FanoutBatch: 100}, e.Deps("webhooks"))
	if err != nil {
		t.Fatal(err)
	}
	e.Run(fan)
	e.Run(s.API)

	a := s.call(t, alice, "POST", "/api/webhooks/"+tested.String()+"/test", nil)
	if a.status != 202 {
		t.Fatalf("%d %s", a.status, a.body)
	}
	sent := decode[TestSent](t, a)
	e.Await("its delivery", `SELECT EXISTS (SELECT FROM deliveries WHERE id = $1 AND event_id = $2 AND endpoint_id = $3 AND event_type = $4 AND trigger = 'test' AND status = 'pending')`,
		sent.DeliveryID, sent.EventID, tested, events.Test)
	if n := e.Count(`SELECT count(*) FROM deliveries`); n != 1 {
		t.Errorf("%d deliveries, want the one", n)
	}
	shown := decode[DeliveryWithAttempts](t, s.call(t, alice, "GET", "/api/webhooks/"+tested.String()+"/deliveries/"+sent.DeliveryID.String(), nil))
	var body struct {
		Type string
		Data struct {
			EndpointID uuid.UUID
			Message    string
		}
	}
	if err := json.Unmarshal(shown.Payload.RawMessage, &body); err != nil || body.Type != events.Test || body.Data.EndpointID != tested || body.Data.Message == "" {
		t.Errorf("payload %s", shown.Payload.RawMessage)
	}
	if n := e.Count(`SELECT count(*) FROM audit_log WHERE action = 'endpoint.tested' AND endpoint_id = $1`, tested); n != 1 {
		t.Errorf("audited %d times", n)
	}

	e.Exec(`UPDATE endpoints SET is_active = false, disabled_reason = 'owner' WHERE id = $1`, tested)
	if a := s.call(t, alice, "POST", "/api/webhooks/"+tested.String()+"/test", nil); a.status != 409 || a.sentence(t) != errInactive.sentence {
		t.Errorf("of a disabled endpoint: %d %s", a.status, a.body)
	}
}
