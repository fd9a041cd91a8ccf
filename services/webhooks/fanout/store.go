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
	"github.com/cardwire/cardwire/services/internal/sqlstate"
	"github.com/cardwire/cardwire/sql/db"
)

const (
	// maxRows bounds the deliveries of one statement and, but for a single
	// event with more matches, of one transaction: about 1 MB of parameters.
	maxRows = 5_000
	// maxBodies bounds the bodies of a transaction, in bytes: what takes longer than storeTimeout would be tried for ever.
	maxBodies = 8 << 20
	// storeTimeout bounds a transaction: a try that hangs is followed by another.
	storeTimeout = 10 * time.Second
)

// chunks yields the bounds of runs of items that have at most maxRows matches
// and maxBodies bytes together, or one item. It matches them as it goes: the
// matches of a whole batch, which may be millions, are never there at once.
func chunks(items []*item, match func(*item)) iter.Seq2[int, int] {
	return func(yield func(from, to int) bool) {
		from, rows, bodies := 0, 0, 0
		for i, it := range items {
			match(it)
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

// write stores what is new in one statement. An event whose id is stored with
// other contents becomes dead.
func (f *FanOut) write(ctx context.Context, items []*item) error {
	fresh := distinct(items)
	known, err := f.insert(ctx, fresh)
	if err != nil {
		return err
	}
	q := db.New(f.pool)
	if len(known) > 0 {
		if err := checkStored(ctx, q, items, known); err != nil {
			return err
		}
		if err := keepPending(ctx, q, items, known); err != nil {
			return err
		}
	}
	return insertDead(ctx, q, items)
}

// distinct lists the live items, one of each event, in order of their ids: two
// replicas with the same events in different order would wait for each other.
// An id that is used for two events makes the later one dead.
func distinct(items []*item) []*item {
	byID := make(map[uuid.UUID]*item, len(items))
	fresh := make([]*item, 0, len(items))
	for _, it := range items {
		if it.reason != "" {
			continue
		}
		if first := byID[it.event.ID]; first == nil {
			byID[it.event.ID] = it
			fresh = append(fresh, it)
		} else if !it.sameAs(first.event.UserID, first.event.Type, first.event.Body) {
			it.reused()
		}
	}
	slices.SortFunc(fresh, func(a, b *item) int { return bytes.Compare(a.event.ID[:], b.event.ID[:]) })
	return fresh
}

// insert stores distinct events with their deliveries: all of it or nothing. It
// returns those that were stored before, by id.
func (f *FanOut) insert(ctx context.Context, fresh []*item) (known map[uuid.UUID]*item, err error) {
	if len(fresh) == 0 {
		return nil, nil
	}
	var rows []db.StoreEventsRow
	p, more := storeParams(fresh)
	if len(more) == 0 {
		rows, err = db.New(f.pool).StoreEvents(ctx, p)
	} else {
		err = pgx.BeginFunc(ctx, f.pool, func(tx pgx.Tx) error {
			rows, err = storeAll(ctx, db.New(tx), p, more)
			return err
		})
	}
	if err != nil {
		return nil, fmt.Errorf("insert %d events: %w", len(fresh), err)
	}
	inserted, waiting := make(map[uuid.UUID]bool, len(rows)), make(map[uuid.UUID]bool)
	for _, r := range rows {
		if r.Waits {
			waiting[r.ID] = true
		} else {
			inserted[r.ID] = true
		}
	}
	known = make(map[uuid.UUID]*item)
	for _, it := range fresh {
		if !inserted[it.event.ID] {
			known[it.event.ID] = it
		} else if len(more) == 0 {
			it.park(waiting)
		}
	}
	return known, nil
}

// park leaves out the matches whose deliveries have been parked: they wait in
// PostgreSQL, behind others of their endpoint, and are to have no message.
func (it *item) park(waiting map[uuid.UUID]bool) {
	if len(waiting) == 0 || it.trigger() == delivery.TriggerTest {
		return
	}
	before := len(it.matches)
	it.matches = slices.DeleteFunc(it.matches, func(id uuid.UUID) bool { return waiting[id] })
	it.parked = before - len(it.matches)
}

// storeParams lays events and their deliveries out in columns. Of an event with
// more deliveries than fit into one statement, which comes alone (see chunks),
// these are in more.
func storeParams(fresh []*item) (p db.StoreEventsParams, more []db.InsertDeliveriesParams) {
	var made db.InsertDeliveriesParams
	waiting := make(map[uuid.UUID]bool)
	for _, it := range fresh {
		p.Ids = append(p.Ids, it.event.ID)
		p.UserIds = append(p.UserIds, it.event.UserID)
		p.Types = append(p.Types, it.event.Type)
		p.Bodies = append(p.Bodies, it.event.Body)
		p.OccurredAts = append(p.OccurredAts, it.event.Time)
		p.StreamSeqs = append(p.StreamSeqs, int64(it.seq))
		if len(it.matches) > maxRows {
			for endpointIDs := range slices.Chunk(it.matches, maxRows) {
				var part db.InsertDeliveriesParams
				addDeliveries(&part, it, endpointIDs)
				more = append(more, part)
			}
			continue
		}
		addDeliveries(&made, it, it.matches)
		for _, id := range it.waits {
			waiting[id] = true
		}
	}
	p.DeliveryIds, p.EventIds, p.EndpointIds, p.EventTypes, p.Triggers = made.Ids, made.EventIds, made.EndpointIds, made.EventTypes, made.Triggers
	p.Waiting = slices.Collect(maps.Keys(waiting))
	return p, more
}

func addDeliveries(p *db.InsertDeliveriesParams, it *item, endpointIDs []uuid.UUID) {
	for _, endpointID := range endpointIDs {
		p.Ids = append(p.Ids, delivery.ID(it.event.ID, endpointID))
		p.EventIds = append(p.EventIds, it.event.ID)
		p.EndpointIds = append(p.EndpointIds, endpointID)
		p.EventTypes = append(p.EventTypes, it.event.Type)
		p.Triggers = append(p.Triggers, it.trigger())
	}
}

// storeAll stores an event and all of its deliveries, if it is new.
func storeAll(ctx context.Context, q *db.Queries, p db.StoreEventsParams, more []db.InsertDeliveriesParams) ([]db.StoreEventsRow, error) {
	inserted, err := q.StoreEvents(ctx, p)
	if err != nil || len(inserted) == 0 {
		return inserted, err
	}
	for _, d := range more {
		if _, err := q.InsertDeliveries(ctx, d); err != nil {
			return nil, err
		}
	}
	return inserted, nil
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

// sameAs says whether the item's event is one that is stored. An empty body is
// one that is no longer kept (BODY_RETENTION).
func (it *item) sameAs(userID uuid.UUID, eventType string, body []byte) bool {
	return it.event.UserID == userID && it.event.Type == eventType && (len(body) == 0 || bytes.Equal(it.event.Body, body))
}

func (it *item) reused() {
	it.reason = "invalid event: id: is used by another event"
	it.matches = nil
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
