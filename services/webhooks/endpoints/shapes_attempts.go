package endpoints

import (
	"time"

	"github.com/danielgtaylor/huma/v2"
)

// A Header is one line of an HTTP header.
type Header struct {
	Name  string `json:"name" doc:"Its name." example:"Content-Type"`
	Value string `json:"value" doc:"Its value. Signatures are left out." example:"application/json"`
}

// An Attempt is one HTTP try of a delivery.
type Attempt struct {
	N                 int32      `json:"n" minimum:"1" doc:"Its number, from 1." example:"1"`
	Trigger           *string    `json:"trigger" enum:"event,test,resend,recover,replay" doc:"What had made the delivery pending; null for attempts that are older than this." example:"event"`
	StartedAt         time.Time  `json:"startedAt" doc:"When it began." example:"2026-08-02T17:45:09.812345Z"`
	FinishedAt        *time.Time `json:"finishedAt" doc:"When its outcome was known; null while it is in flight." example:"2026-08-02T17:45:10.012345Z"`
	Outcome           *string    `json:"outcome" enum:"success,failure,interrupted" doc:"success: answered 2xx. failure: anything else. interrupted: cut off by us, the receiver may have got it. Null while in flight." example:"success"`
	ResponseCode      *int32     `json:"responseCode" minimum:"100" maximum:"999" doc:"Status of the answer, or null if there was none." example:"200"`
	ErrorClass        *string    `json:"errorClass" maxLength:"64" doc:"Kind of failure in a word, or null."`
	ErrorMessage      *string    `json:"errorMessage" doc:"What was wrong, in a sentence, or null."`
	AddressClass      *string    `json:"addressClass" enum:"public,allowed,refused" doc:"What kind of address was called: a public one, one of a network that the configuration allows, or none, as it must not be called. Null if it did not come to that." example:"public"`
	DurationMs        *int32     `json:"durationMs" minimum:"0" doc:"How long it took, in milliseconds; null while in flight." example:"187"`
	DNSMs             *int32     `json:"dnsMs" minimum:"0" doc:"Of that, looking up the name; null on a kept connection." example:"4"`
	ConnectMs         *int32     `json:"connectMs" minimum:"0" doc:"Of that, connecting; null on a kept connection." example:"21"`
	TLSMs             *int32     `json:"tlsMs" minimum:"0" doc:"Of that, the TLS handshake; null on a kept connection and without TLS." example:"48"`
	FirstByteMs       *int32     `json:"firstByteMs" minimum:"0" doc:"Of that, from the request's last byte to the answer's first; null if none came." example:"112"`
	RequestHeaders    []Header   `json:"requestHeaders" nullable:"false" doc:"What was sent before the payload, signatures left out. Empty while in flight."`
	ResponseHeaders   []Header   `json:"responseHeaders" nullable:"false" doc:"What was answered before the body, at most 8 KiB of it."`
	ResponseBody      *[]byte    `json:"responseBody" contentEncoding:"base64" doc:"The body of the answer in base64, at most 64 KiB of it. Null if there was no answer, and for those that are beyond the latest 2 MiB of a delivery." example:"b2s="`
	ResponseText      *string    `json:"responseText" doc:"The same as text, if it is UTF-8; else null." example:"ok"`
	ResponseTruncated bool       `json:"responseTruncated" doc:"Whether the body went on beyond what was kept." example:"false"`
}

// TransformSchema makes the example one of an attempt that succeeded.
func (Attempt) TransformSchema(_ huma.Registry, s *huma.Schema) *huma.Schema {
	return exampleNull(s, "errorClass", "errorMessage")
}

// A DeliveryWithAttempts is a delivery with its history.
type DeliveryWithAttempts struct {
	Delivery
	AttemptLog []Attempt `json:"attemptLog" nullable:"false" maxItems:"100" doc:"The attempts in their order, the latest 100 of them."`
}

type deliveryOutput struct {
	Body DeliveryWithAttempts
}
