package tail

import (
	"context"
	"fmt"
	"time"

	"github.com/google/uuid"

	"github.com/cardwire/cardwire/services/internal/delivery"
	"github.com/cardwire/cardwire/sql/db"
)

const (
	// interval is how often PostgreSQL is asked.
	interval = time.Second
	// overlap is how far back each look goes: an attempt is dated when its
	// transaction begins, and seen once that is committed.
	overlap = 10 * time.Second
	// examined is how many deliveries a look reads at most. There is no index by
	// the time of an attempt, which would cost each attempt: what is older than the newest
	// of these is not seen.
	examined = 5_000
	// fewest of each endpoint are read if there are many.
	fewest       = 50
	maxEndpoints = 1_000
	queryTimeout = 10 * time.Second
)

// A poller finds attempts that have ended.
type poller struct {
	q      *db.Queries
	filter Filter
	since  time.Time // by the database's clock
	seen   map[attemptKey]time.Time
}

type attemptKey struct {
	delivery uuid.UUID
	n        int32
}

func newPoller(q *db.Queries, f Filter) *poller {
	return &poller{q: q, filter: f, seen: make(map[attemptKey]time.Time)}
}

// begin looks once without showing: what has ended is not news.
func (p *poller) begin(ctx context.Context) (err error) {
	if p.filter.Endpoint != uuid.Nil {
		list, err := p.endpoints(ctx)
		if err != nil {
			return err
		}
		if len(list) == 0 {
			return fmt.Errorf("--endpoint: there is no endpoint %s", p.filter.Endpoint)
		}
	}
	ctx, cancel := context.WithTimeout(ctx, queryTimeout)
	defer cancel()
	if p.since, err = p.q.DatabaseTime(ctx); err != nil {
		return fmt.Errorf("read the database's time: %w", err)
	}
	return p.look(ctx, func(Attempt) {})
}

func (p *poller) run(ctx context.Context, show func(Attempt)) error {
	tick := time.NewTicker(interval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		bounded, cancel := context.WithTimeout(ctx, queryTimeout)
		err := p.look(bounded, show)
		cancel()
		if err != nil && ctx.Err() == nil {
			return err
		}
	}
}

// look shows the attempts that have ended since the last look.
func (p *poller) look(ctx context.Context, show func(Attempt)) error {
	from := p.since.Add(-overlap)
	changed, err := p.changed(ctx, from)
	if err != nil {
		return fmt.Errorf("look for deliveries: %w", err)
	}
	byID := make(map[uuid.UUID]db.NewestChangedRow, len(changed))
	var ids []uuid.UUID
	now := p.since
	for _, d := range changed {
		if d.Now.After(now) {
			now = d.Now
		}
		if p.filter.wantsType(d.EventType) {
			byID[d.ID] = d
			ids = append(ids, d.ID)
		}
	}
	if len(ids) > 0 {
		low, high := delivery.Bounds(ids)
		rows, err := p.q.FinishedAttempts(ctx, db.FinishedAttemptsParams{Ids: ids, Low: low, High: high, Since: from})
		if err != nil {
			return fmt.Errorf("look for attempts: %w", err)
		}
		for _, a := range rows {
			p.found(a, byID[a.DeliveryID], show)
		}
	}
	p.since = now
	for key, at := range p.seen {
		if at.Before(now.Add(-2 * overlap)) {
			delete(p.seen, key)
		}
	}
	return nil
}

func (p *poller) found(a db.FinishedAttemptsRow, d db.NewestChangedRow, show func(Attempt)) {
	key := attemptKey{a.DeliveryID, a.N}
	if _, known := p.seen[key]; known {
		return
	}
	p.seen[key] = a.FinishedAt
	if p.filter.Failed && a.Outcome == "success" {
		return
	}
	shown := Attempt{
		Kind: "attempt", At: a.FinishedAt.UTC(), Type: d.EventType, EventID: d.EventID, EndpointID: a.EndpointID, DeliveryID: a.DeliveryID, N: a.N,
		Outcome: a.Outcome, ResponseCode: a.ResponseCode, DurationMs: a.DurationMs, Error: a.ErrorMessage, Status: d.Status,
	}
	if d.NextAttemptAt != nil && d.NextAttemptAt.Year() < 9000 { // parked is not a time
		next := d.NextAttemptAt.UTC()
		shown.NextAttempt = &next
	}
	show(shown)
}

// changed are the deliveries that may have attempts that ended since a time.
func (p *poller) changed(ctx context.Context, since time.Time) ([]db.NewestChangedRow, error) {
	if p.filter.User == uuid.Nil && p.filter.Endpoint == uuid.Nil {
		return p.q.NewestChanged(ctx, db.NewestChangedParams{Examined: examined, Since: since})
	}
	ids, err := p.endpoints(ctx)
	if err != nil || len(ids) == 0 {
		return nil, err
	}
	rows, err := p.q.NewestChangedOf(ctx, db.NewestChangedOfParams{EndpointIds: ids, Examined: int32(max(examined/len(ids), fewest)), Since: since})
	list := make([]db.NewestChangedRow, len(rows))
	for i, row := range rows {
		list[i] = db.NewestChangedRow(row)
	}
	return list, err
}

func (p *poller) endpoints(ctx context.Context) ([]uuid.UUID, error) {
	params := db.EndpointsOfParams{MaxRows: maxEndpoints}
	if p.filter.Endpoint != uuid.Nil {
		params.ID = &p.filter.Endpoint
	} else {
		params.UserID = &p.filter.User
	}
	ids, err := p.q.EndpointsOf(ctx, params)
	if err != nil {
		return nil, fmt.Errorf("look for endpoints: %w", err)
	}
	return ids, nil
}
