package endpoints

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"github.com/cardwire/cardwire/services/internal/apikeys"
	"github.com/cardwire/cardwire/services/internal/delivery"
	"github.com/cardwire/cardwire/services/internal/replays"
)

// oldReplay writes one of a range long past, which has not ended.
func (s *server) oldReplay(t testing.TB, user, endpointID uuid.UUID) uuid.UUID {
	t.Helper()
	id, at := uuid.Must(uuid.NewV7()), time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)
	s.exec(t, `INSERT INTO replays (id, actor, endpoint_id, user_id, mode, since, until, rate, start_id, end_id, at, total)
		VALUES ($1, 'user:' || $2::text, $3, $4, 'failed', $5, $6, 500, $7, $8, $7, 100)`,
		id, user.String(), endpointID, user, at, at.Add(time.Hour), delivery.Floor(at), delivery.Floor(at.Add(time.Hour)))
	return id
}

// operator makes an API key and returns what calls the API with it.
func (s *server) operator(t testing.TB, scope apikeys.Scope) (key apikeys.Key, call func(method, path string, body any) answer) {
	t.Helper()
	text, key, err := apikeys.Store{DB: s.db}.Create(t.Context(), "test", []apikeys.Scope{scope}, 0)
	if err != nil {
		t.Fatal(err)
	}
	return key, func(method, path string, body any) answer {
		return s.call(t, uuid.Nil, method, path, body, "Authorization", "Bearer "+text)
	}
}

// fannedOut writes events of alice's of this moment, that were delivered to nobody.
func (s *server) fannedOut(t testing.TB, n int) {
	t.Helper()
	s.exec(t, `INSERT INTO events (id, user_id, type, body, occurred_at, stream_seq)
		SELECT new_id(), $1, 'card.viewed', '{}', now(), i FROM generate_series(1, $2) i`, alice, n)
}

func TestReplayOfAnOwner(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	own, foreign := s.create(t, alice).ID, s.create(t, bob).ID
	s.deliver(t, own, 1)
	today := time.Now().UTC().Truncate(24 * time.Hour)
	s.fannedOut(t, 7)
	ask := func(members string) answer {
		return s.call(t, alice, "POST", "/api/replays", fmt.Sprintf(`{"since":"%s",%s}`, rfc(today), members))
	}
	named := func(id uuid.UUID) string { return `"endpointId":"` + id.String() + `"` }

	dry := ask(named(own) + `,"mode":"missing","dryRun":true`)
	estimate := decode[StartedReplay](t, dry)
	if dry.status != 200 || estimate.Replay != nil || estimate.Estimate == nil || estimate.Estimate.Deliveries < 7 || !estimate.Estimate.Complete {
		t.Errorf("dry run: %d %s", dry.status, dry.body)
	}
	for _, id := range []uuid.UUID{foreign, uuid.New()} {
		if a := ask(named(id)); a.status != 404 || a.sentence(t) != "there is no such endpoint" {
			t.Errorf("to somebody else's: %d %s", a.status, a.body)
		}
	}
	a := ask(named(own) + `,"mode":"missing"`)
	if a.status != 202 {
		t.Fatalf("%d %s", a.status, a.body)
	}
	first := *decode[StartedReplay](t, a).Replay
	if first.Actor != "user:"+alice.String() || *first.EndpointID != own || *first.UserID != alice || first.State != replays.Running ||
		first.Rate != replays.DefaultRate || *first.Total < 7 || first.Mode != replays.Missing {
		t.Errorf("%s", a.body)
	}
	if a := ask(named(own)); a.status != 409 || !strings.Contains(a.sentence(t), first.ID.String()) {
		t.Errorf("a second one: %d %s", a.status, a.body)
	}
	path := "/api/replays/" + first.ID.String()
	for _, step := range []struct {
		change, state string
		status        int
	}{
		{"pause", "paused", 200},
		{"pause", "paused", 200},
		{"resume", "running", 200},
		{"cancel", "cancelled", 200},
		{"cancel", "cancelled", 200},
		{"resume", "", 409},
		{"pause", "", 409},
	} {
		a := s.call(t, alice, "POST", path+"/"+step.change, nil)
		if a.status != step.status {
			t.Errorf("%s: %d %s", step.change, a.status, a.body)
		} else if step.status == http.StatusConflict {
			checkProblem(t, a)
		} else if r := decode[replays.Replay](t, a); r.State != step.state {
			t.Errorf("%s: %+v", step.change, r)
		}
	}
	got := decode[replays.Replay](t, s.call(t, alice, "GET", path, nil))
	if got.State != replays.Cancelled || got.FinishedAt == nil {
		t.Errorf("then %+v", got)
	}
	second := decode[StartedReplay](t, ask(named(own))).Replay
	page := decode[ReplayPage](t, s.call(t, alice, "GET", "/api/replays?limit=1", nil))
	if len(page.Data) != 1 || page.Data[0].ID != second.ID || page.NextCursor == nil {
		t.Fatalf("first page: %+v", page)
	}
	page = decode[ReplayPage](t, s.call(t, alice, "GET", "/api/replays?limit=1&cursor="+*page.NextCursor, nil))
	if diff := cmp.Diff(ReplayPage{Data: []replays.Replay{got}}, page); diff != "" {
		t.Error(diff)
	}
	if page := decode[ReplayPage](t, s.call(t, bob, "GET", "/api/replays", nil)); len(page.Data) != 0 {
		t.Errorf("somebody else sees %+v", page)
	}
	log := decode[AuditPage](t, s.call(t, alice, "GET", "/api/audit-log", nil))
	var actions []string
	for _, r := range log.Data {
		if strings.HasPrefix(r.Action, "replay.") && r.EndpointID == own {
			actions = append(actions, r.Action)
		}
	}
	if diff := cmp.Diff([]string{"replay.started", "replay.cancelled", "replay.resumed", "replay.paused", "replay.started"}, actions); diff != "" {
		t.Error(diff)
	}
	s.exec(t, `UPDATE endpoints SET is_active = false, disabled_reason = 'owner' WHERE id = $1`, own)
	if a := ask(named(own)); a.status != 409 || a.sentence(t) != errInactive.sentence {
		t.Errorf("to a disabled endpoint: %d %s", a.status, a.body)
	}
}

