package endpoints

import (
	"bytes"
	"encoding/json"
	"net/http"
	"strconv"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"
)

// TestAnswersFollowTheDocument holds to the document's schemas what each
// operation answers, and every example that the document gives of an answer or
// of a request.
func TestAnswersFollowTheDocument(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	text, err := json.Marshal(s.huma.OpenAPI())
	if err != nil {
		t.Fatal(err)
	}
	document, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	const root = "urn:cardwire:openapi"
	compiler := jsonschema.NewCompiler()
	compiler.DefaultDraft(jsonschema.Draft2020)
	compiler.AssertFormat()
	if err := compiler.AddResource(root, document); err != nil {
		t.Fatal(err)
	}
	holds := func(t *testing.T, pointer, value string) {
		t.Helper()
		schema, err := compiler.Compile(root + "#" + pointer)
		if err != nil {
			t.Fatal(err)
		}
		v, err := jsonschema.UnmarshalJSON(strings.NewReader(value))
		if err != nil {
			t.Fatalf("%v in %s", err, value)
		}
		if err := schema.Validate(v); err != nil {
			t.Errorf("%s: %v", value, err)
		}
	}
	escaped := strings.NewReplacer("~", "~0", "/", "~1")
	d := docs{s.huma.OpenAPI().Components.Schemas}
	for name, shape := range d.schemas.Map() {
		holds(t, "/components/schemas/"+name, d.example(shape))
	}
	for operation, row := range tenancy {
		method, path, _ := strings.Cut(operation, " ")
		schema := "/paths/" + escaped.Replace(path) + "/" + strings.ToLower(method) + "/responses/"
		s := newServer(t)
		own := s.create(t, alice)
		delivery, recovery, replay := s.deliver(t, own.ID, 1)[0], s.finishedRecovery(t, own.ID), s.oldReplay(t, alice, own.ID)
		ids := strings.NewReplacer("{id}", own.ID.String(), "{deliveryId}", delivery.ID.String(), "{recoveryId}", recovery.String(), "{replayId}", replay.String())
		path = ids.Replace(path)
		good := s.call(t, alice, method, path, filled(row.body, ids))
		if good.status != row.own {
			t.Errorf("%s: %d %s", operation, good.status, good.body)
		} else if good.status != http.StatusNoContent {
			holds(t, schema+strconv.Itoa(row.own)+"/content/application~1json/schema", good.body)
		}
		bad := s.call(t, alice, method, path+"?unknown=1", row.body)
		holds(t, schema+"400/content/application~1problem+json/schema", bad.body)
	}
}
