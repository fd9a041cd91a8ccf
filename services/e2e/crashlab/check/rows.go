package check

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
)

// An Event is a row of events.
type Event struct {
	ID       uuid.UUID
	UserID   uuid.UUID
	Type     string
	BodyHash string // as the journals have it
}

// An Endpoint is a row of endpoints.
type Endpoint struct {
	ID      uuid.UUID
	UserID  uuid.UUID
	Name    uuid.UUID // the last part of its URL: how the journals call it
	Types   []string
	Active  bool
	Deleted bool
}

// A Delivery is a row of deliveries.
type Delivery struct {
	ID         uuid.UUID
	EventID    uuid.UUID
	EndpointID uuid.UUID
	ReplayID   uuid.UUID // uuid.Nil: fan-out made it
	Status     string
	Reason     string
	Created    time.Time
}

// A Replay is a row of replays.
type Replay struct {
	ID    uuid.UUID
	State string
	Made  int // deliveries, as it counts them
}

// An Attempt is a row of attempts.
type Attempt struct {
	DeliveryID uuid.UUID
	N          int
	Started    time.Time
	Finished   time.Time // zero: it has not
	Outcome    string    // empty: it has none
	Class      string    // of the error; empty if the deliverer itself did not say
}

// Rows are what PostgreSQL has.
type Rows struct {
	Events     []Event
	Endpoints  []Endpoint
	Deliveries []Delivery
	Attempts   []Attempt
	Replays    []Replay
	Outbox     int // rows that wait
	Dead       int // messages set aside as no events
}

// ReadRows reads them all, in one snapshot.
func ReadRows(ctx context.Context, conn *pgx.Conn) (r Rows, err error) {
	err = pgx.BeginTxFunc(ctx, conn, pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly}, func(tx pgx.Tx) error {
		r.Events, err = collect(ctx, tx, `SELECT id, user_id, type, body FROM events`, func(row pgx.CollectableRow) (e Event, err error) {
			var body []byte
			err = row.Scan(&e.ID, &e.UserID, &e.Type, &body)
			e.BodyHash = Hash(body)
			return e, err
		})
		if err != nil {
			return err
		}
		r.Endpoints, err = collect(ctx, tx, `SELECT id, user_id, substring(url from '[^/]*$')::uuid, events, is_active, deleted_at IS NOT NULL FROM endpoints`, func(row pgx.CollectableRow) (e Endpoint, err error) {
			return e, row.Scan(&e.ID, &e.UserID, &e.Name, &e.Types, &e.Active, &e.Deleted)
		})
		if err != nil {
			return err
		}
		r.Deliveries, err = collect(ctx, tx, `SELECT id, event_id, endpoint_id, coalesce(replay_id, '00000000-0000-0000-0000-000000000000'), status, coalesce(reason, ''), created_at
			FROM deliveries`, func(row pgx.CollectableRow) (d Delivery, err error) {
			return d, row.Scan(&d.ID, &d.EventID, &d.EndpointID, &d.ReplayID, &d.Status, &d.Reason, &d.Created)
		})
		if err != nil {
			return err
		}
		r.Replays, err = collect(ctx, tx, `SELECT id, state, made FROM replays`, func(row pgx.CollectableRow) (r Replay, err error) {
			return r, row.Scan(&r.ID, &r.State, &r.Made)
		})
		if err != nil {
			return err
		}
		r.Attempts, err = collect(ctx, tx, `SELECT delivery_id, n, started_at, finished_at, coalesce(outcome, ''), coalesce(error_class, '') FROM attempts ORDER BY delivery_id, n`, func(row pgx.CollectableRow) (a Attempt, err error) {
			var finished *time.Time
			err = row.Scan(&a.DeliveryID, &a.N, &a.Started, &finished, &a.Outcome, &a.Class)
			if finished != nil {
				a.Finished = *finished
			}
			return a, err
		})
		if err != nil {
			return err
		}
		return tx.QueryRow(ctx, `SELECT (SELECT count(*) FROM outbox), (SELECT count(*) FROM dead_events)`).Scan(&r.Outbox, &r.Dead)
	})
	if err != nil {
		return Rows{}, fmt.Errorf("read rows to check: %w", err)
	}
	return r, nil
}

func collect[T any](ctx context.Context, tx pgx.Tx, query string, scan pgx.RowToFunc[T]) ([]T, error) {
	rows, err := tx.Query(ctx, query)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, scan)
}

// Hash is how the journals tell bodies apart.
func Hash(body []byte) string {
	sum := sha256.Sum256(body)
	return hex.EncodeToString(sum[:])
}
