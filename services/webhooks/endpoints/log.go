package endpoints

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/cardwire/cardwire/services/internal/delivery"
	"github.com/cardwire/cardwire/sql/db"
)

const (
	// maxPayloads bounds the bodies of one page, in bytes: a hundred of the
	// largest would be 25 MB, for which nobody asks on purpose.
	maxPayloads = 4 << 20
	// maxAttempts bounds the attempts shown with a delivery. A schedule has a
	// handful, and what we cut off ourselves adds ten at most.
	maxAttempts = 100
)

func (a *API) deliveries(ctx context.Context, user uuid.UUID, in *deliveriesInput) (*deliveriesOutput, error) {
	endpoint, err := a.store.Get(ctx, user, uuid.UUID(in.ID))
	if err != nil {
		return nil, err
	}
	q := db.New(a.store.DB)
	total, err := q.CountDeliveries(ctx, endpoint.ID)
	if err != nil {
		return nil, fmt.Errorf("count deliveries of endpoint %v: %w", endpoint.ID, err)
	}
	rows, err := q.ListDeliveries(ctx, db.ListDeliveriesParams{
		EndpointID: endpoint.ID, MaxRows: int32(in.Limit), Skip: int32((in.Page - 1) * in.Limit),
	})
	if err != nil {
		return nil, fmt.Errorf("list deliveries of endpoint %v: %w", endpoint.ID, err)
	}
	payloads, err := readPayloads(ctx, q, rows)
	if err != nil {
		return nil, err
	}
	out := &deliveriesOutput{DeliveryPage{
		Data: make([]Delivery, len(rows)),
		Pagination: Pagination{
			Page: in.Page, Limit: in.Limit, Total: total, TotalPages: (total + int64(in.Limit) - 1) / int64(in.Limit),
		},
	}}
	for i, row := range rows {
		out.Body.Data[i] = shownDelivery(row, payloads[row.EventID])
	}
	return out, nil
}

func (a *API) delivery(ctx context.Context, user uuid.UUID, in *deliveryInput) (*deliveryOutput, error) {
	endpoint, err := a.store.Get(ctx, user, uuid.UUID(in.ID))
	if err != nil {
		return nil, err
	}
	q := db.New(a.store.DB)
	row, err := q.Delivery(ctx, db.DeliveryParams{ID: uuid.UUID(in.DeliveryID), EndpointID: endpoint.ID})
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, errNoDelivery
	}
	if err != nil {
		return nil, fmt.Errorf("get delivery %v: %w", uuid.UUID(in.DeliveryID), err)
	}
	payloads, err := readPayloads(ctx, q, []db.Delivery{row})
	if err != nil {
		return nil, err
	}
	attempts, err := q.ListAttempts(ctx, db.ListAttemptsParams{DeliveryID: row.ID, MaxRows: maxAttempts})
	if err != nil {
		return nil, fmt.Errorf("list attempts of delivery %v: %w", row.ID, err)
	}
	out := &deliveryOutput{DeliveryWithAttempts{
		Delivery:   shownDelivery(row, payloads[row.EventID]),
		AttemptLog: make([]Attempt, len(attempts)),
	}}
	for i, attempt := range attempts {
		out.Body.AttemptLog[i] = shownAttempt(attempt)
	}
	return out, nil
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

func shownDelivery(d db.Delivery, payload Payload) Delivery {
	return Delivery{
		ID: d.ID, EndpointID: d.EndpointID, EventID: d.EventID, EventType: d.EventType, Payload: payload,
		Status: d.Status, Reason: d.Reason, ResponseCode: d.ResponseCode, Attempts: d.Attempts,
		NextRetryAt: utc(d.NextAttemptAt), CreatedAt: d.CreatedAt.UTC(), UpdatedAt: d.UpdatedAt.UTC(),
		ErrorMessage: d.ErrorMessage, DeliveredAt: utc(d.DeliveredAt),
	}
}

func shownAttempt(a db.ListAttemptsRow) Attempt {
	return Attempt{
		N: a.N, StartedAt: a.StartedAt.UTC(), FinishedAt: utc(a.FinishedAt), Outcome: a.Outcome,
		ResponseCode: a.ResponseCode, ErrorClass: a.ErrorClass, ErrorMessage: a.ErrorMessage, DurationMs: a.DurationMs,
	}
}

func utc(t *time.Time) *time.Time {
	if t == nil {
		return nil
	}
	u := t.UTC()
	return &u
}
