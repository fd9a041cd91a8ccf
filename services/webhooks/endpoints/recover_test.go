package endpoints

import (
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
)

// finishedRecovery writes one.
func (s *server) finishedRecovery(t testing.TB, endpointID uuid.UUID) uuid.UUID {
	t.Helper()
	id := uuid.Must(uuid.NewV7())
	if _, err := s.db.Exec(t.Context(), `INSERT INTO recoveries (id, endpoint_id, since, until, at, missing_at, finished_at)
		VALUES ($1, $2, now() - interval '1 hour', now(), $1, $1, now())`, id, endpointID); err != nil {
		t.Fatal(err)
	}
	return id
}

func TestRecover(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	id, other := s.create(t, alice).ID, s.create(t, alice).ID
	s.deliver(t, id, 30) // makes partitions of today and of yesterday
	now := time.Now().UTC().Truncate(time.Second)
	oldest := now.Add(-30 * time.Hour).Truncate(24 * time.Hour).Add(24 * time.Hour) // within what is kept, whatever the time of day
	path := "/api/webhooks/" + id.String() + "/recover"
	for _, tt := range []struct {
		name, body, sentence string
	}{
		{"nothing", `{}`, "since: is required"},
		{"no time", `{"since":"yesterday"}`, "since: must be a time as in RFC 3339"},
		{"a number", `{"since":1}`, "since: must be a string"},
		{"in the future", body1("since", now.Add(time.Hour)), "since: must not be in the future"},
		{"before anything that is kept", body1("since", now.Add(-24*100*time.Hour)), "since: must not be before "},
		{"turned round", `{"since":"` + rfc(now) + `","until":"` + rfc(now.Add(-time.Hour)) + `"}`, "until: must be after since"},
		{"missing is no truth", `{"since":"` + rfc(now) + `","missing":1}`, "missing: must be true or false"},
		{"unknown member", `{"since":"` + rfc(now) + `","types":[]}`, "types: is not known here"},
	} {
		if a := s.call(t, alice, "POST", path, tt.body); a.status != 400 || !strings.HasPrefix(a.sentence(t), tt.sentence) {
			t.Errorf("%s: %d %s, want %s", tt.name, a.status, a.body, tt.sentence)
		}
	}

	a := s.call(t, alice, "POST", path, `{"since":"`+rfc(oldest)+`","until":"`+rfc(now.Add(time.Hour))+`","missing":true}`)
	if a.status != 202 {
		t.Fatalf("%d %s", a.status, a.body)
	}
	first := decode[Recovery](t, a)
	if first.EndpointID != id || !first.Since.Equal(oldest) || first.Until.Before(now) || first.Until.After(time.Now()) || !first.Missing ||
		first.Status != "running" || first.Recovered != 0 || first.FinishedAt != nil {
		t.Errorf("answered %s", a.body)
	}
	one := "/api/webhooks/" + id.String() + "/recoveries/" + first.ID.String()
	if diff := cmp.Diff(first, decode[Recovery](t, s.call(t, alice, "GET", one, nil))); diff != "" {
		t.Error(diff)
	}
	if a := s.call(t, alice, "POST", path, body1("since", oldest)); a.status != 409 || !strings.Contains(a.sentence(t), first.ID.String()) {
		t.Errorf("a second one: %d %s", a.status, a.body)
	}
	if a := s.call(t, alice, "POST", "/api/webhooks/"+other.String()+"/recover", body1("since", oldest)); a.status != 202 {
		t.Errorf("of another endpoint: %d %s", a.status, a.body)
	}
	exec := func(sql string) {
		t.Helper()
		if _, err := s.db.Exec(t.Context(), sql, id); err != nil {
			t.Fatal(err)
		}
	}
	exec(`UPDATE recoveries SET finished_at = now(), recovered = 7 WHERE endpoint_id = $1`)
	if got := decode[Recovery](t, s.call(t, alice, "GET", one, nil)); got.Status != "finished" || got.Recovered != 7 || got.FinishedAt == nil {
		t.Errorf("then %+v", got)
	}
	a = s.call(t, alice, "POST", path, body1("since", oldest))
	if a.status != 202 {
		t.Fatalf("after the first: %d %s", a.status, a.body)
	}
	list := decode[[]Recovery](t, s.call(t, alice, "GET", "/api/webhooks/"+id.String()+"/recoveries", nil))
	if len(list) != 2 || list[0].ID != decode[Recovery](t, a).ID || list[1].ID != first.ID {
		t.Errorf("listed %v, want the newest first", list)
	}
	exec(`UPDATE recoveries SET finished_at = now() WHERE endpoint_id = $1`)
	exec(`UPDATE endpoints SET is_active = false, disabled_reason = 'owner' WHERE id = $1`)
	if a := s.call(t, alice, "POST", path, body1("since", oldest)); a.status != 409 || a.sentence(t) != errInactive.sentence {
		t.Errorf("of a disabled endpoint: %d %s", a.status, a.body)
	}
	var audited int
	if err := s.db.QueryRow(t.Context(), `SELECT count(*) FROM audit_log WHERE action = 'recovery.started' AND endpoint_id = $1`, id).Scan(&audited); err != nil || audited != 2 {
		t.Errorf("audited %d times, %v", audited, err)
	}
}

// Of requests at once one starts a recovery, and the others are told of it.
func TestRecoverByManyAtOnce(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	id := s.create(t, alice).ID
	s.deliver(t, id, 1)
	statuses := make([]int, 8)
	var calls sync.WaitGroup
	for i := range statuses {
		calls.Go(func() {
			statuses[i] = s.call(t, alice, "POST", "/api/webhooks/"+id.String()+"/recover", body1("since", time.Now().UTC().Truncate(24*time.Hour))).status
		})
	}
	calls.Wait()
	slices.Sort(statuses)
	if diff := cmp.Diff([]int{202, 409, 409, 409, 409, 409, 409, 409}, statuses); diff != "" {
		t.Error(diff)
	}
}

func body1(name string, at time.Time) string { return `{"` + name + `":"` + rfc(at) + `"}` }

func rfc(at time.Time) string { return at.Format(time.RFC3339Nano) }
