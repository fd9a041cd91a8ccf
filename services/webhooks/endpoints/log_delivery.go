package endpoints

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/cardwire/cardwire/sql/db"
)

const (
	// maxAttempts bounds the attempts shown with a delivery. A schedule has a
	// handful, what we cut off ourselves adds ten at most, and so does each resend.
	maxAttempts = 100
	// maxResponses bounds the response bodies shown with a delivery, in bytes.
	// Each has at most 64 KiB.
	maxResponses = 2 << 20
)

func (a *API) delivery(ctx context.Context, user uuid.UUID, in *deliveryInput) (*deliveryOutput, error) {
	endpoint, err := a.store.Get(ctx, user, uuid.UUID(in.ID))
	if err != nil {
		return nil, err
	}
	q := db.New(a.store.DB)
	shown, err := readDelivery(ctx, q, endpoint.ID, uuid.UUID(in.DeliveryID))
	if err != nil {
		return nil, err
	}
	attempts, err := q.ListAttempts(ctx, db.ListAttemptsParams{DeliveryID: shown.ID, MaxRows: maxAttempts, MaxBytes: maxResponses})
	if err != nil {
		return nil, fmt.Errorf("list attempts of delivery %v: %w", shown.ID, err)
	}
	out := &deliveryOutput{DeliveryWithAttempts{Delivery: shown, AttemptLog: make([]Attempt, len(attempts))}}
	for i, attempt := range attempts {
		out.Body.AttemptLog[i] = shownAttempt(attempt)
	}
	return out, nil
}

// readDelivery reads one delivery of an endpoint as it is shown, or returns errNoDelivery.
func readDelivery(ctx context.Context, q *db.Queries, endpointID, id uuid.UUID) (Delivery, error) {
	row, err := q.Delivery(ctx, db.DeliveryParams{ID: id, EndpointID: endpointID})
	if errors.Is(err, pgx.ErrNoRows) {
		return Delivery{}, errNoDelivery
	}
	if err != nil {
		return Delivery{}, fmt.Errorf("get delivery %v: %w", id, err)
	}
	payloads, err := readPayloads(ctx, q, []db.Delivery{row})
	if err != nil {
		return Delivery{}, err
	}
	state, err := readState(ctx, q, endpointID)
	if err != nil {
		return Delivery{}, err
	}
	return shownDelivery(row, payloads[row.EventID], state), nil
}

func shownDelivery(d db.Delivery, payload Payload, state db.EndpointStateRow) Delivery {
	waitsFor, next := waits(d, state, time.Now())
	return Delivery{
		ID: d.ID, EndpointID: d.EndpointID, EventID: d.EventID, EventType: d.EventType, Payload: payload,
		Status: d.Status, Reason: d.Reason, Trigger: d.Trigger, ReplayID: d.ReplayID, ResponseCode: d.ResponseCode, Attempts: d.Attempts,
		WaitsFor: waitsFor, NextRetryAt: utc(next), CreatedAt: d.CreatedAt.UTC(), UpdatedAt: d.UpdatedAt.UTC(),
		ErrorMessage: d.ErrorMessage, DeliveredAt: utc(d.DeliveredAt),
	}
}

// waits says what a delivery waits for and when its next attempt is due. What
// waits for its endpoint goes when that is ready; until that is known, next is nil.
func waits(d db.Delivery, state db.EndpointStateRow, now time.Time) (waitsFor *string, next *time.Time) {
	switch {
	case d.NextAttemptAt == nil:
		return nil, nil
	case d.WaitsFor == nil && d.LeasedUntil == nil && d.Attempts > 0 && d.NextAttemptAt.After(now.Add(clockSkew)):
		retry := waitsRetry
		return &retry, d.NextAttemptAt
	case d.WaitsFor == nil:
		return nil, d.NextAttemptAt
	}
	switch *d.WaitsFor {
	case waitsRetryAfter, waitsSchedule:
		return d.WaitsFor, d.NextAttemptAt
	default: // next_attempt_at is in the year 9999
		return d.WaitsFor, state.WaitUntil
	}
}

// clockSkew is how far PostgreSQL's clock may be ahead of ours: what is due by
// the one must not seem to wait by the other.
const clockSkew = time.Second

// What a delivery waits for by itself; for the rest its endpoint has to be ready.
const (
	waitsRetry      = "retry"
	waitsRetryAfter = "retry_after"
	waitsSchedule   = "schedule"
)

func shownAttempt(a db.ListAttemptsRow) Attempt {
	shown := Attempt{
		N: a.N, StartedAt: a.StartedAt.UTC(), FinishedAt: utc(a.FinishedAt), Outcome: a.Outcome, Trigger: a.Trigger,
		ResponseCode: a.ResponseCode, ErrorClass: a.ErrorClass, ErrorMessage: a.ErrorMessage, AddressClass: a.AddressClass,
		DurationMs: a.DurationMs, DNSMs: a.DnsMs, ConnectMs: a.ConnectMs, TLSMs: a.TlsMs, FirstByteMs: a.FirstByteMs,
		RequestHeaders: shownHeaders(a.RequestHeaders), ResponseHeaders: shownHeaders(a.ResponseHeaders),
		ResponseTruncated: a.ResponseTruncated,
	}
	if a.ResponseBody != nil {
		shown.ResponseBody = &a.ResponseBody
		if utf8.Valid(a.ResponseBody) {
			text := string(a.ResponseBody)
			shown.ResponseText = &text
		}
	}
	return shown
}

// shownHeaders takes "Name: value" lines apart. A receiver may send values that
// are not UTF-8: of those, what is not becomes U+FFFD.
func shownHeaders(lines []byte) []Header {
	list := []Header{}
	for line := range bytes.Lines(lines) {
		name, value, ok := bytes.Cut(bytes.TrimRight(line, "\r\n"), []byte(": "))
		if ok {
			list = append(list, Header{Name: strings.ToValidUTF8(string(name), "\ufffd"), Value: strings.ToValidUTF8(string(value), "\ufffd")})
		}
	}
	return list
}

func utc(t *time.Time) *time.Time {
	if t == nil {
		return nil
	}
	u := t.UTC()
	return &u
}
