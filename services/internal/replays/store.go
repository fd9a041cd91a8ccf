package replays

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/cardwire/cardwire/sql/db"
)

// countTimeout bounds counting the events of a range, and with it how long a
// replay takes to begin: a second is some two million events. Without a total
// there is still progress, by time.
const countTimeout = time.Second

// Start begins a replay in the caller's transaction, or returns an
// *InvalidError, an *OverlapError, ErrNoEndpoint, ErrInactive, or a fault of the database.
// However many ask at once, no two unfinished replays may deliver the same event
// to the same endpoint; a constraint can't say that, so they queue for a lock.
func Start(ctx context.Context, tx pgx.Tx, r Request) (Replay, error) {
	q := db.New(tx)
	row, err := r.resolve(ctx, q, time.Now())
	if err != nil {
		return Replay{}, err
	}
	if row.Total, err = count(ctx, tx, row); err != nil {
		return Replay{}, err
	}
	if err := q.LockReplays(ctx); err != nil {
		return Replay{}, fmt.Errorf("lock: %w", err)
	}
	other, err := q.OverlappingReplay(ctx, db.OverlappingReplayParams{
		EndpointID: row.EndpointID, UserID: row.UserID, Types: row.Types, StartID: row.StartID, EndID: row.EndID, FromSeq: row.FromSeq, ToSeq: row.ToSeq,
	})
	switch {
	case err == nil:
		return Replay{}, &OverlapError{other}
	case !errors.Is(err, pgx.ErrNoRows):
		return Replay{}, fmt.Errorf("look for an unfinished one: %w", err)
	}
	if row.ID, err = uuid.NewV7(); err != nil {
		return Replay{}, fmt.Errorf("make id: %w", err)
	}
	row, err = q.InsertReplay(ctx, db.InsertReplayParams{
		ID: row.ID, Actor: row.Actor, EndpointID: row.EndpointID, UserID: row.UserID, Mode: row.Mode, Types: row.Types,
		Since: row.Since, Until: row.Until, FromSeq: row.FromSeq, ToSeq: row.ToSeq, Rate: row.Rate,
		StartID: row.StartID, EndID: row.EndID, At: row.At, Total: row.Total,
	})
	if err != nil {
		return Replay{}, fmt.Errorf("insert: %w", err)
	}
	return shown(row), audit(ctx, q, row, r.Actor, "started")
}

// count counts the events of a replay; nil means that they are too many to
// count in countTimeout.
func count(ctx context.Context, tx pgx.Tx, row db.Replay) (total *int64, err error) {
	err = pgx.BeginFunc(ctx, tx, func(tx pgx.Tx) error { // a savepoint
		if _, err := tx.Exec(ctx, fmt.Sprintf("SET LOCAL statement_timeout = %d", countTimeout.Milliseconds())); err != nil {
			return err
		}
		from, to := sequences(row)
		n, err := db.New(tx).CountReplayEvents(ctx, db.CountReplayEventsParams{
			After: row.At, Before: row.EndID, UserID: row.UserID, Types: row.Types, FromSeq: from, ToSeq: to,
		})
		if err != nil {
			return err
		}
		total = &n
		_, err = tx.Exec(ctx, "SET LOCAL statement_timeout = DEFAULT")
		return err
	})
	var pg *pgconn.PgError
	if errors.As(err, &pg) && pg.Code == "57014" { // query_canceled
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("count events: %w", err)
	}
	return total, nil
}

// A Store is where replays are kept: the table replays.
type Store struct{ DB *pgxpool.Pool }

// Get returns a replay, or ErrNotFound. owner is whose it must be; nil: anybody's.
func (s Store) Get(ctx context.Context, owner *uuid.UUID, id uuid.UUID) (Replay, error) {
	row, err := db.New(s.DB).Replay(ctx, id)
	if err := found(row, owner, err); err != nil {
		return Replay{}, fmt.Errorf("get replay %v: %w", id, err)
	}
	return shown(row), nil
}

// found is ErrNotFound if a row is not there or not the owner's. What an operator
// replays to all of a user's endpoints is that user's to see, and to pause.
func found(row db.Replay, owner *uuid.UUID, err error) error {
	if errors.Is(err, pgx.ErrNoRows) || err == nil && owner != nil && (row.UserID == nil || *row.UserID != *owner) {
		return ErrNotFound
	}
	return err
}

// List returns the newest replays before an id (uuid.Max for all), of an owner or of all.
func (s Store) List(ctx context.Context, owner *uuid.UUID, before uuid.UUID, limit int) ([]Replay, error) {
	rows, err := db.New(s.DB).ListReplays(ctx, db.ListReplaysParams{UserID: owner, Before: before, MaxRows: int32(limit)})
	if err != nil {
		return nil, fmt.Errorf("list replays: %w", err)
	}
	list := make([]Replay, len(rows))
	for i, row := range rows {
		list[i] = shown(row)
	}
	return list, nil
}

// A StateError is a change that the state of a replay does not allow.
type StateError struct{ State, Wanted string }

func (e *StateError) Error() string {
	return fmt.Sprintf("the replay is %s and can't be %s", e.State, map[string]string{Running: "resumed", Paused: "paused", Cancelled: "cancelled"}[e.Wanted])
}

// SetState pauses (Paused), resumes (Running) or cancels (Cancelled) a replay, in
// the caller's transaction. What is so already stays. Errors are ErrNotFound, a
// *StateError, ErrInactive if it is to go on to an endpoint that is disabled, or
// the database's. A batch that is being made is waited for.
func SetState(ctx context.Context, tx pgx.Tx, owner *uuid.UUID, id uuid.UUID, state, actor string) (Replay, error) {
	q := db.New(tx)
	row, err := q.HoldReplay(ctx, id)
	if err := found(row, owner, err); err != nil {
		return Replay{}, fmt.Errorf("hold replay %v: %w", id, err)
	}
	switch {
	case row.State == state:
		return shown(row), nil
	case row.State == Finished || row.State == Cancelled:
		return Replay{}, &StateError{row.State, state}
	case state == Running && row.EndpointID != nil:
		e, err := q.ReplayEndpoint(ctx, *row.EndpointID)
		if err != nil {
			return Replay{}, fmt.Errorf("look up endpoint %v: %w", *row.EndpointID, err)
		}
		if !e.IsActive {
			return Replay{}, ErrInactive
		}
	}
	row, err = q.SetReplayState(ctx, db.SetReplayStateParams{ID: id, State: state})
	if err != nil {
		return Replay{}, fmt.Errorf("set state of replay %v: %w", id, err)
	}
	action := map[string]string{Running: "resumed", Paused: "paused", Cancelled: "cancelled"}[state]
	return shown(row), audit(ctx, q, row, actor, action)
}

// audit records what was done to a replay. Of one of everybody's events there is
// no user and no endpoint: these are zero then.
func audit(ctx context.Context, q *db.Queries, row db.Replay, actor, action string) error {
	details, err := json.Marshal(map[string]any{
		"replayId": row.ID, "mode": row.Mode, "types": row.Types, "since": row.Since, "until": row.Until,
		"fromSequence": row.FromSeq, "toSequence": row.ToSeq, "rate": row.Rate,
	})
	if err != nil {
		return fmt.Errorf("audit: %w", err)
	}
	p := db.RecordAuditParams{Actor: actor, Action: "replay." + action, Details: details}
	if row.UserID != nil {
		p.UserID = *row.UserID
	}
	if row.EndpointID != nil {
		p.EndpointID = *row.EndpointID
	}
	if err := q.RecordAudit(ctx, p); err != nil {
		return fmt.Errorf("audit: %w", err)
	}
	return nil
}
