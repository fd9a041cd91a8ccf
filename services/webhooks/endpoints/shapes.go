package endpoints

import (
	"encoding/json"
	"reflect"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/google/uuid"

	"github.com/cardwire/cardwire/services/internal/subscription"
)

// What the API takes and gives. The tags are the OpenAPI document, and huma holds
// requests to them; rules.go has the rules that a tag can't say.

type createInput struct {
	KeyHeader
	Body NewEndpointBody
}

// NewEndpointBody is the body of a registration.
type NewEndpointBody struct {
	URL         string   `json:"url" minLength:"1" maxLength:"2048" doc:"Where deliveries are POSTed to: an absolute https URL of at most 2048 bytes in printable ASCII, without user info and fragment, on port 443 or 80, at a public address. Plain http and other addresses must be allowed in the configuration." example:"https://example.com/webhooks/cardwire"`
	Events      []string `json:"events" minItems:"1" maxItems:"20" maxLength:"128" nullable:"false" doc:"The event types that the endpoint gets, each once: types that this service knows; card.* for all that begin with card. and a dot; * for all but the operational ones (endpoint.disabled, message.attempt.exhausted, message.attempt.recovered)." example:"card.*,contact.saved"`
	Filter      Filter   `json:"filter,omitempty" doc:"Which of these events the endpoint gets: conditions on fields of their data, all of which must hold. A name is a path of names joined by dots, a value is what the field must be: a string, number, true, false or null; an array of 1 to 50 of those, one of which it must be; {\"exists\": true or false}; or for numbers {\"gte\": 100, \"lt\": 500} (gt, gte, lt, lte). 1 to 20 conditions, 4096 bytes in all; null for all events."`
	Description string   `json:"description,omitempty" maxLength:"256" doc:"One line for the owner to know the endpoint by." example:"Production CRM"`
	Secret      string   `json:"secret,omitempty" writeOnly:"true" minLength:"38" maxLength:"94" doc:"A signing secret that you have already: whsec_ and the base64 of 24 to 64 bytes, which are the key. If missing, a fresh one is made." example:"whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSwMfKQ9r8GKYo="`
	Asymmetric  bool     `json:"asymmetric,omitempty" doc:"Whether requests are signed by an ed25519 key too (v1a, an item of webhook-signature): whoever verifies needs no secret, only publicKey of the answer." example:"true"`

	MaxInFlight   *int32   `json:"maxInFlight,omitempty" nullable:"true" minimum:"1" maximum:"100" doc:"Most attempts at once, of each deliverer; null for the deliverer's setting." example:"10"`
	RateLimit     *int32   `json:"rateLimit,omitempty" nullable:"true" minimum:"1" maximum:"1000" doc:"Most attempts begun per second, of each deliverer; null for no limit." example:"50"`
	RetrySchedule []string `json:"retrySchedule,omitempty" nullable:"true" maxItems:"20" maxLength:"32" doc:"Pauses after the first, second, … failure, each 1s to 24h in whole milliseconds and 168h in all; empty for a single attempt, null for the deliverer's setting." example:"30s,5m,1h30m"`
}

type updateInput struct {
	EndpointPath
	Body UpdateBody
}

// An UpdateBody is what changes of an endpoint: what is missing stays as it is.
type UpdateBody struct {
	URL           Optional[string]   `json:"url" required:"false" minLength:"1" maxLength:"2048" doc:"As in a registration. Another URL begins anew: what is known of failures is forgotten." example:"https://example.com/webhooks/cardwire"`
	Events        Optional[[]string] `json:"events" required:"false" minItems:"1" maxItems:"20" maxLength:"128" nullable:"false" doc:"As in a registration: all the event types that the endpoint gets from now on." example:"card.*,contact.saved"`
	Filter        Optional[Filter]   `json:"filter" required:"false" doc:"As in a registration: the whole filter; null for none."`
	Description   Optional[string]   `json:"description" required:"false" nullable:"true" maxLength:"256" doc:"As in a registration; null for none." example:"Production CRM"`
	IsActive      Optional[bool]     `json:"isActive" required:"false" doc:"false disables the endpoint: what is pending is given up, and nothing is kept for it. true enables it again, whyever it was disabled." example:"true"`
	Asymmetric    Optional[bool]     `json:"asymmetric" required:"false" doc:"true makes a key pair beside the current secret, unless there is one; false drops it, at once." example:"true"`
	MaxInFlight   Optional[int32]    `json:"maxInFlight" required:"false" nullable:"true" minimum:"1" maximum:"100" doc:"Most attempts at once, of each deliverer; null for the deliverer's setting." example:"10"`
	RateLimit     Optional[int32]    `json:"rateLimit" required:"false" nullable:"true" minimum:"1" maximum:"1000" doc:"Most attempts begun per second, of each deliverer; null for no limit." example:"50"`
	RetrySchedule Optional[[]string] `json:"retrySchedule" required:"false" nullable:"true" maxItems:"20" maxLength:"32" doc:"Pauses after the first, second, … failure, each 1s to 24h in whole milliseconds and 168h in all; empty for a single attempt, null for the deliverer's setting." example:"30s,5m,1h30m"`
}

