package endpoints

import (
	"encoding/json"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/google/uuid"
)

type auditInput struct {
	EndpointID ID     `query:"endpointId" format:"uuid" doc:"Only what was done to this endpoint, which may be deleted." example:"01980c7a-4b5e-7c3d-9a1f-2e6b8d4f0a35"`
	Limit      int    `query:"limit" minimum:"1" maximum:"100" default:"20" doc:"Most records to return." example:"20"`
	Cursor     string `query:"cursor" maxLength:"128" doc:"nextCursor of the page before." example:"AXH1J2kZb0"`
}

// An AuditRecord says who did what to an endpoint.
type AuditRecord struct {
	ID         uuid.UUID `json:"id" format:"uuid" doc:"Time-ordered id." example:"01980e12-3c4d-7a5b-9c6d-7e8f90a1b2c3"`
	EndpointID uuid.UUID `json:"endpointId" format:"uuid" doc:"The endpoint. It may be deleted. All zeros: all of the user's, as of a replay to all." example:"01980c7a-4b5e-7c3d-9a1f-2e6b8d4f0a35"`
	Actor      string    `json:"actor" maxLength:"128" doc:"Who did it: user: and a user's id, key: and the id of an API key, or deliverer." example:"user:00000000-0000-7000-8000-000000000001"`
	Action     string    `json:"action" maxLength:"64" doc:"What was done, such as endpoint.created, endpoint.updated, endpoint.enabled, endpoint.disabled, endpoint.deleted, endpoint.tested, secret.rotated, delivery.resent, recovery.started, replay.started, replay.paused, replay.resumed, replay.cancelled." example:"endpoint.updated"`
	Details    Details   `json:"details" doc:"What of it changed. Never a secret; of a URL not the query."`
	CreatedAt  time.Time `json:"createdAt" doc:"When." example:"2026-08-02T17:45:10.654321Z"`
}

// An AuditPage is a page of the audit log.
type AuditPage struct {
	Data       []AuditRecord `json:"data" nullable:"false" maxItems:"100" doc:"The records, newest first."`
	NextCursor *string       `json:"nextCursor" maxLength:"128" doc:"Where the next page begins, or null if this is the last."`
}

// TransformSchema makes the example one of a last page.
func (AuditPage) TransformSchema(_ huma.Registry, s *huma.Schema) *huma.Schema {
	return exampleNull(s, "nextCursor")
}

type auditOutput struct {
	Body AuditPage
}

// Details are members by action.
type Details struct{ json.RawMessage }

// Schema says that it is any object.
func (Details) Schema(huma.Registry) *huma.Schema {
	return &huma.Schema{
		Type: huma.TypeObject, AdditionalProperties: true,
		Examples: []any{map[string]any{"changes": map[string]any{"description": map[string]any{"from": "", "to": "Production CRM"}}}},
	}
}
