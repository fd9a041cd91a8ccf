package endpoints

import (
	"context"
	"encoding/json"

	"github.com/danielgtaylor/huma/v2"
	"github.com/google/uuid"
)

// An EventType is what endpoints can ask for.
type EventType struct {
	Name        string     `json:"name" maxLength:"128" doc:"Its name, as in events of an endpoint." example:"card.viewed"`
	Description string     `json:"description" maxLength:"1024" doc:"What has happened." example:"Somebody else than the owner looked at the owner's profile or at one of their cards."`
	Schema      BodySchema `json:"schema" doc:"JSON Schema (2020-12) of the body: an object with type, timestamp and data."`
	Example     Payload    `json:"example" doc:"A body."`
}

// A BodySchema is a JSON Schema.
type BodySchema struct{ json.RawMessage }

// Schema says that it is any object.
func (BodySchema) Schema(huma.Registry) *huma.Schema {
	return &huma.Schema{
		Type: huma.TypeObject, AdditionalProperties: true,
		Examples: []any{map[string]any{"type": "object", "required": []string{"type", "timestamp", "data"}}},
	}
}

type eventTypesOutput struct {
	Body []EventType `nullable:"false" doc:"The types."`
}

func (a *API) eventTypes(context.Context, uuid.UUID, *struct{}) (*eventTypesOutput, error) {
	out := &eventTypesOutput{}
	for _, t := range a.catalog.All() {
		out.Body = append(out.Body, EventType{t.Name, t.Description, BodySchema{t.Schema}, Payload{t.Example}})
	}
	return out, nil
}
