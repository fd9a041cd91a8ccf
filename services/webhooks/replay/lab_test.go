package replay

import (
	"context"
	"crypto/rand"
	"errors"
	"os"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/cardwire/cardwire/events"
	"github.com/cardwire/cardwire/events/streams"
	"github.com/cardwire/cardwire/services/internal/delivery"
	"github.com/cardwire/cardwire/services/internal/replays"
	"github.com/cardwire/cardwire/services/internal/steptest"
	"github.com/cardwire/cardwire/sql/db"
	"github.com/cardwire/cardwire/sql/pgtest"
)

func TestMain(m *testing.M) { os.Exit(pgtest.Main(m)) }

var (
	alice = uuid.MustParse("00000000-0000-7000-8000-000000000001")
	bob   = uuid.MustParse("00000000-0000-7000-8000-000000000002")
)

// A lab has events of the last two days, and endpoints that are older than they.
type lab struct {
	*steptest.Env
	step *Replayer
	now  time.Time
	seq  int64
}

func newLab(t *testing.T) *lab {
	t.Helper()
	e := steptest.New(t)
	if _, err := streams.EnsureStream(t.Context(), e.Deps("operator").JS, e.Streams.DeliveriesStream()); err != nil {
		t.Fatal(err)
	}
	l := &lab{Env: e, now: time.Now().UTC().Truncate(time.Second)}
	l.step = l.replica()
	if _, err := db.New(e.DB).EnsurePartitions(t.Context(), db.EnsurePartitionsParams{FromDay: l.now.AddDate(0, 0, -2), ToDay: l.now}); err != nil {
		t.Fatal(err)
	}
	return l
}

// replica is one more process of the step.
func (l *lab) replica() *Replayer {
	l.T.Helper()
	r, err := New(Config{}, l.Deps("webhooks"))
	if err != nil {
		l.T.Fatal(err)
	}
	return r
}

// endpoint is one of a user, made three days ago.
func (l *lab) endpoint(user uuid.UUID, types ...string) uuid.UUID {
	l.T.Helper()
	id := l.Endpoint(user, "https://one.example/", types...).ID
	l.Exec(`UPDATE endpoints SET created_at = $2 WHERE id = $1`, id, l.now.AddDate(0, 0, -3))
	return id
}

// ago is a time.
func (l *lab) ago(d time.Duration) *time.Time {
	at := l.now.Add(-d)
	return &at
}

// events writes n events of a user, a millisecond apart from a time on, that were
// fanned out. Their sequence numbers go on from those before.
func (l *lab) events(user uuid.UUID, eventType string, at time.Time, n int) []uuid.UUID {
	l.T.Helper()
	var p db.StoreEventsParams
	for i := range n {
		when := at.Add(time.Duration(i) * time.Millisecond)
		id := delivery.Floor(when)
		if _, err := rand.Read(id[6:]); err != nil {
			l.T.Fatal(err)
		}
		id[6], id[8] = id[6]&0x0f|0x70, id[8]&0x3f|0x80
		l.seq++
		p.Ids, p.UserIds, p.Types = append(p.Ids, id), append(p.UserIds, user), append(p.Types, eventType)
		p.Bodies, p.OccurredAts, p.StreamSeqs = append(p.Bodies, []byte(`{}`)), append(p.OccurredAts, when), append(p.StreamSeqs, l.seq)
	}
	if _, err := db.New(l.DB).StoreEvents(l.T.Context(), p); err != nil {
		l.T.Fatal(err)
	}
	return p.Ids
}

// delivered writes a delivery with a status, of a replay or of fan-out (uuid.Nil).
func (l *lab) delivered(event, endpoint uuid.UUID, status string, replay uuid.UUID) {
	l.T.Helper()
	id, trigger := delivery.ID(event, endpoint), delivery.TriggerEvent
	var replayID *uuid.UUID
	if replay != uuid.Nil {
		id, trigger, replayID = delivery.ReplayID(event, endpoint, replay), delivery.TriggerReplay, &replay
	}
	l.Exec(`INSERT INTO deliveries (id, event_id, endpoint_id, event_type, status, reason, next_attempt_at, delivered_at, trigger, replay_id)
		VALUES ($1, $2, $3, 'card.viewed', $4, CASE WHEN $4 = 'failed' THEN 'exhausted' END, CASE WHEN $4 = 'pending' THEN now() + interval '1 hour' END,
		        CASE WHEN $4 = 'success' THEN now() END, $5, $6)`, id, event, endpoint, status, trigger, replayID)
}

