package eventtypes

import (
	"os"
	"path/filepath"
	"slices"
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

func TestFiles(t *testing.T) {
	t.Parallel()
	one := func(name, schema, example string) string {
		return `{"name": "` + name + `", "description": "d", "schema": ` + schema + `, "example": ` + example + `}`
	}
	good := one("order.paid", `{"required": ["data"]}`, `{"type": "order.paid", "data": {}}`)
	for _, tt := range []struct {
		name, text, wantErr string
	}{
		{"one type, and Cardwire's own beside it", "[" + good + "]", ""},
		{"no JSON", "types:", "must be a JSON array"},
		{"an object", good, "must be a JSON array"},
		{"something after it", "[" + good + "] []", "with nothing after it"},
		{"none", "[]", "must be 1 to 32 types, not 0"},
		{"33", "[" + strings.Repeat(good+",", 32) + good + "]", "is there twice"},
		{"a member unknown", `[{"name": "a.b", "colour": "red"}]`, "unknown field"},
		{"a type that is none", "[" + one("Order.*", "{}", `{}`) + "]", `type 1, "Order.*"`},
		{"twice", "[" + good + "," + good + "]", "order.paid: is there twice"},
		{"one of Cardwire's own", "[" + one("webhook.test", "{}", `{"type": "webhook.test"}`) + "]", "webhook.test: is there twice, or is one of Cardwire's own"},
		{"no description", `[{"name": "a.b", "schema": {}, "example": {"type": "a.b"}}]`, "a.b: description"},
		{"no schema", `[{"name": "a.b", "description": "d", "example": {"type": "a.b"}}]`, "a.b: schema and example: must be JSON objects"},
		{"a schema that is none", "[" + one("a.b", `{"type": 7}`, `{"type": "a.b"}`) + "]", "a.b: schema: "},
		{"a schema that refers to a file", "[" + one("a.b", `{"$ref": "file:///etc/passwd"}`, `{"type": "a.b"}`) + "]", "a.b: schema: "},
		{"a schema that refers to the web", "[" + one("a.b", `{"$ref": "https://example.com/x"}`, `{"type": "a.b"}`) + "]", "a.b: schema: "},
		{"an example that does not follow", "[" + one("a.b", `{"required": ["data"]}`, `{"type": "a.b"}`) + "]", "a.b: example: "},
		{"an example of another type", "[" + one("a.b", `{}`, `{"type": "a.c"}`) + "]", "a.b: example: type must be a.b"},
		{"too long", "[" + strings.Repeat(" ", maxFileBytes) + good + "]", "must be at most 1048576 bytes"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			path := filepath.Join(t.TempDir(), "types.json")
			if err := os.WriteFile(path, []byte(tt.text), 0o600); err != nil {
				t.Fatal(err)
			}
			c, err := Load(path)
			switch {
			case tt.wantErr == "" && err == nil:
				if list := c.Subscribable(); len(list) != 4 || list[0] != "order.paid" {
					t.Errorf("can be asked for: %q", list)
				}
			case tt.wantErr == "" || err == nil || !strings.Contains(err.Error(), tt.wantErr):
				t.Errorf("%v, want %q", err, tt.wantErr)
			}
		})
	}
	if _, err := Load(filepath.Join(t.TempDir(), "none.json")); err == nil {
		t.Error("took a file that is not there")
	}
}
