package endpoints

import (
	"encoding/json"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/google/uuid"
)

// What the API takes and gives. The tags are the OpenAPI document, and huma holds
// requests to them; rules.go has the rules that a tag can't say.

type createInput struct {
	Body NewEndpointBody
}

// NewEndpointBody is the body of a registration.
type NewEndpointBody struct {
	URL         string   `json:"url" minLength:"1" maxLength:"2048" doc:"Where deliveries are POSTed to: an absolute https URL of at most 2048 bytes in printable ASCII, without user info and fragment, on port 443 or 80, at a public address. Plain http and other addresses must be allowed in the configuration." example:"https://example.com/webhooks/cardwire"`
	Events      []string `json:"events" minItems:"1" maxItems:"20" maxLength:"128" nullable:"false" doc:"The event types that the endpoint gets, each once: types that this service knows." example:"card.viewed,contact.saved"`
	Description string   `json:"description,omitempty" maxLength:"256" doc:"One line for the owner to know the endpoint by." example:"Production CRM"`
}

// An Endpoint as its owner sees it. There is never a secret in it.
type Endpoint struct {
	ID             uuid.UUID `json:"id" format:"uuid" doc:"Time-ordered id." example:"01980c7a-4b5e-7c3d-9a1f-2e6b8d4f0a35"`
	URL            string    `json:"url" format:"uri" maxLength:"2048" doc:"Where deliveries are POSTed to, in normalized form." example:"https://example.com/webhooks/cardwire"`
	Events         []string  `json:"events" nullable:"false" minItems:"1" maxItems:"20" doc:"The event types that the endpoint gets." example:"card.viewed,contact.saved"`
	Description    string    `json:"description" maxLength:"256" doc:"The owner's words, or empty." example:"Production CRM"`
	IsActive       bool      `json:"isActive" doc:"Whether deliveries are made. False once the endpoint is disabled." example:"true"`
	DisabledReason *string   `json:"disabledReason" enum:"gone,failing,owner" doc:"Why deliveries are not made, or null: it answered 410 Gone, it failed for long, or its owner disabled it."`
	CreatedAt      time.Time `json:"createdAt" doc:"When it was registered." example:"2026-08-01T09:30:00.123456Z"`
	UpdatedAt      time.Time `json:"updatedAt" doc:"When it, or its secret, was last changed." example:"2026-08-02T17:45:10.654321Z"`
}

// TransformSchema makes the example one of an active endpoint.
func (Endpoint) TransformSchema(_ huma.Registry, s *huma.Schema) *huma.Schema {
	return exampleNull(s, "disabledReason")
}

// CreatedEndpoint is the one answer that shows the secret of a new endpoint.
type CreatedEndpoint struct {
	Endpoint
	Secret string `json:"secret" minLength:"64" maxLength:"64" pattern:"^[0-9a-f]{64}$" doc:"Key of the signatures, shown this once. The key is these 64 characters, not the bytes they spell; for a Standard Webhooks library, give it whsec_ and the base64 of the characters." example:"3f1c9a5be07d42684b9c0f7a1d2e8c563f1c9a5be07d42684b9c0f7a1d2e8c56"`
}

type createOutput struct {
	Body CreatedEndpoint
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
	ID      uuid.UUID `json:"id" format:"uuid" doc:"Id of the endpoint." example:"01980c7a-4b5e-7c3d-9a1f-2e6b8d4f0a35"`
	Secret  string    `json:"secret" minLength:"64" maxLength:"64" pattern:"^[0-9a-f]{64}$" doc:"The new secret, shown this once." example:"8c563f1c9a5be07d42684b9c0f7a1d2e8c563f1c9a5be07d42684b9c0f7a1d2e"`
	Message string    `json:"message" maxLength:"256" doc:"What becomes of the old secret, in a sentence." example:"The old secret stays valid until 2026-08-03T17:45:10Z."`
}

type rotateOutput struct {
	Body RotatedSecret
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