// ask begins a replay; what a request leaves open is as an operator has it.
func (l *lab) ask(r replays.Request) replays.Replay {
	l.T.Helper()
	started, err := l.tryAsk(r)
	if err != nil {
		l.T.Fatal(err)
	}
	return started
}

func (l *lab) tryAsk(r replays.Request) (started replays.Replay, err error) {
	err = pgx.BeginFunc(l.T.Context(), l.DB, func(tx pgx.Tx) error {
		started, err = replays.Start(l.T.Context(), tx, l.whole(r))
		return err
	})
	return started, err
}

// whole fills in a request.
func (l *lab) whole(r replays.Request) replays.Request {
	if r.Actor == "" {
		r.Actor = "cli:test"
	}
	if r.Mode == "" {
		r.Mode = replays.All
	}
	if r.Since == nil && r.FromSeq == 0 {
		r.Since = l.ago(24 * time.Hour)
	}
	if r.Rate == nil {
		unlimited := int32(0)
		r.Rate = &unlimited
	}
	return r
}

// finish works until no replay is to go on, without the pauses of their rates.
func (l *lab) finish() (batches int) {
	l.T.Helper()
	for {
		l.Exec(`UPDATE replays SET next_at = now() - interval '1 hour'`)
		done, err := l.step.Once(l.T.Context())
		if err != nil {
			l.T.Fatal(err)
		}
		if !done.found {
			return batches
		}
		batches++
	}
}

func (l *lab) get(id uuid.UUID) replays.Replay {
	l.T.Helper()
	r, err := replays.Store{DB: l.DB}.Get(l.T.Context(), nil, id)
	if err != nil {
		l.T.Fatal(err)
	}
	return r
}

func (l *lab) set(id uuid.UUID, state string) (r replays.Replay, err error) {
	err = pgx.BeginFunc(l.T.Context(), l.DB, func(tx pgx.Tx) error {
		r, err = replays.SetState(l.T.Context(), tx, nil, id, state, "cli:test")
		return err
	})
	return r, err
}

// made counts the deliveries of a replay, by their endpoint.
func (l *lab) made(replay, endpoint uuid.UUID) int {
	l.T.Helper()
	return l.Count(`SELECT count(*) FROM deliveries WHERE replay_id = $1 AND endpoint_id = $2 AND trigger = 'replay'`, replay, endpoint)
}

// queued counts messages of the lane again.
func (l *lab) queued() int {
	l.T.Helper()
	s, err := l.Deps("operator").JS.Stream(l.T.Context(), streams.Deliveries)
	if err != nil {
		l.T.Fatal(err)
	}
	return int(s.CachedInfo().State.Msgs)
}

// expect checks the counts of a replay that has finished.
func (l *lab) expect(id uuid.UUID, done, made, skipped int64) {
	l.T.Helper()
	r := l.get(id)
	if r.State != replays.Finished || r.Done != done || r.Made != made || r.Skipped != skipped || r.FinishedAt == nil || r.Progress != 1 {
		l.T.Errorf("%s: done %d, made %d, skipped %d; want %d, %d, %d: %+v", r.State, r.Done, r.Made, r.Skipped, done, made, skipped, r)
	}
	if n := l.Count(`SELECT count(*) FROM deliveries WHERE replay_id = $1`, id); int64(n) != made {
		l.T.Errorf("%d deliveries, want %d", n, made)
	}
}

// errLost is what a commit returns whose answer got lost.
var errLost = errors.New("connection lost")

// A lossy database stores what is committed, and says that it failed.
type lossy struct{ database }

type lossyTx struct{ pgx.Tx }

func (l lossy) Begin(ctx context.Context) (pgx.Tx, error) {
	tx, err := l.database.Begin(ctx)
	return lossyTx{tx}, err
}

func (tx lossyTx) Commit(ctx context.Context) error {
	if err := tx.Tx.Commit(ctx); err != nil {
		return err
	}
	return errLost
}

const viewed, saved = events.CardViewed, events.ContactSaved
