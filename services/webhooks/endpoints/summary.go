package endpoints

import (
	"context"
	"fmt"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/google/uuid"

	"github.com/cardwire/cardwire/events"
	"github.com/cardwire/cardwire/services/internal/delivery"
	"github.com/cardwire/cardwire/sql/db"
)

// Bounds of a summary. A busy endpoint may have a million deliveries a day, and a
// page that shows a summary is loaded often.
const (
	summaryTime       = 24 * time.Hour
	maxSummarized     = 10_000 // deliveries to count: some 10 ms
	maxSummarizedTook = 500    // deliveries whose attempts are looked up one by one: some 5 ms
)

// Values of endpoint_states.circuit.
const (
	circuitClosed   = "closed"
	circuitOpen     = "open"
	circuitHalfOpen = "half_open"
)

// A Summary is what an endpoint's last 24 hours were like.
type Summary struct {
	Since      time.Time  `json:"since" doc:"Counted are deliveries of events from here on: 24 hours ago, or later if there were more than 10,000 since." example:"2026-08-01T17:45:10.012Z"`
	Delivered  int64      `json:"delivered" minimum:"0" maximum:"10000" doc:"Deliveries that succeeded." example:"1204"`
	Failed     int64      `json:"failed" minimum:"0" maximum:"10000" doc:"Deliveries that were given up." example:"3"`
	Waiting    int64      `json:"waiting" minimum:"0" maximum:"10000" doc:"Deliveries that are pending." example:"12"`
	Attempts   int64      `json:"attempts" minimum:"0" doc:"Attempts that the durations are of: those that ended, of the newest 500 deliveries." example:"508"`
	P50Ms      *int32     `json:"p50Ms" minimum:"0" doc:"Median of their durations, in milliseconds; null if there are none." example:"84"`
	P95Ms      *int32     `json:"p95Ms" minimum:"0" doc:"95th percentile of their durations, in milliseconds; null if there are none." example:"310"`
	State      string     `json:"state" enum:"active,failing,half_open,open,disabled" doc:"active: all is well. failing: attempts fail, and none succeeded since. open: deliveries wait until later, as it failed too often in a row or asked for a pause. half_open: a few are let through to see how it is. disabled: gets nothing." example:"active"`
	Reason     *string    `json:"reason" enum:"gone,failing,owner,circuit_open,paused" doc:"Why it is disabled (see disabledReason of the endpoint), open or half open, or null."`
	StateSince *time.Time `json:"stateSince" doc:"Since when it is disabled, or attempts fail; else null."`
	Until      *time.Time `json:"until" doc:"While open: when the next attempt is let through; else null."`
}

// TransformSchema makes the example one of an active endpoint.
func (Summary) TransformSchema(_ huma.Registry, s *huma.Schema) *huma.Schema {
	return exampleNull(s, "reason", "stateSince", "until")
}

type summaryOutput struct {
	Body Summary
}

func (a *API) summary(ctx context.Context, user uuid.UUID, in *EndpointPath) (*summaryOutput, error) {
	endpoint, err := a.store.Get(ctx, user, uuid.UUID(in.ID))
	if err != nil {
		return nil, err
	}
	q := db.New(a.store.DB)
	since := time.Now().Add(-summaryTime).UTC().Truncate(time.Millisecond)
	low := delivery.Floor(since)
	counts, err := q.SummarizeDeliveries(ctx, db.SummarizeDeliveriesParams{EndpointID: endpoint.ID, Low: low, MaxExamined: maxSummarized})
	if err != nil {
		return nil, fmt.Errorf("summarize deliveries of endpoint %v: %w", endpoint.ID, err)
	}
	took, err := durations(ctx, q, endpoint.ID, low)
	if err != nil {
		return nil, fmt.Errorf("summarize attempts of endpoint %v: %w", endpoint.ID, err)
	}
	state, err := readState(ctx, q, endpoint.ID)
	if err != nil {
		return nil, err
	}
	if counts.Examined == maxSummarized {
		since = events.IDTime(counts.Oldest)
	}
	s := Summary{Since: since, Delivered: counts.Delivered, Failed: counts.Failed, Waiting: counts.Waiting, Attempts: took.Attempts}
	if took.Attempts > 0 {
		s.P50Ms, s.P95Ms = &took.P50, &took.P95
	}
	s.setState(endpoint, state)
	return &summaryOutput{s}, nil
}

// durations summarizes the attempts of the newest deliveries from an id on.
func durations(ctx context.Context, q *db.Queries, endpointID, low uuid.UUID) (db.AttemptDurationsRow, error) {
	ids, err := q.NewestDeliveries(ctx, db.NewestDeliveriesParams{EndpointID: endpointID, Low: low, MaxRows: maxSummarizedTook})
	if err != nil || len(ids) == 0 {
		return db.AttemptDurationsRow{}, err
	}
	return q.AttemptDurations(ctx, db.AttemptDurationsParams{Ids: ids, Low: ids[len(ids)-1], High: ids[0]})
}

// setState says how the endpoint fares, by what matters most.
func (s *Summary) setState(e db.Endpoint, state db.EndpointStateRow) {
	switch {
	case !e.IsActive:
		s.State, s.Reason, s.StateSince = "disabled", e.DisabledReason, utc(e.DisabledAt)
	case state.Circuit == circuitOpen:
		s.State, s.Reason, s.StateSince, s.Until = circuitOpen, state.CircuitReason, utc(state.FailingSince), utc(state.CircuitUntil)
	case state.Circuit == circuitHalfOpen:
		s.State, s.Reason, s.StateSince = circuitHalfOpen, state.CircuitReason, utc(state.FailingSince)
	case state.FailingSince != nil:
		s.State, s.StateSince = "failing", utc(state.FailingSince)
	default:
		s.State = "active"
	}
}
