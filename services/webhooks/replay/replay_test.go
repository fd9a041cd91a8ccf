package replay

import (
	"errors"
	"testing"
	"time"

	"github.com/google/uuid"
	"golang.org/x/sync/errgroup"

	"github.com/cardwire/cardwire/services/internal/replays"
	"github.com/cardwire/cardwire/sql/db"
)

func TestTheModeSaysWhichPairsGetADelivery(t *testing.T) {
	t.Parallel()
	earlier := uuid.Must(uuid.NewV7())
	for name, tc := range map[string]struct {
		first, replayed              string // status of the deliveries that are there
		whenFailed, whenMissing, all bool
	}{
		"nothing was made":                            {"", "", false, true, true},
		"it was delivered":                            {"success", "", false, false, true},
		"it was given up":                             {"failed", "", true, false, true},
		"it still waits":                              {"pending", "", false, false, true},
		"given up, and delivered by a replay":         {"failed", "success", false, false, true},
		"given up, and given up again by a replay":    {"failed", "failed", true, false, true},
		"given up, and a replay has it waiting":       {"failed", "pending", false, false, true},
		"delivered, and given up by a later replay":   {"success", "failed", false, false, true},
		"never made by fan-out, given up by a replay": {"", "failed", true, false, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := newLab(t)
			endpoint := l.endpoint(alice)
			event := l.events(alice, viewed, *l.ago(time.Hour), 1)[0]
			l.events(alice, saved, *l.ago(time.Hour), 1) // is not asked for
			if tc.first != "" {
				l.delivered(event, endpoint, tc.first, uuid.Nil)
			}
			if tc.replayed != "" {
				l.delivered(event, endpoint, tc.replayed, earlier)
			}
			for mode, want := range map[string]bool{replays.Failed: tc.whenFailed, replays.Missing: tc.whenMissing, replays.All: tc.all} {
				ask := replays.Request{Mode: mode, EndpointID: &endpoint}
				estimate, err := replays.DryRun(t.Context(), db.New(l.DB), l.whole(ask), time.Minute)
				if err != nil {
					t.Fatal(err)
				}
				id := l.ask(ask).ID
				l.finish()
				var made, skipped int64 = 0, 1
				if want {
					made, skipped = 1, 0
				}
				l.expect(id, 2, made, skipped)
				if estimate.Deliveries != made || estimate.Skipped != skipped || estimate.Events != 2 || !estimate.Complete {
					t.Errorf("%s: the dry run said %+v", mode, estimate)
				}
				l.Exec(`DELETE FROM deliveries WHERE replay_id = $1`, id)
			}
		})
	}
}

func TestTheRangeHasItsFirstEventAndTimesEndBeforeTheLast(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	endpoint := l.endpoint(alice)
	start := *l.ago(time.Hour)
	l.events(alice, viewed, start, 10) // sequence numbers 1 to 10, at 0 to 9 ms
	l.endpoint(bob)
	l.events(bob, viewed, start, 10) // 11 to 20
	at := func(ms int) *time.Time {
		t := start.Add(time.Duration(ms) * time.Millisecond)
		return &t
	}
	for _, tc := range []struct {
		name string
		ask  replays.Request
		want int64
	}{
		{"since is in the range, until is not", replays.Request{Since: at(2), Until: at(5), EndpointID: &endpoint}, 3},
		{"a range of one millisecond", replays.Request{Since: at(2), Until: at(3), EndpointID: &endpoint}, 1},
		{"until is now if it is missing", replays.Request{Since: at(2), EndpointID: &endpoint}, 8},
		{"both sequence numbers are in the range", replays.Request{FromSeq: 3, ToSeq: 5, EndpointID: &endpoint}, 3},
		{"a range of one sequence number", replays.Request{FromSeq: 3, ToSeq: 3, EndpointID: &endpoint}, 1},
		{"sequence numbers of somebody else between", replays.Request{FromSeq: 9, ToSeq: 15, EndpointID: &endpoint}, 2},
		{"sequence numbers of all users", replays.Request{FromSeq: 9, ToSeq: 15}, 7},
		{"all users", replays.Request{Since: at(0), Until: at(5)}, 10},
		{"one user", replays.Request{Since: at(0), Until: at(5), UserID: &bob}, 5},
		{"types that are asked for", replays.Request{Since: at(0), Types: []string{viewed}, EndpointID: &endpoint}, 10},
		{"types that are not", replays.Request{Since: at(0), Types: []string{saved}, EndpointID: &endpoint}, 0},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r := l.ask(tc.ask)
			if r.Total == nil || *r.Total != tc.want {
				t.Errorf("a total of %v, want %d", r.Total, tc.want)
			}
			l.finish()
			l.expect(r.ID, tc.want, tc.want, 0)
		})
	}
}

