package endpoints

import (
	"encoding/json"
	"fmt"
	"net/http"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"
)

// Names of the security schemes in the document.
const (
	schemeBearer = "bearer"
	schemeCookie = "cookie"
	schemeKey    = "key"
)

// version is the API's, not the program's: it counts what breaks clients.
const version = "1.0.0"

const about = `Register endpoints that get your events as signed POSTs, and read what became of each delivery.

Every POST carries webhook-id, webhook-timestamp and webhook-signature (Standard Webhooks) and X-DevCard-Signature. ` +
	`Times are RFC 3339 in UTC. Every error is a problem (RFC 9457) whose member error is a sentence that names the field and the rule. ` +
	`Members of a body and parameters of a query that are not described here are refused. ` +
	`What belongs to somebody else looks like what does not exist.`

// newHuma makes the library that holds requests to their schemas. What it would
// serve itself is off: its documents are made in the first request without a
// lock, and its page fetches scripts from elsewhere. So is its $schema in answers.
func newHuma(mux *http.ServeMux) huma.API {
	useOurErrors()
	return humago.New(mux, huma.Config{
		OpenAPI: &huma.OpenAPI{
			OpenAPI: "3.1.0",
			Info:    &huma.Info{Title: "Cardwire endpoints API", Version: version, Description: about, License: &huma.License{Name: "Apache-2.0", Identifier: "Apache-2.0"}},
			Components: &huma.Components{
				Schemas: huma.NewMapRegistry("#/components/schemas/", huma.DefaultSchemaNamer),
				SecuritySchemes: map[string]*huma.SecurityScheme{
					schemeBearer: {Type: "http", Scheme: "bearer", BearerFormat: "JWT", Description: "Authorization: Bearer and a JSON Web Token with an expiry and the user's UUID in claim id or sub."},
					schemeCookie: {Type: "apiKey", In: "cookie", Name: "token", Description: "The same token in a cookie. Changes are then taken from pages of the same origin only."},
					schemeKey:    {Type: "http", Scheme: "bearer", BearerFormat: "cwk_…", Description: "Authorization: Bearer and an API key with the scope operator, made by: cardwire keys create --scope operator."},
				},
			},
		},
		Formats:                      map[string]huma.Format{"application/json": huma.DefaultJSONFormat, "json": huma.DefaultJSONFormat},
		DefaultFormat:                "application/json",
		RejectUnknownQueryParameters: true,
	})
}

// serveDocument serves what the routes say about themselves, made once.
func serveDocument(mux *http.ServeMux, doc *huma.OpenAPI) error {
	allowNull(doc)
	asJSON, err := json.Marshal(doc)
	if err != nil {
		return fmt.Errorf("make openapi.json: %w", err)
	}
	asYAML, err := doc.YAML()
	if err != nil {
		return fmt.Errorf("make openapi.yaml: %w", err)
	}
	page, policy, err := docsPage(doc)
	if err != nil {
		return fmt.Errorf("make docs: %w", err)
	}
	serve := func(path, contentType, policy string, body []byte) {
		mux.HandleFunc("GET "+path, func(w http.ResponseWriter, _ *http.Request) {
			h := w.Header()
			h.Set("Content-Type", contentType)
			h.Set("Content-Security-Policy", policy)
			h.Set("X-Content-Type-Options", "nosniff")
			h.Set("Referrer-Policy", "no-referrer")
			h.Set("Cache-Control", "no-cache")
			_, _ = w.Write(body) // the client is gone, there is nobody to tell
		})
	}
	serve("/openapi.json", "application/json", nothing, asJSON)
	serve("/openapi.yaml", "application/yaml", nothing, asYAML)
	serve("/docs", "text/html; charset=utf-8", policy, page)
	return nil
}

// allowNull adds null to the values of each enum that may be null, as JSON
// Schema wants it: huma adds it to the type only.
func allowNull(doc *huma.OpenAPI) {
	for _, schema := range doc.Components.Schemas.Map() {
		for _, field := range schema.Properties {
			if field.Nullable && len(field.Enum) > 0 && field.Enum[len(field.Enum)-1] != nil {
				field.Enum = append(field.Enum, nil)
			}
		}
	}
}

// exampleNull gives members of a shape null as their example, where a value
// would contradict the examples of the others.
func exampleNull(s *huma.Schema, members ...string) *huma.Schema {
	for _, name := range members {
		s.Properties[name].Examples = []any{nil}
	}
	return s
}
