package replays

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/cardwire/cardwire/events"
	"github.com/cardwire/cardwire/services/internal/delivery"
	"github.com/cardwire/cardwire/services/internal/subscription"
	"github.com/cardwire/cardwire/sql/db"
)

const (
	// minRows is how many events a batch reads at least, and filteredRows of which
	// only some are wanted: some 10 ms. Fewer, and a range in which there is little
	// to do takes long to get through; more, and a batch holds its row for longer.
	minRows      = 1_000
	filteredRows = 10_000
	// minPairs and maxPairs bound the pairs of event and endpoint that a batch
	// looks up: four times what may be made of them, within these.
	minPairs = 500
	maxPairs = 4_000
	// readBodies is how many bodies are read at once to hold them to filters: 16 MiB at most.
	readBodies = 64
	// clockSkew is how much later than an event an endpoint may seem to have been
	// made and still get it by a replay to all: as fan-out has it.
	clockSkew = 5 * time.Second
)

// A Batch is what comes next of a replay.
type Batch struct {
	At      uuid.UUID // all events up to this id are done with it
	End     bool      // there are no more
	Events  int       // how many it is about
	Skipped int       // pairs that the mode leaves out
	Made    []Made    // deliveries to make
}

// Made is a delivery that a replay makes.
type Made struct {
	delivery.Delivery
	EventType string
}

// An event of a page.
type event struct {
	id, userID uuid.UUID
	eventType  string
	at         time.Time
	wanted     bool // or it is only there to say how far the page goes
	endpoints  []uuid.UUID
}

type pair struct{ event, endpoint uuid.UUID }

// Next reads what comes next of a replay, and changes nothing. It is about most
// deliveries or a few more: those of one event stay together.
func Next(ctx context.Context, q *db.Queries, r db.Replay, most int) (Batch, error) {
	most, atOnce := max(most, 1), min(max(4*most, minPairs), maxPairs)
	page, end, err := readPage(ctx, q, r, max(atOnce, minRows))
	if err != nil {
		return Batch{}, err
	}
	filters, err := match(ctx, q, r, page)
	if err != nil {
		return Batch{}, err
	}
	pairs := 0
	for i, e := range page {
		if pairs += len(e.endpoints); pairs >= atOnce {
			page, end = page[:i+1], end && i+1 == len(page)
			break
		}
	}
	if err := holdToFilters(ctx, q, page, filters); err != nil {
		return Batch{}, err
	}
	leftOut, err := leaveOut(ctx, q, r.Mode, page)
	if err != nil {
		return Batch{}, err
	}
	b := Batch{At: r.At, End: end}
	for i, e := range page {
		b.take(r.ID, e, leftOut)
		if len(b.Made) >= most {
			b.End = end && i+1 == len(page)
			break
		}
	}
	return b, nil
}

// take adds an event.
func (b *Batch) take(replayID uuid.UUID, e event, leftOut func(pair) bool) {
	b.At = e.id
	if e.wanted {
		b.Events++
	}
	for _, endpointID := range e.endpoints {
		if leftOut(pair{e.id, endpointID}) {
			b.Skipped++
			continue
		}
		d := delivery.Delivery{ID: delivery.ReplayID(e.id, endpointID, replayID), EventID: e.id, EndpointID: endpointID}
		b.Made = append(b.Made, Made{d, e.eventType})
	}
}

// readPage reads the next events: of the range, as many as said. end says that
// there are no more after them.
func readPage(ctx context.Context, q *db.Queries, r db.Replay, most int) (page []event, end bool, err error) {
	from, to := sequences(r)
	rows := int32(most)
	if len(r.Types) > 0 || r.FromSeq != nil {
		rows = filteredRows
	}
	all := db.ReplayPageParams{After: r.At, Before: r.EndID, MaxRows: rows, Types: r.Types, FromSeq: from, ToSeq: to}
	var list []db.ReplayPageRow
	if r.UserID == nil {
		list, err = q.ReplayPage(ctx, all)
	} else {
		var own []db.ReplayPageOfUserRow
		own, err = q.ReplayPageOfUser(ctx, db.ReplayPageOfUserParams{
			UserID: *r.UserID, After: all.After, Before: all.Before, MaxRows: all.MaxRows, Types: all.Types, FromSeq: from, ToSeq: to,
		})
		for _, row := range own {
			list = append(list, db.ReplayPageRow(row))
		}
	}
	if err != nil {
		return nil, false, fmt.Errorf("read events: %w", err)
	}
	for _, row := range list {
		page = append(page, event{id: row.ID, userID: row.UserID, eventType: row.Type, at: row.OccurredAt, wanted: row.Wanted})
	}
	return page, len(list) == 0 || list[0].Rows < int64(rows), nil
}

// sequences are the bounds of a replay's range of sequence numbers; all, if it has none.
func sequences(r db.Replay) (from, to int64) {
	if r.FromSeq == nil {
		return 0, math.MaxInt64
	}
	return *r.FromSeq, *r.ToSeq
}

