package endpoints

import (
	"encoding/json"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/uuid"
)

// TestDocument reads the document as a stranger would, from its JSON. OPENAPI_OUT
// names a file that it goes to as well, for the step client of .ci/run.
func TestDocument(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	a := s.call(t, uuid.Nil, "GET", "/openapi.json", nil)
	if out := os.Getenv("OPENAPI_OUT"); out != "" {
		if err := os.WriteFile(out, []byte(a.body), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	type schema struct {
		Type                 any
		Ref                  string `json:"$ref"`
		Description, Format  string
		Properties           map[string]schema
		Examples, Enum       []any
		Items                *schema
		AdditionalProperties any
		Minimum, Maximum     *float64
		MinLength, MaxLength *int
		Pattern              string
	}
	var doc struct {
		OpenAPI string
		Paths   map[string]map[string]struct {
			OperationID, Summary string
			Parameters           []struct {
				Name, In, Description string
				Schema                schema
			}
			RequestBody *struct {
				Content map[string]struct{ Schema schema }
			}
			Responses map[string]struct {
				Description string
				Content     map[string]struct{ Schema schema }
			}
			Security []map[string][]string
		}
		Components struct {
			Schemas         map[string]schema
			SecuritySchemes map[string]any
		}
	}
	if err := json.Unmarshal([]byte(a.body), &doc); err != nil || a.status != 200 || a.header.Get("Content-Type") != "application/json" {
		t.Fatalf("%d %s: %v", a.status, a.header.Get("Content-Type"), err)
	}
	if doc.OpenAPI != "3.1.0" || len(doc.Components.SecuritySchemes) != 3 {
		t.Errorf("OpenAPI %s with %d security schemes", doc.OpenAPI, len(doc.Components.SecuritySchemes))
	}
	checkRef := func(where, ref string) {
		t.Helper()
		name, ok := strings.CutPrefix(ref, "#/components/schemas/")
		if _, there := doc.Components.Schemas[name]; ref != "" && (!ok || !there) {
			t.Errorf("%s refers to %q", where, ref)
		}
	}

	var operations []string
	for path, item := range doc.Paths {
		for method, op := range item {
			operation := strings.ToUpper(method) + " " + path
			operations = append(operations, operation)
			if op.OperationID == "" || op.Summary == "" || len(op.Security) != 2+strings.Count(path, "/api/replays") {
				t.Errorf("%s: id %q, summary %q, %d kinds of security", operation, op.OperationID, op.Summary, len(op.Security))
			}
			for _, p := range op.Parameters {
				if p.Description == "" || len(p.Schema.Examples) == 0 {
					t.Errorf("%s: parameter %s lacks description or example", operation, p.Name)
				}
			}
			for _, status := range []string{"400", "401", "403", "500", "503"} {
				if op.Responses[status].Content["application/problem+json"].Schema.Ref != "#/components/schemas/Problem" {
					t.Errorf("%s: %s is no problem", operation, status)
				}
			}
			if _, there := op.Responses["422"]; there {
				t.Errorf("%s documents 422, which nothing answers", operation)
			}
			for status, r := range op.Responses {
				for _, c := range r.Content {
					checkRef(operation+" "+status, c.Schema.Ref)
				}
			}
			// Reachable: without a token it is the operation that answers, by 401.
			reached := s.call(t, uuid.Nil, strings.ToUpper(method), strings.NewReplacer("{id}", uuid.NewString(), "{deliveryId}", uuid.NewString(), "{recoveryId}", uuid.NewString(), "{replayId}", uuid.NewString()).Replace(path), nil)
			if reached.status != 401 {
				t.Errorf("%s is not reachable: %d", operation, reached.status)
			}
		}
	}
	slices.Sort(operations)
	if want := s.operations(); !slices.Equal(operations, want) {
		t.Errorf("documented %q, registered %q", operations, want)
	}
	for name, shape := range doc.Components.Schemas {
		if shape.AdditionalProperties != false {
			t.Errorf("%s takes unknown members", name)
		}
		for member, field := range shape.Properties {
			where := name + "." + member
			checkRef(where, field.Ref)
			if field.Items != nil {
				checkRef(where, field.Items.Ref)
			}
			composed := field.Ref != "" || field.Items != nil && field.Items.Ref != ""
			if field.Description == "" || !composed && len(field.Examples) == 0 {
				t.Errorf("%s lacks description or example", where)
			}
			if types, ok := field.Type.([]any); ok && slices.Contains(types, any("null")) && field.Enum != nil && !slices.Contains(field.Enum, nil) {
				t.Errorf("%s may be null, but its enum lacks null", where)
			}
		}
	}
	if yaml := s.call(t, uuid.Nil, "GET", "/openapi.yaml", nil); yaml.status != 200 || !strings.Contains(yaml.body, "openapi: 3.1.0") {
		t.Errorf("openapi.yaml: %d %.80s", yaml.status, yaml.body)
	}
}

var fetches = regexp.MustCompile(`(?i)(src|href|action|srcset|data)\s*=\s*["']?\s*(https?:)?//|@import|url\(|<script|<link|<iframe|<img|<base|<object|\son[a-z]+=`)

func TestDocsPageFetchesNothing(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	a := s.call(t, uuid.Nil, "GET", "/docs", nil)
	if a.status != 200 || a.header.Get("Content-Type") != "text/html; charset=utf-8" {
		t.Fatalf("%d %s", a.status, a.header.Get("Content-Type"))
	}
	if found := fetches.FindString(a.body); found != "" {
		t.Errorf("the page has %q", found)
	}
	policy := a.header.Get("Content-Security-Policy")
	if !strings.HasPrefix(policy, "default-src 'none'; ") || strings.Contains(policy, "unsafe") || strings.Contains(policy, "http") {
		t.Errorf("policy is %q", policy)
	}
	if strings.Count(a.body, "<style>") != 1 || strings.Contains(a.body, " style=") {
		t.Error("the policy allows one style element")
	}
	if !strings.Contains(a.body, "<style>"+docsStyle+"</style>") {
		t.Error("the style is not what the policy's hash is of")
	}
	if strings.Contains(a.body, "ZgotmplZ") {
		t.Error("html/template refused something")
	}
	for _, operation := range s.operations() {
		if !strings.Contains(a.body, operation) {
			t.Errorf("%s is not on the page", operation)
		}
	}
	for _, id := range regexp.MustCompile(`href="#([^"]+)"`).FindAllStringSubmatch(a.body, -1) {
		if !strings.Contains(a.body, `id="`+id[1]+`"`) {
			t.Errorf("a link to %s leads nowhere", id[1])
		}
	}
}

// TestDocumentedExampleOfARegistrationIsTaken: what the page shows works when it is pasted.
func TestDocumentedExampleOfARegistrationIsTaken(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	doc := s.huma.OpenAPI()
	example := docs{doc.Components.Schemas}.example(doc.Paths["/api/webhooks"].Post.RequestBody.Content["application/json"].Schema)
	if a := s.call(t, alice, "POST", "/api/webhooks", example); a.status != 201 {
		t.Errorf("%d %s", a.status, a.body)
	}
}
