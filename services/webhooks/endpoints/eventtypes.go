package endpoints

import (
	"context"
	"encoding/json"

	"github.com/danielgtaylor/huma/v2"
	"github.com/google/uuid"
)

// An EventType is what endpoints can ask for.
type EventType struct {
	Name        string     `json:"name" minLength:"1" maxLength:"128" pattern:"^[a-z0-9_]+(\\.[a-z0-9_]+){0,4}$" doc:"Its name, as in events of an endpoint." example:"card.viewed"`
	Description string     `json:"description" minLength:"1" maxLength:"1024" doc:"What has happened." example:"Somebody else than the owner looked at the owner's profile or at one of their cards."`
	Schema      DataSchema `json:"schema" doc:"JSON Schema (2020-12) of the event's data."`
	Example     EventBody  `json:"example" doc:"A whole body of at most 256 KiB: type, timestamp, and data that follows the schema."`
}

// A DataSchema is a JSON Schema.
type DataSchema struct{ json.RawMessage }

// Schema says that it is any object.
func (DataSchema) Schema(huma.Registry) *huma.Schema {
	return &huma.Schema{
		Type: huma.TypeObject, AdditionalProperties: true,
		Examples: []any{map[string]any{
			"type": "object", "required": []string{"source"},
			"properties": map[string]any{"source": map[string]any{"type": "string"}},
		}},
	}
}

// An EventBody is a [Payload] that is never null.
type EventBody struct{ json.RawMessage }

// Schema is Payload's without null.
func (EventBody) Schema(r huma.Registry) *huma.Schema {
	s := Payload{}.Schema(r)
	s.Nullable = false
	return s
}

type eventTypesOutput struct {
	Body []EventType `nullable:"false" minItems:"1" doc:"The types, in the order of their file."`
}

func (a *API) eventTypes(context.Context, uuid.UUID, *struct{}) (*eventTypesOutput, error) {
	all := a.catalog.All()
	out := &eventTypesOutput{Body: make([]EventType, len(all))}
	for i, t := range all {
		out.Body[i] = EventType{t.Name, t.Description, DataSchema{t.Schema}, EventBody{t.Example}}
	}
	return out, nil
}
