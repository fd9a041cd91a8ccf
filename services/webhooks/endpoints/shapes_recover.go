package endpoints

import (
	"time"

	"github.com/google/uuid"
)

type resendInput struct {
	KeyHeader
	EndpointPath
	DeliveryID ID `path:"deliveryId" format:"uuid" doc:"Id of the delivery." example:"01980d90-1f2a-7b4c-8d5e-6f708192a3b4"`
}

// TestSent says what to look for in the log.
type TestSent struct {
	EventID    uuid.UUID `json:"eventId" format:"uuid" doc:"The test event; the endpoint gets it as webhook-id." example:"01980d90-1f2a-7e6d-b5c4-a39281706f5e"`
	DeliveryID uuid.UUID `json:"deliveryId" format:"uuid" doc:"Its delivery, which is there within moments." example:"01980d90-1f2a-7b4c-8d5e-6f708192a3b4"`
}

type testInput struct {
	KeyHeader
	EndpointPath
}

type recoverInput struct {
	KeyHeader
	EndpointPath
	Body RecoverBody
}

// RecoverBody says what to send again.
type RecoverBody struct {
	Since   time.Time  `json:"since" doc:"Of events of this time (RFC 3339) or later; not before what is kept." example:"2026-08-02T00:00:00Z"`
	Until   *time.Time `json:"until,omitempty" doc:"And before this time; now, if that is missing or later." example:"2026-08-03T00:00:00Z"`
	Missing bool       `json:"missing,omitempty" doc:"Whether to make the deliveries too that the endpoint should have, and has not." example:"false"`
}

type recoveryInput struct {
	EndpointPath
	RecoveryID ID `path:"recoveryId" format:"uuid" doc:"Id of the recovery." example:"01980e12-3c4d-7a5b-9c6d-7e8f90a1b2c3"`
}

type recoveriesInput struct {
	EndpointPath
	Limit int `query:"limit" minimum:"1" maximum:"100" default:"20" doc:"Most recoveries to return." example:"20"`
}

// A Recovery sends again what failed in a range of time.
type Recovery struct {
	ID         uuid.UUID  `json:"id" format:"uuid" doc:"Time-ordered id." example:"01980e12-3c4d-7a5b-9c6d-7e8f90a1b2c3"`
	EndpointID uuid.UUID  `json:"endpointId" format:"uuid" doc:"The endpoint." example:"01980c7a-4b5e-7c3d-9a1f-2e6b8d4f0a35"`
	Since      time.Time  `json:"since" doc:"It is about events of this time or later," example:"2026-08-02T00:00:00Z"`
	Until      time.Time  `json:"until" doc:"and before this time." example:"2026-08-03T00:00:00Z"`
	Missing    bool       `json:"missing" doc:"Whether it makes missing deliveries too." example:"false"`
	Status     string     `json:"status" enum:"running,finished" doc:"running: goes on in the background. finished: all it is about is pending again, or it has been since; or the endpoint was disabled or deleted." example:"finished"`
	Recovered  int64      `json:"recovered" minimum:"0" doc:"Deliveries that it made pending so far." example:"1204"`
	CreatedAt  time.Time  `json:"createdAt" doc:"When it was asked for." example:"2026-08-03T09:00:00.123456Z"`
	FinishedAt *time.Time `json:"finishedAt" doc:"When it finished; null while it is running." example:"2026-08-03T09:00:02.345678Z"`
}

type recoveryOutput struct {
	Body Recovery
}

type recoveriesOutput struct {
	Body []Recovery `nullable:"false" doc:"The recoveries, newest first."`
}
