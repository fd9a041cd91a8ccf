package publish

import (
	"encoding/json"
	"net/http"
	"reflect"
	"strconv"

	"github.com/danielgtaylor/huma/v2"
)

// An Event is the body of a request, for the document.
type Event struct {
	ID        string         `json:"id,omitempty" format:"uuid" doc:"A UUIDv7 of the caller's, so that the request can be repeated. One is made if it is missing." example:"019ab3c4-5b6f-7c3d-9a1f-2e6b8d4f0a35"`
	UserID    string         `json:"userId" format:"uuid" doc:"The user whose endpoints get the event." example:"00000000-0000-7000-8000-000000000001"`
	Type      string         `json:"type" maxLength:"128" doc:"A declared type." example:"card.viewed"`
	Timestamp string         `json:"timestamp,omitempty" format:"date-time" doc:"When it happened; by default the time of the id." example:"2026-11-24T18:30:04.123Z"`
	Data      map[string]any `json:"data" doc:"A JSON object that follows the type's schema."`
}

const about = "One event, or a batch: a JSON array, or a line each. Each event is accepted or refused by itself. " +
	"202 means that the stream has confirmed all of them; 207 that they differ: look at results. " +
	"A repeat with the same id, or the same Idempotency-Key within 24 h, is accepted and changes nothing; with other contents it is 409. " +
	"Limits: 256 KiB an event, 1,000 events and 5 MiB a request. CloudEvents 1.0 are taken too, structured, as batches, and binary."

// document is the OpenAPI document of POST /api/events. It is apart from that of the endpoints
// API: other callers, with other credentials.
func document() ([]byte, error) {
	schemas := huma.NewMapRegistry("#/components/schemas/", huma.DefaultSchemaNamer)
	event := schemas.Schema(reflect.TypeFor[Event](), true, "")
	result := schemas.Schema(reflect.TypeFor[Result](), true, "")
	results := schemas.Schema(reflect.TypeFor[Results](), true, "")
	problem := schemas.Schema(reflect.TypeFor[Problem](), true, "")
	responses := map[string]*huma.Response{
		"202": {Description: "Accepted: one event as its result, a batch with all results.", Content: map[string]*huma.MediaType{
			typeJSON: {Schema: &huma.Schema{OneOf: []*huma.Schema{result, results}}},
		}},
		"207": {Description: "The events of the batch differ.", Content: map[string]*huma.MediaType{typeJSON: {Schema: results}}},
	}
	for _, status := range []int{400, 401, 403, 409, 413, 415, 429, 500, 503} {
		responses[strconv.Itoa(status)] = &huma.Response{
			Description: http.StatusText(status),
			Content:     map[string]*huma.MediaType{"application/problem+json": {Schema: problem}},
		}
	}
	anyObject := &huma.Schema{Type: huma.TypeObject, AdditionalProperties: true}
	op := &huma.Operation{
		OperationID: "publishEvents", Summary: "Publish events", Description: about,
		Security: []map[string][]string{{"apiKey": {}}},
		Parameters: []*huma.Param{{
			Name: headerKey, In: "header", Description: "Names the one event of the request, instead of an id: 1 to 255 printable ASCII characters without spaces.",
			Schema: &huma.Schema{Type: huma.TypeString},
		}},
		RequestBody: &huma.RequestBody{Required: true, Content: map[string]*huma.MediaType{
			typeJSON:    {Schema: &huma.Schema{OneOf: []*huma.Schema{event, {Type: huma.TypeArray, Items: event}}}},
			typeNDJSON:  {Schema: &huma.Schema{Type: huma.TypeString, Description: "An event in each line."}},
			typeCE:      {Schema: anyObject},
			typeCEBatch: {Schema: &huma.Schema{Type: huma.TypeArray, Items: anyObject}},
		}},
		Responses: responses,
	}
	return json.Marshal(&huma.OpenAPI{
		OpenAPI: "3.1.0",
		Info:    &huma.Info{Title: "Cardwire publishing API", Version: "1.0.0", Description: "For services that publish events over HTTP."},
		Paths:   map[string]*huma.PathItem{"/api/events": {Post: op}},
		Components: &huma.Components{
			Schemas: schemas,
			SecuritySchemes: map[string]*huma.SecurityScheme{
				"apiKey": {Type: "http", Scheme: "bearer", Description: "Authorization: Bearer and an API key with the scope events:publish."},
			},
		},
	})
}