func TestReplayOfAnOperator(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	endpoint := s.create(t, alice).ID
	s.deliver(t, endpoint, 1)
	s.fannedOut(t, 5)
	key, call := s.operator(t, apikeys.Operator)
	today := rfc(time.Now().UTC().Truncate(24 * time.Hour))

	a := call("POST", "/api/replays", `{"since":"`+today+`","mode":"all","rate":0}`)
	if a.status != 202 {
		t.Fatalf("%d %s", a.status, a.body)
	}
	everyone := *decode[StartedReplay](t, a).Replay
	if everyone.Actor != "key:"+key.ID.String() || everyone.EndpointID != nil || everyone.UserID != nil || everyone.Rate != 0 {
		t.Errorf("%s", a.body)
	}
	if a := call("POST", "/api/replays", `{"fromSequence":2,"toSequence":4,"userId":"`+alice.String()+`"}`); a.status != 409 || !strings.Contains(a.sentence(t), everyone.ID.String()) {
		t.Errorf("a second one: %d %s", a.status, a.body)
	}
	// Who is not meant alone does not see it, and can't stop it.
	if a := s.call(t, alice, "POST", "/api/replays/"+everyone.ID.String()+"/cancel", nil); a.status != 404 {
		t.Errorf("an owner cancels what is of everybody: %d %s", a.status, a.body)
	}
	if a := call("POST", "/api/replays/"+everyone.ID.String()+"/cancel", nil); a.status != 200 {
		t.Errorf("cancel: %d %s", a.status, a.body)
	}
	one := *decode[StartedReplay](t, call("POST", "/api/replays", `{"fromSequence":2,"toSequence":4,"endpointId":"`+endpoint.String()+`"}`)).Replay
	if *one.Total != 3 || *one.FromSequence != 2 || *one.ToSequence != 4 || one.Since != nil || *one.UserID != alice {
		t.Errorf("of sequence numbers: %+v", one)
	}
	if a := s.call(t, alice, "POST", "/api/replays/"+one.ID.String()+"/pause", nil); a.status != 200 {
		t.Errorf("an owner pauses what goes to their endpoint: %d %s", a.status, a.body)
	}
	if page := decode[ReplayPage](t, call("GET", "/api/replays", nil)); len(page.Data) != 2 || page.Data[0].ID != one.ID {
		t.Errorf("listed %+v", page)
	}
	for body, sentence := range map[string]string{
		`{"since":"` + today + `","fromSequence":1,"toSequence":2}`: "fromSequence: must not be there with since or until: a range is of times or of sequence numbers",
		`{"fromSequence":3,"toSequence":2}`:                         "toSequence: must not be before fromSequence",
		`{"fromSequence":100,"toSequence":200}`:                     "fromSequence: no event with a sequence number of 100 to 200 is kept",
		`{"toSequence":2}`:                                          "fromSequence: must be at least 1",
		`{"since":"` + today + `","endpointId":"` + endpoint.String() + `","userId":"` + bob.String() + `"}`: "userId: must be the endpoint's owner, if it is there",
	} {
		if a := call("POST", "/api/replays", body); a.status != 400 || a.sentence(t) != sentence {
			t.Errorf("%s: %d %s, want %s", body, a.status, a.body, sentence)
		}
	}
	// Keys are good for what operators may do, and other scopes are not.
	if a := call("GET", "/api/webhooks", nil); a.status != 401 {
		t.Errorf("a key in the place of a user: %d %s", a.status, a.body)
	}
	_, publisher := s.operator(t, apikeys.EventsPublish)
	if a := publisher("GET", "/api/replays", nil); a.status != 403 || a.sentence(t) != "the API key lacks the scope operator" {
		t.Errorf("a publisher's key: %d %s", a.status, a.body)
	}
	if a := s.call(t, uuid.Nil, "GET", "/api/replays", nil, "Authorization", "Bearer cwk_"+strings.Repeat("A", 26)); a.status != 401 || a.header.Get("WWW-Authenticate") != "Bearer" {
		t.Errorf("an invented key: %d %s", a.status, a.body)
	}
	s.exec(t, `ALTER TABLE api_keys RENAME TO gone`)
	if a := s.call(t, uuid.Nil, "GET", "/api/replays", nil, "Authorization", "Bearer cwk_"+strings.Repeat("B", 26)); a.status != 503 || a.header.Get("Retry-After") == "" {
		t.Errorf("while keys can't be looked up: %d %s", a.status, a.body)
	}
}
