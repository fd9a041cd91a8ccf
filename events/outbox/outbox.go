// Package outbox publishes events that were written to PostgreSQL first: in the
// transaction of the change they tell of, or because the broker was away.
//
// An event is accepted once its row is committed. A [Relay] publishes the rows
// and deletes them; it may publish one twice after a crash, under the same id,
// which the stream and fan-out drop. Any number of relays may run.
//
// Order: one relay publishes rows in the order in which their transactions
// began, so a user's events usually keep theirs. Two relays that are busy at
// once may overtake each other, and so may an event whose publish failed: order
// is usual, not promised.
package outbox

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/nats-io/nats.go"

	"github.com/cardwire/cardwire/events"
	"github.com/cardwire/cardwire/events/outbox/internal/outboxdb"
)

// Numbers of the relay.
const (
	// relayBatch is how many rows one relay locks at once.
	relayBatch = 200
	// relayPoll is how often an idle relay looks; ±20 %, so that replicas don't
	// look in step. Nudge does not wait for it.
	relayPoll = time.Second
	// relayTimeout bounds one batch, and with it how long rows stay locked.
	relayTimeout = 10 * time.Second
	// maxPause bounds the pause while the database is away or the stream takes
	// nothing, as while its leader is elected. A broker that is back is noticed at once.
	maxPause = 2 * time.Second
)

// DB is a transaction or a pool of pgx.
type DB = outboxdb.DBTX

// Write writes the event in db's transaction. A repeat of its id changes
// nothing. The error is an [*events.InvalidError] or the database's.
func Write(ctx context.Context, db DB, e events.Event) error {
	if err := e.Validate(); err != nil {
		return err
	}
	attributes, err := attributesOf(e)
	if err != nil {
		return fmt.Errorf("write event %s to outbox: %w", e.ID, err)
	}
	err = outboxdb.New(db).InsertEvent(ctx, outboxdb.InsertEventParams{
		ID: e.ID, UserID: e.UserID, Type: e.Type, Body: e.Body, Attributes: attributes,
	})
	if err != nil {
		return fmt.Errorf("write event %s to outbox: %w", e.ID, err)
	}
	return nil
}

// traceKey is where the attributes of a row hold the event's trace: no
// attribute can have the name.
const traceKey = ":trace"

// attributesOf is what the row keeps beside id, user, type and body: nil for nothing.
func attributesOf(e events.Event) ([]byte, error) {
	attributes := maps.Clone(e.Attributes)
	if e.Trace != "" {
		if attributes == nil {
			attributes = make(map[string]string, 1)
		}
		attributes[traceKey] = e.Trace
	}
	if len(attributes) == 0 {
		return nil, nil
	}
	return json.Marshal(attributes)
}

// A Relay moves events from the outbox to the stream.
type Relay struct {
	pool  *pgxpool.Pool
	pub   *events.Publisher
	nudge chan struct{}
}

// NewRelay makes a relay from the outbox in pool's database to p.
func NewRelay(pool *pgxpool.Pool, p *events.Publisher) *Relay {
	return &Relay{pool: pool, pub: p, nudge: make(chan struct{}, 1)}
}

// Nudge has the relay look at once. It never blocks. Call it after the commit.
func (r *Relay) Nudge() {
	select {
	case r.nudge <- struct{}{}:
	default: // it is about to look anyway
	}
}

// Run relays until ctx ends, and returns nil then. onError hears of each batch
// that did not go through; it is tried again.
func (r *Relay) Run(ctx context.Context, onError func(error)) error {
	connected := r.pub.Conn().StatusChanged(nats.CONNECTED)
	defer r.pub.Conn().RemoveStatusListener(connected)
	failures := 0
	for {
		n, err := r.Once(ctx)
		switch {
		case ctx.Err() != nil:
			return nil
		case err != nil:
			failures++
			onError(err)
		default:
			failures = 0
		}
		if n == relayBatch && err == nil {
			continue // there is more
		}
		pause := time.Duration(float64(relayPoll) * (0.8 + 0.4*rand.Float64()))
		nudge := r.nudge
		if failures > 0 {
			pause = min(pause<<min(failures, 5), maxPause)
			nudge = nil // a burst of nudges must not beat on what is away
		}
		t := time.NewTimer(pause)
		select {
		case <-ctx.Done():
		case <-t.C:
		case <-nudge:
		case <-connected:
			failures = 0
		}
		t.Stop()
	}
}

// Once relays one batch, oldest first, and returns how many events it published
// or set aside. A row that is no valid event is set aside with the reason in
// its column refused. If some were not accepted the error says so, and they stay.
func (r *Relay) Once(ctx context.Context) (n int, err error) {
	ctx, cancel := context.WithTimeout(ctx, relayTimeout)
	defer cancel()
	var failed error // of events that were not accepted: the others are deleted all the same
	err = pgx.BeginFunc(ctx, r.pool, func(tx pgx.Tx) error {
		q := outboxdb.New(tx)
		rows, err := q.TakeWaiting(ctx, relayBatch)
		if err != nil {
			return fmt.Errorf("read outbox: %w", err)
		}
		batch := make([]events.Event, len(rows))
		for i, row := range rows {
			batch[i] = event(row)
		}
		// Half of the time is for the broker; the rest for deleting what it took.
		pubCtx, cancel := context.WithTimeout(ctx, relayTimeout/2)
		defer cancel()
		errs, _ := r.pub.PublishBatch(pubCtx, batch)
		if len(batch) > 0 {
			failpoint("relay published")
		}
		var published []uuid.UUID
		for i, e := range batch {
			switch {
			case errs[i] == nil:
				published = append(published, e.ID)
			case errors.Is(errs[i], events.ErrInvalid):
				if err := q.MarkRefused(ctx, outboxdb.MarkRefusedParams{ID: e.ID, Reason: errs[i].Error()}); err != nil {
					return fmt.Errorf("set aside outbox row %s: %w", e.ID, err)
				}
				n++
			default:
				failed = errs[i]
			}
		}
		if len(published) == 0 {
			return nil
		}
		n += len(published)
		if err := q.DeletePublished(ctx, published); err != nil {
			return fmt.Errorf("delete published outbox rows: %w", err)
		}
		return nil
	})
	if err == nil && failed != nil {
		err = fmt.Errorf("relay outbox: %w", failed)
	}
	return n, err
}

func event(row outboxdb.TakeWaitingRow) events.Event {
	e := events.Event{ID: row.ID, UserID: row.UserID, Type: row.Type, Body: row.Body}
	if len(row.Attributes) > 0 {
		// Attributes that are no object of strings fail validation below.
		if err := json.Unmarshal(row.Attributes, &e.Attributes); err != nil {
			e.Attributes = map[string]string{"": ""}
		}
		e.Trace = e.Attributes[traceKey]
		delete(e.Attributes, traceKey)
	}
	return e
}