// TransformSchema says that there must be a member.
func (UpdateBody) TransformSchema(_ huma.Registry, s *huma.Schema) *huma.Schema {
	one := 1
	s.MinProperties = &one
	return s
}

// An Endpoint as its owner sees it. There is never a secret in it.
type Endpoint struct {
	ID             uuid.UUID  `json:"id" format:"uuid" doc:"Time-ordered id." example:"01980c7a-4b5e-7c3d-9a1f-2e6b8d4f0a35"`
	URL            string     `json:"url" format:"uri" maxLength:"2048" doc:"Where deliveries are POSTed to, in normalized form." example:"https://example.com/webhooks/cardwire"`
	Events         []string   `json:"events" nullable:"false" minItems:"1" maxItems:"20" doc:"The event types that the endpoint gets, or patterns of them." example:"card.*,contact.saved"`
	Filter         Filter     `json:"filter" doc:"Which of these events it gets, by their data; null for all."`
	Description    string     `json:"description" maxLength:"256" doc:"The owner's words, or empty." example:"Production CRM"`
	IsActive       bool       `json:"isActive" doc:"Whether deliveries are made. False once the endpoint is disabled." example:"true"`
	DisabledReason *string    `json:"disabledReason" enum:"gone,failing,owner" doc:"Why deliveries are not made, or null: it answered 410 Gone, it failed for long, or its owner disabled it."`
	DisabledAt     *time.Time `json:"disabledAt" doc:"Since when deliveries are not made, or null."`
	MaxInFlight    *int32     `json:"maxInFlight" minimum:"1" maximum:"100" doc:"Most attempts at once, of each deliverer; null for the deliverer's setting." example:"10"`
	RateLimit      *int32     `json:"rateLimit" minimum:"1" maximum:"1000" doc:"Most attempts begun per second, of each deliverer; null for no limit." example:"50"`
	RetrySchedule  []string   `json:"retrySchedule" nullable:"true" maxItems:"20" maxLength:"32" doc:"Pauses after the first, second, … failure, each 1s to 24h in whole milliseconds and 168h in all; empty for a single attempt, null for the deliverer's setting." example:"30s,5m,1h30m"`
	PublicKey      *string    `json:"publicKey" minLength:"49" maxLength:"49" pattern:"^whpk_[A-Za-z0-9+/]{43}=$" doc:"The key that verifies v1a signatures: whpk_ and the base64 of its 32 bytes; null if the endpoint is not asymmetric. That of before a rotation is no longer shown." example:"whpk_11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo="`
	CreatedAt      time.Time  `json:"createdAt" doc:"When it was registered." example:"2026-08-01T09:30:00.123456Z"`
	UpdatedAt      time.Time  `json:"updatedAt" doc:"When it, or its secret, was last changed." example:"2026-08-02T17:45:10.654321Z"`
}

// TransformSchema makes the example one of an active endpoint.
func (Endpoint) TransformSchema(_ huma.Registry, s *huma.Schema) *huma.Schema {
	return exampleNull(s, "disabledReason", "disabledAt")
}

// CreatedEndpoint is the one answer that shows the secret of a new endpoint.
type CreatedEndpoint struct {
	Endpoint
	Secret string `json:"secret" minLength:"38" maxLength:"94" pattern:"^([0-9a-f]{64}|whsec_[A-Za-z0-9+/]{32,86}={0,2})$" doc:"Key of the signatures, shown this once. If it is 64 hex characters, the key is these characters, not the bytes they spell; for a Standard Webhooks library, give it whsec_ and the base64 of the characters. If it was given, it is as it was given." example:"3f1c9a5be07d42684b9c0f7a1d2e8c563f1c9a5be07d42684b9c0f7a1d2e8c56"`
}