// match gives events the endpoints that ask for their types, and returns the
// filters that some of these have.
func match(ctx context.Context, q *db.Queries, r db.Replay, page []event) (filters map[uuid.UUID]subscription.Filter, err error) {
	endpoints, err := candidates(ctx, q, r, page)
	if err != nil {
		return nil, err
	}
	filters = make(map[uuid.UUID]subscription.Filter)
	byUser := make(map[uuid.UUID][]db.MatchEndpointsRow)
	for _, e := range endpoints {
		byUser[e.UserID] = append(byUser[e.UserID], e)
		if e.Filter == nil {
			continue
		}
		if f, err := subscription.ParseFilter(e.Filter); err == nil { // or all pass, as in fan-out
			filters[e.ID] = f
		}
	}
	for i, ev := range page {
		if !ev.wanted {
			continue
		}
		for _, e := range byUser[ev.userID] {
			old := r.EndpointID == nil && e.CreatedAt.After(ev.at.Add(clockSkew))
			if !old && asksFor(e, ev) {
				page[i].endpoints = append(page[i].endpoints, e.ID)
			}
		}
	}
	return filters, nil
}

// holdToFilters takes from events the endpoints whose filters they don't pass.
func holdToFilters(ctx context.Context, q *db.Queries, page []event, filters map[uuid.UUID]subscription.Filter) error {
	var asked []*event
	for i := range page {
		if slices.ContainsFunc(page[i].endpoints, func(id uuid.UUID) bool { _, has := filters[id]; return has }) {
			asked = append(asked, &page[i])
		}
	}
	for chunk := range slices.Chunk(asked, readBodies) {
		byID := make(map[uuid.UUID]*event, len(chunk))
		ids := make([]uuid.UUID, len(chunk))
		for i, ev := range chunk {
			ids[i], byID[ev.id] = ev.id, ev
		}
		bodies, err := q.EventBodies(ctx, db.EventBodiesParams{Ids: ids, Low: ids[0], High: ids[len(ids)-1]}) // they are in the order of ids
		if err != nil {
			return fmt.Errorf("read bodies: %w", err)
		}
		for _, b := range bodies {
			ev, data := byID[b.ID], subscription.ReadData(b.Body)
			ev.endpoints = slices.DeleteFunc(ev.endpoints, func(id uuid.UUID) bool {
				f, has := filters[id]
				return has && !f.Passes(data)
			})
		}
	}
	return nil
}

// asksFor says whether an endpoint asks for an event's type now. A test event is for its
// one endpoint, once.
func asksFor(e db.MatchEndpointsRow, ev event) bool {
	return ev.eventType != events.Test && subscription.WantsType(e.Events, ev.eventType)
}

// candidates are the endpoints that events of a page may go to: the replay's, or
// the active ones of the events' users.
func candidates(ctx context.Context, q *db.Queries, r db.Replay, page []event) ([]db.MatchEndpointsRow, error) {
	if r.EndpointID != nil {
		e, err := q.ReplayEndpoint(ctx, *r.EndpointID)
		if errors.Is(err, pgx.ErrNoRows) {
			return nil, nil
		}
		if err != nil {
			return nil, fmt.Errorf("look up endpoint %v: %w", *r.EndpointID, err)
		}
		return []db.MatchEndpointsRow{{ID: e.ID, UserID: e.UserID, Events: e.Events, Filter: e.Filter, CreatedAt: e.CreatedAt}}, nil
	}
	var users []uuid.UUID
	seen := make(map[uuid.UUID]bool)
	for _, ev := range page {
		if ev.wanted && !seen[ev.userID] {
			seen[ev.userID] = true
			users = append(users, ev.userID)
		}
	}
	if len(users) == 0 {
		return nil, nil
	}
	list, err := q.MatchEndpoints(ctx, users)
	if err != nil {
		return nil, fmt.Errorf("match endpoints: %w", err)
	}
	return list, nil
}

// leaveOut says which pairs the mode leaves out, by the deliveries that they have.
func leaveOut(ctx context.Context, q *db.Queries, mode string, page []event) (func(pair) bool, error) {
	if mode == All {
		return func(pair) bool { return false }, nil
	}
	var p db.DeliveredPairsParams
	for _, e := range page {
		low, high := delivery.Siblings(e.id)
		for _, endpointID := range e.endpoints {
			p.EventIds, p.EndpointIds = append(p.EventIds, e.id), append(p.EndpointIds, endpointID)
			p.Lows, p.Highs = append(p.Lows, low), append(p.Highs, high)
		}
	}
	alive := make(map[pair]bool)
	if len(p.EventIds) > 0 {
		p.Low, p.High = p.Lows[0], p.Highs[len(p.Highs)-1] // they are in the order of ids
		rows, err := q.DeliveredPairs(ctx, p)
		if err != nil {
			return nil, fmt.Errorf("look up deliveries: %w", err)
		}
		for _, row := range rows {
			alive[pair{row.EventID, row.EndpointID}] = row.Alive
		}
	}
	return func(p pair) bool {
		alive, there := alive[p]
		if mode == Missing {
			return there
		}
		return !there || alive
	}, nil
}
