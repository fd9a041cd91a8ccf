package fanout

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"iter"
	"maps"
	"slices"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/cardwire/cardwire/services/internal/delivery"
	"github.com/cardwire/cardwire/services/internal/failpoint"
	"github.com/cardwire/cardwire/services/internal/sqlstate"
	"github.com/cardwire/cardwire/sql/db"
)

const (
	// maxRows bounds the deliveries of one statement and, but for a single
	// event with more matches, of one transaction: about 1 MB of parameters.
	maxRows = 5_000
	// maxBodies bounds the bodies of a transaction, in bytes: what takes longer than storeTimeout would be tried for ever.
	maxBodies = 8 << 20
	// storeTimeout bounds a transaction, well within FanOutAckWait.
	storeTimeout = 10 * time.Second
)

// chunks yields the bounds of runs of items that have at most maxRows matches
// and maxBodies bytes together, or one item.
func chunks(items []*item) iter.Seq2[int, int] {
	return func(yield func(from, to int) bool) {
		from, rows, bodies := 0, 0, 0
		for i, it := range items {
			if i > from && (rows+len(it.matches) > maxRows || bodies+len(it.body) > maxBodies) {
				if !yield(from, i) {
					return
				}
				from, rows, bodies = i, 0, 0
			}
			rows, bodies = rows+len(it.matches), bodies+len(it.body)
		}
		if from < len(items) {
			yield(from, len(items))
		}
	}
}

// store writes events, deliveries and dead events. Written twice, it changes
// nothing. If PostgreSQL objects to what an item says, the items go in ever
// smaller transactions, so that the one at fault becomes dead and the others go
// on: an error means that the database is away.
func (f *FanOut) store(ctx context.Context, items []*item) error {
	txCtx, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	err := f.write(txCtx, items)
	if sqlstate.NoPartition(err) { // an event of an older day, or the keeper is late
		if err := f.keeper.EnsureFor(txCtx, eventIDs(items)); err != nil {
			return err
		}
		err = f.write(txCtx, items)
	}
	switch {
	case err == nil || !sqlstate.AboutData(err):
		return err
	case len(items) > 1:
		half := len(items) / 2
		return errors.Join(f.store(ctx, items[:half]), f.store(ctx, items[half:]))
	default:
		items[0].reason, items[0].matches = "not storable: "+err.Error(), nil
		return f.write(txCtx, items)
	}
}

func eventIDs(items []*item) []uuid.UUID {
	var ids []uuid.UUID
	for _, it := range items {
		if it.reason == "" {
			ids = append(ids, it.event.ID)
		}
	}
	return ids
}

// write is one transaction. An event whose id is stored with other contents
// becomes dead in it.
func (f *FanOut) write(ctx context.Context, items []*item) error {
	return pgx.BeginFunc(ctx, f.pool, func(tx pgx.Tx) error {
		q := db.New(tx)
		if err := insertEvents(ctx, q, items); err != nil {
			return err
		}
		failpoint.Hit("fanout midway")
		if err := insertDeliveries(ctx, q, items); err != nil {
			return err
		}
		return insertDead(ctx, q, items)
	})
}

func insertEvents(ctx context.Context, q *db.Queries, items []*item) error {
	var p db.InsertEventsParams
	byID := make(map[uuid.UUID]*item, len(items))
	for _, it := range items {
		if it.reason != "" {
			continue
		}
		if first := byID[it.event.ID]; first != nil {
			if !it.sameAs(first.event.UserID, first.event.Type, first.event.Body) {
				it.reused()
			}
			continue
		}
		byID[it.event.ID] = it
	}
	// In order of their ids: two replicas with the same events in different
	// order would wait for each other.
	for _, id := range slices.SortedFunc(maps.Keys(byID), func(a, b uuid.UUID) int { return bytes.Compare(a[:], b[:]) }) {
		it := byID[id]
		p.Ids = append(p.Ids, it.event.ID)
		p.UserIds = append(p.UserIds, it.event.UserID)
		p.Types = append(p.Types, it.event.Type)
		p.Bodies = append(p.Bodies, it.event.Body)
		p.OccurredAts = append(p.OccurredAts, it.event.Time)
		p.StreamSeqs = append(p.StreamSeqs, int64(it.seq))
	}
	if len(p.Ids) == 0 {
		return nil
	}
	inserted, err := q.InsertEvents(ctx, p)
	if err != nil {
		return fmt.Errorf("insert events: %w", err)
	}
	if len(inserted) == len(p.Ids) {
		return nil
	}
	for _, id := range inserted {
		delete(byID, id)
	}
	if err := checkStored(ctx, q, items, byID); err != nil {
		return err
	}
	return keepPending(ctx, q, items, byID)
}