// UpdatedEndpoint is the answer to a change.
type UpdatedEndpoint struct {
	Endpoint
	Missed *Missed `json:"missed" doc:"What to do about the time when the endpoint was disabled: since says when that was (what happened since was never sent to it, what was pending then, of earlier events, was given up), recover is the path to POST {\"since\": …} to, with missing for what was never sent. Null unless this enabled it."`
}

// Missed says since when an endpoint got nothing, and how to make up for it.
type Missed struct {
	Since   time.Time `json:"since" doc:"When it was disabled. What happened since was never sent to it; what was pending then, of earlier events, was given up." example:"2026-08-02T17:45:10.654321Z"`
	Recover string    `json:"recover" format:"uri-reference" maxLength:"128" doc:"The path to POST {\"since\": …} to, with this since and, for what was never sent, \"missing\": true." example:"/api/webhooks/01980c7a-4b5e-7c3d-9a1f-2e6b8d4f0a35/recover"`
}

// Schema is written out where it is used: a reference could not be null.
func (Missed) Schema(r huma.Registry) *huma.Schema {
	type members Missed // without this method
	s := huma.SchemaFromType(r, reflect.TypeFor[members]())
	s.Nullable = true
	s.Examples = []any{map[string]any{
		"since": "2026-08-02T17:45:10.654321Z", "recover": "/api/webhooks/01980c7a-4b5e-7c3d-9a1f-2e6b8d4f0a35/recover",
	}}
	return s
}

type updateOutput struct {
	Body UpdatedEndpoint
}

type listInput struct {
	Limit int `query:"limit" minimum:"1" maximum:"100" default:"20" doc:"Most endpoints to return." example:"20"`
}

type listOutput struct {
	Body []Endpoint `nullable:"false" doc:"The caller's endpoints, newest first."`
}

// An EndpointPath is the part of a path that names an endpoint.
type EndpointPath struct {
	ID ID `path:"id" format:"uuid" doc:"Id of the endpoint." example:"01980c7a-4b5e-7c3d-9a1f-2e6b8d4f0a35"`
}

type endpointOutput struct {
	Body Endpoint
}

type emptyOutput struct{}

type rotateInput struct {
	EndpointPath
	Overlap string `query:"overlap" maxLength:"32" doc:"How long the old secret stays valid beside the new one, from 0s (ends now) to 168h. If missing, the service's setting, usually 24h." example:"1h30m"`
}

// RotatedSecret is the one answer that shows a rotated secret.
type RotatedSecret struct {
	ID        uuid.UUID `json:"id" format:"uuid" doc:"Id of the endpoint." example:"01980c7a-4b5e-7c3d-9a1f-2e6b8d4f0a35"`
	Secret    string    `json:"secret" minLength:"64" maxLength:"64" pattern:"^[0-9a-f]{64}$" doc:"The new secret, shown this once." example:"8c563f1c9a5be07d42684b9c0f7a1d2e8c563f1c9a5be07d42684b9c0f7a1d2e"`
	PublicKey *string   `json:"publicKey" minLength:"49" maxLength:"49" pattern:"^whpk_[A-Za-z0-9+/]{43}=$" doc:"The new public key, or null if the endpoint is not asymmetric." example:"whpk_11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo="`
	Message   string    `json:"message" maxLength:"256" doc:"What becomes of the old secret, in a sentence." example:"The old secret stays valid until 2026-08-03T17:45:10Z."`
}

type rotateOutput struct {
	Body RotatedSecret
}

// A Filter is conditions on the data of events, or null. See package subscription.
type Filter struct{ json.RawMessage }

// Schema says that it is an object of conditions.
func (Filter) Schema(huma.Registry) *huma.Schema {
	most := subscription.MaxConditions
	return &huma.Schema{
		Type: huma.TypeObject, Nullable: true, AdditionalProperties: true, MaxProperties: &most,
		Examples: []any{map[string]any{"source": []string{"qr", "nfc"}, "viewerId": map[string]any{"exists": true}}},
	}
}

// A Payload is the body of an event as it is sent, or null.
type Payload struct{ json.RawMessage }

// Schema says that it is any object.
func (Payload) Schema(huma.Registry) *huma.Schema {
	return &huma.Schema{
		Type: huma.TypeObject, Nullable: true, AdditionalProperties: true,
		Examples: []any{map[string]any{
			"type": "card.viewed", "timestamp": "2026-08-02T17:45:09.5Z",
			"data": map[string]any{"cardId": nil, "viewerId": nil, "username": "alice", "source": "link"},
		}},
	}
}