func TestANewEndpointGetsOldEventsOnlyIfItIsNamed(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	old := l.endpoint(alice)
	l.events(alice, viewed, *l.ago(time.Hour), 5)
	fresh := l.Endpoint(alice, "https://new.example/").ID
	disabled := l.endpoint(alice)
	l.Exec(`UPDATE endpoints SET is_active = false, disabled_reason = 'owner' WHERE id = $1`, disabled)
	everyone := l.ask(replays.Request{}).ID
	l.finish()
	if a, b := l.made(everyone, old), l.made(everyone, fresh); a != 5 || b != 0 {
		t.Errorf("a replay to all: %d to the old endpoint and %d to the new one", a, b)
	}
	l.expect(everyone, 5, 5, 0)
	one := l.ask(replays.Request{EndpointID: &fresh, Mode: replays.Missing}).ID
	l.finish()
	l.expect(one, 5, 5, 0)
	if _, err := l.tryAsk(replays.Request{EndpointID: &disabled}); !errors.Is(err, replays.ErrInactive) {
		t.Errorf("to a disabled endpoint: %v", err)
	}
}

// A process can die at any moment: what was committed stays, what was not is as
// if it had never begun, and nothing is made twice.
func TestACrashAtAnyPointDoublesNothing(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	endpoint := l.endpoint(alice)
	const n = 4*maxBatch + 10
	l.events(alice, viewed, *l.ago(time.Hour), n)
	id := l.ask(replays.Request{EndpointID: &endpoint}).ID

	// Dies before the commit.
	tx, err := l.DB.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if done, err := advance(t.Context(), db.New(tx)); err != nil || len(done.batch.Made) != maxBatch {
		t.Fatalf("%+v, %v", done, err)
	}
	if err := tx.Rollback(t.Context()); err != nil {
		t.Fatal(err)
	}
	if r := l.get(id); r.Done != 0 || l.made(id, endpoint) != 0 {
		t.Errorf("after a crash before the commit: %+v", r)
	}
	// Dies after the commit, before it told the broker.
	if tx, err = l.DB.Begin(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := advance(t.Context(), db.New(tx)); err != nil {
		t.Fatal(err)
	}
	if err := tx.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	// The commit is stored, but its answer gets lost.
	sound := l.step.pool
	l.step.pool = lossy{sound}
	if _, err := l.step.Once(t.Context()); !errors.Is(err, errLost) {
		t.Fatalf("a commit without an answer: %v", err)
	}
	l.step.pool = sound
	// Dies after some of the messages were published: a repeat is the broker's.
	if r := l.get(id); r.Done != 2*maxBatch || r.Made != 2*maxBatch {
		t.Errorf("after two batches: %+v", r)
	}
	// Meanwhile what was made is attempted, and given up.
	l.Exec(`UPDATE deliveries SET status = 'failed', reason = 'exhausted', next_attempt_at = NULL
		WHERE id IN (SELECT id FROM deliveries WHERE replay_id = $1 LIMIT 5)`, id)
	l.step = l.replica() // and another process goes on
	l.finish()
	l.expect(id, n, n, 0)
	if pairs := l.Count(`SELECT count(DISTINCT (event_id, endpoint_id)) FROM deliveries`); pairs != n {
		t.Errorf("%d pairs of %d", pairs, n)
	}
	if queued := l.queued(); queued > 2*maxBatch+10 {
		t.Errorf("%d queued, want no more than those that were told of", queued)
	}
	due, err := db.New(l.DB).TakeDueDeliveries(t.Context(), db.TakeDueDeliveriesParams{PublishedBefore: time.Now().Add(time.Minute), MaxRows: 2 * n})
	if err != nil || len(due) != n-5 {
		t.Errorf("the sweeper finds %d, %v", len(due), err)
	}
}

func TestManyReplicasMakeEachDeliveryOnce(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	endpoints := []uuid.UUID{l.endpoint(alice), l.endpoint(bob)}
	const n = 3*maxBatch + 7
	l.events(alice, viewed, *l.ago(time.Hour), n)
	l.events(bob, viewed, *l.ago(time.Hour), n)
	var ids []uuid.UUID
	for i := range endpoints {
		ids = append(ids, l.ask(replays.Request{EndpointID: &endpoints[i]}).ID)
	}
	var g errgroup.Group
	for range 4 {
		r := l.replica()
		g.Go(func() error {
			for {
				done, err := r.Once(t.Context())
				if err != nil {
					return err
				}
				if !done.found && l.Count(`SELECT count(*) FROM replays WHERE finished_at IS NULL`) == 0 {
					return nil
				}
			}
		})
	}
	if err := g.Wait(); err != nil {
		t.Fatal(err)
	}
	for _, id := range ids {
		l.expect(id, n, n, 0)
	}
	if queued := l.queued(); queued > 2*n { // fewer if the broker was slow: the sweeper finds the others
		t.Errorf("%d queued", queued)
	}
}

func TestPauseResumeAndCancel(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	endpoint := l.endpoint(alice)
	l.events(alice, viewed, *l.ago(time.Hour), 3*maxBatch)
	id := l.ask(replays.Request{EndpointID: &endpoint}).ID
	once := func() bool {
		t.Helper()
		done, err := l.step.Once(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return done.found
	}
	to := func(state string) {
		t.Helper()
		r, err := l.set(id, state)
		if err != nil || r.State != state {
			t.Fatalf("%s: %+v, %v", state, r, err)
		}
	}
	if !once() {
		t.Fatal("it does not begin")
	}
	to(replays.Paused)
	to(replays.Paused) // changes nothing
	if once() {
		t.Error("it goes on while it is paused")
	}
	to(replays.Running)
	if !once() {
		t.Error("it does not go on")
	}
	if r := l.get(id); r.Made != 2*maxBatch || r.State != replays.Running {
		t.Errorf("%+v", r)
	}
	to(replays.Cancelled)
	if once() {
		t.Error("it goes on after it was cancelled")
	}
	for _, state := range []string{replays.Running, replays.Paused} {
		var refused *replays.StateError
		if _, err := l.set(id, state); !errors.As(err, &refused) {
			t.Errorf("%s after it was cancelled: %v", state, err)
		}
	}
	if _, err := l.set(uuid.New(), replays.Paused); !errors.Is(err, replays.ErrNotFound) {
		t.Errorf("no such replay: %v", err)
	}
	if n := l.Count(`SELECT count(*) FROM audit_log WHERE user_id = $1 AND endpoint_id = $2 AND actor = 'cli:test'
		AND action IN ('replay.started', 'replay.paused', 'replay.resumed', 'replay.cancelled') AND details->>'replayId' = $3::text`, alice, endpoint, id.String()); n != 4 {
		t.Errorf("%d audit records", n)
	}
	next := l.ask(replays.Request{EndpointID: &endpoint, Mode: replays.Missing}).ID // now that the range is free
	l.finish()
	l.expect(next, 3*maxBatch, maxBatch, 2*maxBatch)
}

func TestTheRateIsKeptByAllReplicasTogether(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	endpoint := l.endpoint(alice)
	l.events(alice, viewed, *l.ago(time.Hour), 1000)
	rate := int32(100)
	id := l.ask(replays.Request{EndpointID: &endpoint, Rate: &rate}).ID
	before := time.Now()
	for range 2 {
		done, err := l.replica().Once(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if done.found && len(done.batch.Made) != 100/batchesPerSecond {
			t.Errorf("a batch of %d", len(done.batch.Made))
		}
	}
	r := l.get(id)
	if n := l.Count(`SELECT count(*) FROM replays WHERE next_at >= $1::timestamptz + make_interval(secs => $2::float8)`, before, float64(r.Made)/float64(rate)-0.3); n != 1 {
		t.Errorf("%d made, and the next batch is due already", r.Made)
	}
	l.Exec(`UPDATE replays SET next_at = now() + interval '1 hour'`)
	if done, err := l.step.Once(t.Context()); err != nil || done.found {
		t.Errorf("within the pause: %+v, %v", done, err)
	}
	if _, err := l.set(id, replays.Paused); err != nil {
		t.Fatal(err)
	}
	if _, err := l.set(id, replays.Running); err != nil {
		t.Fatal(err)
	}
	if done, err := l.step.Once(t.Context()); err != nil || !done.found {
		t.Errorf("what is resumed goes on at once: %+v, %v", done, err)
	}
}

func TestAReplayStopsWithItsEndpoint(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	endpoint := l.endpoint(alice)
	l.events(alice, viewed, *l.ago(time.Hour), 3)
	id := l.ask(replays.Request{EndpointID: &endpoint}).ID
	l.Exec(`UPDATE endpoints SET is_active = false, disabled_reason = 'gone'`)
	l.finish()
	if r := l.get(id); r.State != replays.Paused || r.Reason == nil || *r.Reason != "endpoint_disabled" {
		t.Errorf("disabled: %+v", r)
	}
	if _, err := l.set(id, replays.Running); !errors.Is(err, replays.ErrInactive) {
		t.Errorf("resumed while it is disabled: %v", err)
	}
	l.Exec(`UPDATE endpoints SET is_active = true, disabled_reason = NULL`)
	if r, err := l.set(id, replays.Running); err != nil || r.Reason != nil {
		t.Errorf("enabled: %+v, %v", r, err)
	}
	l.Exec(`UPDATE endpoints SET deleted_at = now()`)
	l.finish()
	if r := l.get(id); r.State != replays.Cancelled || r.Reason == nil || *r.Reason != "endpoint_deleted" || r.Made != 0 {
		t.Errorf("deleted: %+v", r)
	}
}

func TestTwoReplaysOfTheSameAreRefusedAndTheFirstIsNamed(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	one, two, other := l.endpoint(alice), l.endpoint(alice), l.endpoint(bob)
	l.events(alice, viewed, *l.ago(3 * time.Hour), 100)
	first := l.ask(replays.Request{EndpointID: &one, Since: l.ago(4 * time.Hour), Until: l.ago(2 * time.Hour), Types: []string{viewed}}).ID
	for _, tc := range []struct {
		name    string
		ask     replays.Request
		refused bool
	}{
		{"the same", replays.Request{EndpointID: &one, Since: l.ago(4 * time.Hour), Until: l.ago(2 * time.Hour), Types: []string{viewed}}, true},
		{"another mode", replays.Request{EndpointID: &one, Mode: replays.Failed, Since: l.ago(4 * time.Hour), Until: l.ago(2 * time.Hour)}, true},
		{"a range that begins within", replays.Request{EndpointID: &one, Since: l.ago(3 * time.Hour)}, true},
		{"all of the user's endpoints", replays.Request{UserID: &alice, Since: l.ago(3 * time.Hour)}, true},
		{"all endpoints", replays.Request{Since: l.ago(3 * time.Hour)}, true},
		{"sequence numbers of events of the range", replays.Request{FromSeq: 50, ToSeq: 60}, true},
		{"a range that begins where it ends", replays.Request{EndpointID: &one, Since: l.ago(2 * time.Hour)}, false},
		{"another type", replays.Request{EndpointID: &one, Since: l.ago(4 * time.Hour), Until: l.ago(2 * time.Hour), Types: []string{saved}}, false},
		{"another endpoint of the user", replays.Request{EndpointID: &two, Since: l.ago(3 * time.Hour)}, false},
		{"an endpoint of somebody else", replays.Request{EndpointID: &other, Since: l.ago(3 * time.Hour)}, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r, err := l.tryAsk(tc.ask)
			var overlap *replays.OverlapError
			if refused := errors.As(err, &overlap); refused != tc.refused || refused && overlap.ID != first || !refused && err != nil {
				t.Errorf("%v", err)
			}
			if err == nil {
				if _, err := l.set(r.ID, replays.Cancelled); err != nil {
					t.Error(err)
				}
			}
		})
	}
}

func TestOfRequestsAtOnceOneBegins(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	endpoint := l.endpoint(alice)
	errs := make([]error, 8)
	var g errgroup.Group
	for i := range errs {
		g.Go(func() error {
			_, errs[i] = l.tryAsk(replays.Request{EndpointID: &endpoint})
			return nil
		})
	}
	_ = g.Wait()
	started := 0
	for _, err := range errs {
		var overlap *replays.OverlapError
		switch {
		case err == nil:
			started++
		case !errors.As(err, &overlap):
			t.Error(err)
		}
	}
	if n := l.Count(`SELECT count(*) FROM replays`); started != 1 || n != 1 {
		t.Errorf("%d started, %d rows", started, n)
	}
}

func TestTheStepWorksOffWhatIsAskedFor(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	endpoint := l.endpoint(alice)
	l.events(alice, viewed, *l.ago(time.Hour), 50)
	rate := int32(200)
	id := l.ask(replays.Request{EndpointID: &endpoint, Rate: &rate}).ID
	l.Run(l.step)
	l.Await("finished", `SELECT state = 'finished' FROM replays WHERE id = $1`, id)
	l.expect(id, 50, 50, 0)
	if n := l.queued(); n != 50 {
		t.Errorf("%d queued", n)
	}
}

func TestPatternsFiltersAndBodiesThatAreGone(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		types, filter string
		made          int64
	}{
		"a pattern":                   {"{card.*}", "", 4},
		"everything":                  {"{*}", "", 6},
		"a filter that some pass":     {"{*}", `{"n":{"gte":2}}`, 2},
		"a filter that none passes":   {"{*}", `{"n":"x"}`, 0},
		"a filter of a newer version": {"{card.viewed}", `{"n":{"near":2}}`, 4},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := newLab(t)
			endpoint := l.endpoint(alice)
			l.Exec(`UPDATE endpoints SET events = $1, filter = nullif($2, '')::json`, tc.types, tc.filter)
			for i, id := range l.events(alice, viewed, *l.ago(time.Hour), 5) {
				l.Exec(`UPDATE events SET body = convert_to(format('{"data":{"n":%s}}', $2::int), 'UTF8') WHERE id = $1`, id, i)
				if i == 4 {
					l.Exec(`UPDATE events SET body = '' WHERE id = $1`, id)
				}
			}
			l.events(alice, saved, *l.ago(time.Minute), 2)
			id := l.ask(replays.Request{Mode: replays.All, EndpointID: &endpoint}).ID
			l.finish()
			if n := l.Count(`SELECT count(*) FROM deliveries WHERE replay_id = $1`, id); int64(n) != tc.made {
				t.Errorf("%d deliveries, want %d", n, tc.made)
			}
		})
	}
}

func TestAReplayThatFailsDoesNotStandBeforeTheOthers(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	hers, his := l.endpoint(alice), l.endpoint(bob)
	l.events(alice, viewed, *l.ago(time.Hour), 3)
	l.events(bob, viewed, *l.ago(time.Hour), 3)
	broken := l.ask(replays.Request{EndpointID: &hers}).ID
	sound := l.ask(replays.Request{EndpointID: &his}).ID
	l.Exec(`CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'refused'; END $$`)
	l.Exec(`CREATE TRIGGER refuse BEFORE UPDATE OF at ON replays FOR EACH ROW WHEN (OLD.id = '` + broken.String() + `') EXECUTE FUNCTION refuse()`)
	if done, err := l.step.Once(t.Context()); err == nil || done.found {
		t.Fatalf("%+v, %v: the batch was to fail", done, err)
	}
	if done, err := l.step.Once(t.Context()); err != nil || done.replay.ID != sound {
		t.Errorf("%+v, %v: it is the other's turn", done, err)
	}
	l.Exec(`DROP TRIGGER refuse ON replays`)
	l.finish()
	l.expect(broken, 3, 3, 0)
	l.expect(sound, 3, 3, 0)
}
