package endpoints

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/cardwire/cardwire/events"
	"github.com/cardwire/cardwire/services/internal/delivery"
	"github.com/cardwire/cardwire/sql/db"
)

const (
	// maxPayloads bounds the bodies of one page, in bytes: a hundred of the
	// largest would be 25 MB, for which nobody asks on purpose.
	maxPayloads = 4 << 20
	// maxExamined bounds the deliveries that one page with filters reads, so that
	// a filter that hardly anything matches costs no more than a deep page does:
	// some 10 ms. Then the page is short, and its cursor goes on.
	maxExamined = 2_000
)

// deliveries answers a page by its number, or with a cursor or filters a part of
// the log.
func (a *API) deliveries(ctx context.Context, user uuid.UUID, in *deliveriesInput) (*deliveriesOutput, error) {
	endpoint, err := a.store.Get(ctx, user, uuid.UUID(in.ID))
	if err != nil {
		return nil, err
	}
	q := db.New(a.store.DB)
	page := readPage
	if in.selects() {
		page = a.scanPage
	}
	rows, pagination, end, err := page(ctx, q, endpoint.ID, in)
	if err != nil {
		return nil, err
	}
	if end != uuid.Nil {
		cursor, err := a.store.newCursor(endpoint.ID, end)
		if err != nil {
			return nil, err
		}
		pagination.NextCursor = &cursor
	}
	payloads, err := readPayloads(ctx, q, rows)
	if err != nil {
		return nil, err
	}
	state, err := readState(ctx, q, endpoint.ID)
	if err != nil {
		return nil, err
	}
	out := &deliveriesOutput{DeliveryPage{Data: make([]Delivery, len(rows)), Pagination: pagination}}
	for i, row := range rows {
		out.Body.Data[i] = shownDelivery(row, payloads[row.EventID], state)
	}
	return out, nil
}

// selects says whether a part of the log is asked for, and not a page by its number.
func (in *deliveriesInput) selects() bool {
	return in.Cursor != "" || in.Status != "" || in.EventType != "" || !in.Since.IsZero() || !in.Until.IsZero()
}

// readPage reads a page by its number. end is its last delivery, if more follow.
func readPage(ctx context.Context, q *db.Queries, id uuid.UUID, in *deliveriesInput) (rows []db.Delivery, p Pagination, end uuid.UUID, err error) {
	total, err := q.TotalDeliveries(ctx, id)
	if err != nil {
		return nil, p, end, fmt.Errorf("count deliveries of endpoint %v: %w", id, err)
	}
	rows, err = q.ListDeliveries(ctx, db.ListDeliveriesParams{
		EndpointID: id, MaxRows: int32(in.Limit) + 1, Skip: int32((in.Page - 1) * in.Limit),
	})
	if err != nil {
		return nil, p, end, fmt.Errorf("list deliveries of endpoint %v: %w", id, err)
	}
	pages := (total + int64(in.Limit) - 1) / int64(in.Limit)
	p = Pagination{Page: &in.Page, Limit: in.Limit, Total: &total, TotalPages: &pages}
	if len(rows) > in.Limit {
		rows = rows[:in.Limit]
		end = rows[in.Limit-1].ID
	}
	return rows, p, end, nil
}

// scanPage reads on from a cursor, or from the newest delivery, what the filters
// let through. end is how far it has read, if more follow.
func (a *API) scanPage(ctx context.Context, q *db.Queries, id uuid.UUID, in *deliveriesInput) (rows []db.Delivery, p Pagination, end uuid.UUID, err error) {
	p.Limit = in.Limit
	low, before, err := a.scanRange(id, in)
	if err != nil {
		return nil, p, end, err
	}
	rows, err = q.ScanDeliveries(ctx, db.ScanDeliveriesParams{
		EndpointID: id, Low: low, Before: before, Status: in.Status, EventType: in.EventType,
		MaxExamined: maxExamined, MaxRows: int32(in.Limit) + 1,
	})
	if err != nil {
		return nil, p, end, fmt.Errorf("scan deliveries of endpoint %v: %w", id, err)
	}
	if len(rows) > in.Limit {
		rows = rows[:in.Limit]
		return rows, p, rows[in.Limit-1].ID, nil
	}
	end, err = q.ScanEnd(ctx, db.ScanEndParams{EndpointID: id, Low: low, Before: before, MaxExaminedLess1: maxExamined - 1})
	if errors.Is(err, pgx.ErrNoRows) {
		return rows, p, uuid.Nil, nil
	}
	if err != nil {
		return nil, p, end, fmt.Errorf("find end of scan of endpoint %v: %w", id, err)
	}
	// Deliveries that came in between must not have the next page repeat some of this.
	if n := len(rows); n > 0 && bytes.Compare(rows[n-1].ID[:], end[:]) < 0 {
		end = rows[n-1].ID
	}
	return rows, p, end, nil
}

// scanRange checks cursor and filters, and returns the ids to read: from low on,
// up to before, that one excluded.
func (a *API) scanRange(id uuid.UUID, in *deliveriesInput) (low, before uuid.UUID, err error) {
	before = uuid.Max
	switch {
	case in.Page != 1:
		return low, before, invalid("page", "must be 1, or missing, with a cursor or a filter: go on by nextCursor")
	case in.EventType != "" && events.ValidateType(in.EventType) != nil:
		return low, before, invalid("eventType", eventTypeRule)
	case !in.Since.IsZero() && !in.Until.IsZero() && !in.Since.Before(in.Until.Time):
		return low, before, invalid("until", "must be after since")
	}
	if !in.Since.IsZero() {
		low = delivery.Floor(in.Since.Time)
	}
	if !in.Until.IsZero() {
		before = delivery.Floor(in.Until.Time)
	}
	if in.Cursor != "" {
		at, err := a.store.parseCursor(id, in.Cursor)
		if err != nil {
			return low, before, err
		}
		if bytes.Compare(at[:], before[:]) < 0 {
			before = at
		}
	}
	return low, before, nil
}

// readPayloads returns the bodies of the events of some deliveries, by event id,
// up to maxPayloads bytes of them.
func readPayloads(ctx context.Context, q *db.Queries, rows []db.Delivery) (map[uuid.UUID]Payload, error) {
	if len(rows) == 0 {
		return nil, nil
	}
	ids := make([]uuid.UUID, len(rows))
	for i, row := range rows {
		ids[i] = row.EventID
	}
	low, high := delivery.Bounds(ids)
	bodies, err := q.Payloads(ctx, db.PayloadsParams{Ids: ids, Low: low, High: high, MaxBytes: maxPayloads})
	if err != nil {
		return nil, fmt.Errorf("read bodies of %d events: %w", len(ids), err)
	}
	payloads := make(map[uuid.UUID]Payload, len(bodies))
	for _, b := range bodies {
		if json.Valid(b.Body) { // fan-out took nothing else; half an answer must not be the price if it did
			payloads[b.ID] = Payload{b.Body}
		}
	}
	return payloads, nil
}

// readState returns how an endpoint fares. Nothing noted is that all is well.
func readState(ctx context.Context, q *db.Queries, id uuid.UUID) (db.EndpointStateRow, error) {
	state, err := q.EndpointState(ctx, id)
	if errors.Is(err, pgx.ErrNoRows) {
		return db.EndpointStateRow{Circuit: circuitClosed}, nil
	}
	if err != nil {
		return state, fmt.Errorf("read state of endpoint %v: %w", id, err)
	}
	return state, nil
}
