package eventtypes

import (
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/cardwire/cardwire/events"
)

func TestWhatIsThereWithoutAFile(t *testing.T) {
	t.Parallel()
	c, err := Load("")
	if err != nil {
		t.Fatal(err)
	}
	want := []string{events.CardViewed, events.ContactSaved, events.EndpointDisabled, events.AttemptExhausted, events.AttemptRecovered}
	if got := c.Subscribable(); !slices.Equal(got, want) {
		t.Errorf("can be asked for: %q, want %q", got, want)
	}
	if _, ok := c.Type(events.Test); !ok || len(c.All()) != len(want)+1 {
		t.Errorf("%d types, %s among them: %v", len(c.All()), events.Test, ok)
	}
}

func TestSchemasRefuseWhatIsNotSent(t *testing.T) {
	t.Parallel()
	c, err := Load("")
	if err != nil {
		t.Fatal(err)
	}
	viewed, _ := c.Type(events.CardViewed)
	for _, tt := range []struct {
		name, from, to string
	}{
		{"a member too many", `"data": {`, `"data": {"address": "192.0.2.1",`},
		{"another type", `"type": "card.viewed"`, `"type": "card.saved"`},
		{"no time", `2026-08-02T17:45:09.5Z`, `yesterday`},
		{"an id that is none", `00000000-0000-7000-8000-0000000000c1`, `c1`},
		{"no source", `"source": "qr"`, `"source": ""`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			body := strings.Replace(string(viewed.Example), tt.from, tt.to, 1)
			if body == string(viewed.Example) {
				t.Fatal("the example has no such text")
			}
			if err := viewed.Validate([]byte(body)); err == nil {
				t.Errorf("took %s", body)
			}
		})
	}
	if err := viewed.Validate([]byte("{")); err == nil {
		t.Error("took half an object")
	}
}

func one(name, schema, example string) string {
	return `{"name": "` + name + `", "description": "d", "schema": ` + schema + `, "example": ` + example + `}`
}

func body(name, data string) string {
	return `{"type": "` + name + `", "timestamp": "2026-08-02T17:45:09.5Z", "data": ` + data + `}`
}

func file(t *testing.T, text string) (path string) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "types.json")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// many are n types of their own.
func many(n int) string {
	list := make([]string, n)
	for i := range list {
		name := "order.n" + strconv.Itoa(i)
		list[i] = one(name, `{}`, body(name, `{}`))
	}
	return "[" + strings.Join(list, ",") + "]"
}

func TestAFileThatIsTaken(t *testing.T) {
	t.Parallel()
	paid := one("order.paid", `{"required": ["amount"]}`, body("order.paid", `{"amount": 1}`))
	added := []string{"endpoint.disabled", "message.attempt.exhausted", "message.attempt.recovered"}
	for _, tt := range []struct {
		name, text string
		want       []string // can be asked for; nil: 203 of them
	}{
		{"one type: what Cardwire publishes is added, card.viewed is not", "[" + paid + "]", append([]string{"order.paid"}, added...)},
		{
			"types in the order of the file, one of Cardwire's own among them",
			"[" + one("endpoint.disabled", `{}`, body("endpoint.disabled", `{}`)) + "," + paid + "]",
			[]string{"endpoint.disabled", "order.paid", "message.attempt.exhausted", "message.attempt.recovered"},
		},
		{
			"the test event defined by the file can't be asked for either",
			"[" + one("webhook.test", `{}`, body("webhook.test", `{}`)) + "]", added,
		},
		{"200 types", many(200), nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			c, err := Load(file(t, tt.text))
			if err != nil {
				t.Fatal(err)
			}
			got := c.Subscribable()
			if tt.want == nil && len(got) != 203 || tt.want != nil && !slices.Equal(got, tt.want) {
				t.Errorf("can be asked for: %q, want %q", got, tt.want)
			}
			if _, ok := c.Type(events.Test); !ok {
				t.Errorf("%s is missing", events.Test)
			}
		})
	}
}

