package endpoints

import (
	"errors"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/google/uuid"
)

// deliveriesInput bounds how deep the log can be paged by number, with the
// largest pages to the newest 100,000 deliveries: each page reads past all before
// it. A cursor goes on from where it is.
type deliveriesInput struct {
	EndpointPath
	Page      int    `query:"page" minimum:"1" maximum:"1000" default:"1" doc:"Which page, from 1. A page beyond the last is empty. Not with a cursor or a filter." example:"1"`
	Limit     int    `query:"limit" minimum:"1" maximum:"100" default:"20" doc:"Most deliveries on a page." example:"20"`
	Cursor    string `query:"cursor" maxLength:"128" doc:"The nextCursor of a page of this endpoint's log: reads on after it, with the filters of this request." example:"AUq0v2kWc2Y0"`
	Status    string `query:"status" enum:"pending,success,failed" doc:"Only deliveries that are this now." example:"failed"`
	EventType string `query:"eventType" maxLength:"128" doc:"Only deliveries of events of this type." example:"card.viewed"`
	Since     Time   `query:"since" format:"date-time" maxLength:"64" doc:"Only deliveries of events of this time (RFC 3339) or later, to the millisecond." example:"2026-08-02T00:00:00Z"`
	Until     Time   `query:"until" format:"date-time" maxLength:"64" doc:"Only deliveries of events before this time (RFC 3339), to the millisecond." example:"2026-08-03T00:00:00Z"`
}

// A Time is a time in a query. The zero value is a missing one.
type Time struct{ time.Time }

// UnmarshalText takes what RFC 3339 has.
func (t *Time) UnmarshalText(text []byte) error {
	if err := t.Time.UnmarshalText(text); err != nil {
		return errors.New("must be a time as in RFC 3339, such as 2026-08-02T17:45:10Z; + is written %2B")
	}
	return nil
}

// A Delivery is one event on its way to one endpoint.
type Delivery struct {
	ID           uuid.UUID  `json:"id" format:"uuid" doc:"Time-ordered id, of the event's time." example:"01980d90-1f2a-7b4c-8d5e-6f708192a3b4"`
	EndpointID   uuid.UUID  `json:"endpointId" format:"uuid" doc:"The endpoint it goes to." example:"01980c7a-4b5e-7c3d-9a1f-2e6b8d4f0a35"`
	EventID      uuid.UUID  `json:"eventId" format:"uuid" doc:"The event. The endpoint gets it as webhook-id, the same on every attempt." example:"01980d90-1f2a-7e6d-b5c4-a39281706f5e"`
	EventType    string     `json:"eventType" maxLength:"128" doc:"Type of the event." example:"card.viewed"`
	Payload      Payload    `json:"payload" doc:"What is sent: the event's body. Null if retention took it, and in a list for those beyond the first 4 MiB."`
	Status       string     `json:"status" enum:"pending,success,failed" doc:"pending: will be attempted, or attempted again. success: an attempt was answered 2xx. failed: given up, see reason." example:"success"`
	Reason       *string    `json:"reason" enum:"exhausted,refused_address,endpoint_disabled,endpoint_deleted,interrupted" doc:"Why it was given up, or null: all attempts failed, the address must not be called, the endpoint was disabled or deleted, or attempts were cut off by us too often."`
	Trigger      string     `json:"trigger" enum:"event,test,resend,recover,replay" doc:"What made it pending, last: its event, a test of the endpoint, a resend, a recovery or a replay." example:"event"`
	ReplayID     *uuid.UUID `json:"replayId" nullable:"true" format:"uuid" doc:"The replay that made it, which the endpoint gets as webhook-replay; null if none did."`
	ResponseCode *int32     `json:"responseCode" minimum:"100" maximum:"999" doc:"Status of the latest answer, or null if there was none." example:"200"`
	Attempts     int32      `json:"attempts" minimum:"0" doc:"How many attempts have begun." example:"1"`
	WaitsFor     *string    `json:"waitsFor" enum:"retry,schedule,retry_after,at_capacity,rate_limited,circuit_open,paused" doc:"What a pending delivery waits for, or null if for nothing but its turn. retry: its time, after a failure. schedule: the same, by the endpoint's own schedule. retry_after: the time that the endpoint asked for. The others wait for their endpoint. at_capacity: as many attempts as may be are in flight. rate_limited: its rate is spent. circuit_open: it failed too often in a row, and is tried now and then. paused: it asked for a pause."`
	NextRetryAt  *time.Time `json:"nextRetryAt" doc:"When the next attempt is due; of what waits for its endpoint, when that may be ready. Null once nothing more will be tried, and while it is not known."`
	CreatedAt    time.Time  `json:"createdAt" doc:"When the event was fanned out to the endpoint." example:"2026-08-02T17:45:09.612345Z"`
	UpdatedAt    time.Time  `json:"updatedAt" doc:"When it last changed." example:"2026-08-02T17:45:10.012345Z"`
	ErrorMessage *string    `json:"errorMessage" doc:"What was wrong with the latest attempt, in a sentence, or null."`
	DeliveredAt  *time.Time `json:"deliveredAt" doc:"When it was answered 2xx, or null." example:"2026-08-02T17:45:10.012345Z"`
}

// TransformSchema makes the example one of a delivery that succeeded.
func (Delivery) TransformSchema(_ huma.Registry, s *huma.Schema) *huma.Schema {
	return exampleNull(s, "reason", "replayId", "waitsFor", "nextRetryAt", "errorMessage")
}

// Pagination says where in the log a page is. To count what a filter lets
// through would be to read the whole log, so totals are of the whole log or null.
type Pagination struct {
	Page       *int    `json:"page" minimum:"1" maximum:"1000" doc:"This page; null with a cursor or a filter." example:"1"`
	Limit      int     `json:"limit" minimum:"1" maximum:"100" doc:"Most deliveries on a page." example:"20"`
	Total      *int64  `json:"total" minimum:"0" doc:"Deliveries in the log: as far back as retention goes. Null with a cursor or a filter: to count what a filter lets through is to read the whole log." example:"1"`
	TotalPages *int64  `json:"totalPages" minimum:"0" doc:"Pages that they fill; null like total. Those beyond page 1000 are read by cursor." example:"1"`
	NextCursor *string `json:"nextCursor" maxLength:"128" doc:"What to send as cursor to read on; null at the end of the log. A page with filters that is short, or even empty, has one as well: each page looks at 2,000 deliveries at most."`
}

// TransformSchema makes the example one of the last page.
func (Pagination) TransformSchema(_ huma.Registry, s *huma.Schema) *huma.Schema {
	return exampleNull(s, "nextCursor")
}

// A DeliveryPage is a page of an endpoint's log.
type DeliveryPage struct {
	Data       []Delivery `json:"data" nullable:"false" maxItems:"100" doc:"The deliveries, newest event first."`
	Pagination Pagination `json:"pagination" doc:"Where in the log the page is."`
}

type deliveriesOutput struct {
	Body DeliveryPage
}

type deliveryInput struct {
	EndpointPath
	DeliveryID ID `path:"deliveryId" format:"uuid" doc:"Id of the delivery." example:"01980d90-1f2a-7b4c-8d5e-6f708192a3b4"`
}