// checkStored finds, among events whose id was stored already, those that are
// not the event that is stored: an id must not be used twice.
func checkStored(ctx context.Context, q *db.Queries, items []*item, known map[uuid.UUID]*item) error {
	ids := make([]uuid.UUID, 0, len(known))
	for id := range known {
		ids = append(ids, id)
	}
	low, high := delivery.Bounds(ids)
	stored, err := q.StoredEvents(ctx, db.StoredEventsParams{Ids: ids, Low: low, High: high})
	if err != nil {
		return fmt.Errorf("read stored events: %w", err)
	}
	for _, s := range stored {
		for _, it := range items {
			if it.reason == "" && it.event.ID == s.ID && !it.sameAs(s.UserID, s.Type, s.Body) {
				it.reused()
			}
		}
	}
	return nil
}

// keepPending leaves to events that were stored already those matches whose
// deliveries were made then and still wait: the repeat may come long after, when
// the consumer was made anew, and endpoints change meanwhile.
func keepPending(ctx context.Context, q *db.Queries, items []*item, known map[uuid.UUID]*item) error {
	var ids []uuid.UUID
	for _, it := range items {
		if known[it.event.ID] != nil {
			for _, endpointID := range it.matches {
				ids = append(ids, delivery.ID(it.event.ID, endpointID))
			}
		}
	}
	if len(ids) == 0 {
		return nil
	}
	low, high := delivery.Bounds(ids)
	pending, err := q.PendingDeliveries(ctx, db.PendingDeliveriesParams{Ids: ids, Low: low, High: high})
	if err != nil {
		return fmt.Errorf("read pending deliveries: %w", err)
	}
	waits := make(map[uuid.UUID]bool, len(pending))
	for _, id := range pending {
		waits[id] = true
	}
	for _, it := range items {
		if known[it.event.ID] != nil {
			it.matches = slices.DeleteFunc(it.matches, func(endpointID uuid.UUID) bool {
				return !waits[delivery.ID(it.event.ID, endpointID)]
			})
		}
	}
	return nil
}

func (it *item) sameAs(userID uuid.UUID, eventType string, body []byte) bool {
	return it.event.UserID == userID && it.event.Type == eventType && bytes.Equal(it.event.Body, body)
}

func (it *item) reused() {
	it.reason = "invalid event: id: is used by another event"
	it.matches = nil
}

func insertDeliveries(ctx context.Context, q *db.Queries, items []*item) error {
	var p db.InsertDeliveriesParams
	flush := func() error {
		if _, err := q.InsertDeliveries(ctx, p); err != nil {
			return fmt.Errorf("insert deliveries: %w", err)
		}
		p = db.InsertDeliveriesParams{}
		return nil
	}
	for _, it := range items {
		for _, endpointID := range it.matches {
			p.Ids = append(p.Ids, delivery.ID(it.event.ID, endpointID))
			p.EventIds = append(p.EventIds, it.event.ID)
			p.EndpointIds = append(p.EndpointIds, endpointID)
			p.EventTypes = append(p.EventTypes, it.event.Type)
			p.Triggers = append(p.Triggers, it.trigger())
			if len(p.Ids) == maxRows {
				if err := flush(); err != nil {
					return err
				}
			}
		}
	}
	if len(p.Ids) == 0 {
		return nil
	}
	return flush()
}

func insertDead(ctx context.Context, q *db.Queries, items []*item) error {
	var p db.InsertDeadEventsParams
	for _, it := range items {
		if it.reason == "" {
			continue
		}
		p.Ids = append(p.Ids, it.deadID())
		p.StreamSeqs = append(p.StreamSeqs, int64(it.seq))
		p.Subjects = append(p.Subjects, it.deadSubject())
		p.Headers = append(p.Headers, notNull(it.header))
		p.Bodies = append(p.Bodies, notNull(it.body))
		p.Reasons = append(p.Reasons, it.reason)
	}
	if len(p.Ids) == 0 {
		return nil
	}
	if err := q.InsertDeadEvents(ctx, p); err != nil {
		return fmt.Errorf("insert dead events: %w", err)
	}
	return nil
}

// notNull is b for PostgreSQL, which takes nil for NULL.
func notNull(b []byte) []byte {
	if b == nil {
		return []byte{}
	}
	return b
}