func TestAFileThatIsRefused(t *testing.T) {
	t.Parallel()
	good := one("order.paid", `{"required": ["amount"]}`, body("order.paid", `{"amount": 1}`))
	for _, tt := range []struct {
		name, text, wantErr string // behind the file's name
	}{
		{"no JSON", "types:", "must be one JSON array"},
		{"an object", good, "must be one JSON array"},
		{"something after it", "[" + good + "] []", "must be one JSON array"},
		{"none", "[]", "must be 1 to 200 types, not 0"},
		{"null", "null", "must be 1 to 200 types, not 0"},
		{"201", many(201), "must be 1 to 200 types, not 201"},
		{"a type that is no object", `["order.paid"]`, `type 1: name "": `},
		{"a type without a name", "[" + good + `, {"description": "d"}]`, `type 2: name "": `},
		{"a name that is none", "[" + one("Order.*", "{}", `{}`) + "]", `type 1: name "Order.*": `},
		{"a member unknown", `[{"name": "a.b", "colour": "red"}]`, `a.b: must be an object with name, description, schema and example: json: unknown field "colour"`},
		{"twice", "[" + good + "," + good + "]", "order.paid: name: is there twice"},
		{"no description", `[{"name": "a.b", "schema": {}, "example": {}}]`, "a.b: description: must have 1 to 1024 characters, not 0"},
		{"a description too long", `[{"name": "a.b", "description": "` + strings.Repeat("ä", 1025) + `"}]`, "a.b: description: must have 1 to 1024 characters, not 1025"},
		{"no schema", `[{"name": "a.b", "description": "d", "example": {}}]`, "a.b: schema: must be a JSON object"},
		{"a schema that is true", "[" + one("a.b", "true", body("a.b", `{}`)) + "]", "a.b: schema: must be a JSON object"},
		{"a schema that is none", "[" + one("a.b", `{"type": 7}`, body("a.b", `{}`)) + "]", `a.b: schema: at "/type": `},
		{"a schema with a pattern that Go does not have", "[" + one("a.b", `{"pattern": "(?=x)"}`, body("a.b", `{}`)) + "]", "a.b: schema: "},
		{"a schema of another draft", "[" + one("a.b", `{"$schema": "http://json-schema.org/draft-07/schema#"}`, body("a.b", `{}`)) + "]", "a.b: schema: $schema: must be https://json-schema.org/draft/2020-12/schema"},
		{"a schema that refers to a file", "[" + one("a.b", `{"$ref": "file:///etc/passwd"}`, body("a.b", `{}`)) + "]", "a.b: schema: "},
		{"a schema that refers to the web", "[" + one("a.b", `{"$ref": "https://example.com/x"}`, body("a.b", `{}`)) + "]", "a.b: schema: "},
		{"no example", `[{"name": "a.b", "description": "d", "schema": {}}]`, "a.b: example: invalid event: body: "},
		{"an example without its data", "[" + one("a.b", `{}`, `{"type": "a.b", "timestamp": "2026-08-02T17:45:09.5Z"}`) + "]", "a.b: example: invalid event: body.data: "},
		{"an example without its time", "[" + one("a.b", `{}`, `{"type": "a.b", "data": {}}`) + "]", "a.b: example: invalid event: body.timestamp: "},
		{"an example of another type", "[" + one("a.b", `{}`, body("a.c", `{}`)) + "]", "a.b: example: invalid event: body.type: must be the event's type, a.b"},
		{"an example that does not follow", "[" + one("a.b", `{"required": ["x"]}`, body("a.b", `{}`)) + "]", `a.b: example: data: at "": missing property 'x'`},
		{"an example with an id that is none", "[" + one("a.b", `{"properties": {"id": {"format": "uuid"}}}`, body("a.b", `{"id": "7"}`)) + "]", `a.b: example: data: at "/id": `},
		{"too long", "[" + strings.Repeat(" ", maxFileBytes) + good + "]", "must be at most 1048576 bytes"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			path := file(t, tt.text)
			_, err := Load(path)
			if err == nil || !strings.HasPrefix(err.Error(), path+": "+tt.wantErr) || strings.Contains(err.Error(), "\n") {
				t.Errorf("%v, want one line with %q behind the file's name", err, tt.wantErr)
			}
		})
	}
	if _, err := Load(filepath.Join(t.TempDir(), "none.json")); err == nil || !strings.Contains(err.Error(), "none.json") {
		t.Errorf("a file that is not there: %v", err)
	}
}

// The file that the README shows is taken.
func TestTheReadmesFile(t *testing.T) {
	t.Parallel()
	readme, err := os.ReadFile(filepath.Join("..", "..", "..", "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	_, section, _ := strings.Cut(string(readme), "\n## Event types\n")
	_, text, ok := strings.Cut(section, "```json\n")
	text, _, closed := strings.Cut(text, "```")
	if !ok || !closed {
		t.Fatal("the README shows no file")
	}
	if _, err := Load(file(t, text)); err != nil {
		t.Error(err)
	}
}
