package endpoints

import (
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/google/uuid"
)

// deliveriesInput bounds how deep the log can be paged, with the largest pages
// to the newest 100,000 deliveries: each page reads past all before it.
type deliveriesInput struct {
	EndpointPath
	Page  int `query:"page" minimum:"1" maximum:"1000" default:"1" doc:"Which page, from 1. A page beyond the last is empty." example:"1"`
	Limit int `query:"limit" minimum:"1" maximum:"100" default:"20" doc:"Most deliveries on a page." example:"20"`
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
	ResponseCode *int32     `json:"responseCode" minimum:"100" maximum:"999" doc:"Status of the latest answer, or null if there was none." example:"200"`
	Attempts     int32      `json:"attempts" minimum:"0" doc:"How many attempts have begun." example:"1"`
	NextRetryAt  *time.Time `json:"nextRetryAt" doc:"When the next attempt is due; null once nothing more will be tried."`
	CreatedAt    time.Time  `json:"createdAt" doc:"When the event was fanned out to the endpoint." example:"2026-08-02T17:45:09.612345Z"`
	UpdatedAt    time.Time  `json:"updatedAt" doc:"When it last changed." example:"2026-08-02T17:45:10.012345Z"`
	ErrorMessage *string    `json:"errorMessage" doc:"What was wrong with the latest attempt, in a sentence, or null."`
	DeliveredAt  *time.Time `json:"deliveredAt" doc:"When it was answered 2xx, or null." example:"2026-08-02T17:45:10.012345Z"`
}

// TransformSchema makes the example one of a delivery that succeeded.
func (Delivery) TransformSchema(_ huma.Registry, s *huma.Schema) *huma.Schema {
	return exampleNull(s, "reason", "nextRetryAt", "errorMessage")
}

// Pagination says where in the log a page is.
type Pagination struct {
	Page       int   `json:"page" minimum:"1" maximum:"1000" doc:"This page." example:"1"`
	Limit      int   `json:"limit" minimum:"1" maximum:"100" doc:"Most deliveries on a page." example:"20"`
	Total      int64 `json:"total" minimum:"0" doc:"Deliveries in the log: as far back as retention goes." example:"1"`
	TotalPages int64 `json:"totalPages" minimum:"0" doc:"Pages that they fill. Those beyond page 1000 can't be read." example:"1"`
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

// An Attempt is one HTTP try of a delivery.
type Attempt struct {
	N            int32      `json:"n" minimum:"1" doc:"Its number, from 1." example:"1"`
	StartedAt    time.Time  `json:"startedAt" doc:"When it began." example:"2026-08-02T17:45:09.812345Z"`
	FinishedAt   *time.Time `json:"finishedAt" doc:"When its outcome was known; null while it is in flight." example:"2026-08-02T17:45:10.012345Z"`
	Outcome      *string    `json:"outcome" enum:"success,failure,interrupted" doc:"success: answered 2xx. failure: anything else. interrupted: cut off by us, the receiver may have got it. Null while in flight." example:"success"`
	ResponseCode *int32     `json:"responseCode" minimum:"100" maximum:"999" doc:"Status of the answer, or null if there was none." example:"200"`
	ErrorClass   *string    `json:"errorClass" doc:"Kind of failure in a word, or null."`
	ErrorMessage *string    `json:"errorMessage" doc:"What was wrong, in a sentence, or null."`
	DurationMs   *int32     `json:"durationMs" minimum:"0" doc:"How long it took, in milliseconds; null while in flight." example:"187"`
}

// TransformSchema makes the example one of an attempt that succeeded.
func (Attempt) TransformSchema(_ huma.Registry, s *huma.Schema) *huma.Schema {
	return exampleNull(s, "errorClass", "errorMessage")
}

// A DeliveryWithAttempts is a delivery with its history.
type DeliveryWithAttempts struct {
	Delivery
	AttemptLog []Attempt `json:"attemptLog" nullable:"false" maxItems:"100" doc:"The attempts in their order, the first 100 of them."`
}

type deliveryOutput struct {
	Body DeliveryWithAttempts
}
