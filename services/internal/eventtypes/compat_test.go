package eventtypes

import (
	"slices"
	"strings"
	"testing"
)

func TestWhatBreaksThoseWhoRelyOnAType(t *testing.T) {
	t.Parallel()
	member := func(schema string) string { return `{"properties": {"a": ` + schema + `}}` }
	for _, tt := range []struct {
		name, older, newer string
		want               []string // behind "a.b: "
	}{
		{"nothing", member(`{"type": "string"}`), member(`{"type": "string"}`), nil},
		{"another description", member(`{"description": "x"}`), member(`{"description": "y"}`), nil},
		{"a member more", `{"properties": {}}`, member(`{"type": "string"}`), nil},
		{"a member less", member(`{}`), `{"properties": {}}`, []string{"data/a: the member is removed"}},
		{"required no more", `{"required": ["a"]}`, `{}`, nil},
		{"newly required", member(`{}`), `{"properties": {"a": {}}, "required": ["a"]}`, []string{"data/a: the member is newly required"}},
		{"a new member that is required", `{}`, `{"properties": {"a": {}}, "required": ["a"]}`, []string{"data/a: the member is newly required"}},
		{"a type more", member(`{"type": "string"}`), member(`{"type": ["string", "null"]}`), nil},
		{"a type less", member(`{"type": ["string", "null"]}`), member(`{"type": "string"}`), []string{"data/a: type is narrowed: null is no longer allowed"}},
		{"another type", member(`{"type": "string"}`), member(`{"type": "integer"}`), []string{"data/a: type is narrowed: string is no longer allowed"}},
		{"a type where there was none", member(`{}`), member(`{"type": "string"}`), []string{"data/a: type is narrowed to string"}},
		{"integers are numbers", member(`{"type": "integer"}`), member(`{"type": "number"}`), nil},
		{"numbers are no integers", member(`{"type": "number"}`), member(`{"type": "integer"}`), []string{"data/a: type is narrowed: number is no longer allowed"}},
		{"a value more", member(`{"enum": ["x"]}`), member(`{"enum": ["x", 1]}`), nil},
		{"a value less", member(`{"enum": ["x", 1]}`), member(`{"enum": ["x"]}`), []string{"data/a: enum is narrowed: 1 is no longer allowed"}},
		{"an enum where there was none", member(`{"type": "string"}`), member(`{"type": "string", "enum": ["x"]}`), []string{`data/a: only some values are allowed now: "x"`}},
		{"no enum any more", member(`{"enum": ["x"]}`), member(`{}`), nil},
		{"a constant out of an enum", member(`{"enum": ["x", "y"]}`), member(`{"const": "x"}`), []string{`data/a: enum is narrowed: "y" is no longer allowed`}},
		{"longer texts", member(`{"maxLength": 5}`), member(`{"maxLength": 6}`), nil},
		{"shorter texts", member(`{"maxLength": 6}`), member(`{"maxLength": 5}`), []string{"data/a: maxLength is tightened to 5"}},
		{"a bound where there was none", member(`{}`), member(`{"maxItems": 5}`), []string{"data/a: maxItems is tightened to 5"}},
		{"a lower bound that always held", member(`{}`), member(`{"minLength": 0}`), nil},
		{"a smallest number", member(`{}`), member(`{"minimum": -1}`), []string{"data/a: minimum is tightened to -1"}},
		{"another pattern", member(`{"pattern": "a"}`), member(`{"pattern": "b"}`), []string{"data/a: pattern is changed to b, which may refuse what was allowed"}},
		{"no pattern any more", member(`{"pattern": "a"}`), member(`{}`), nil},
		{"a format", member(`{}`), member(`{"format": "uuid"}`), []string{"data/a: format is changed to uuid, which may refuse what was allowed"}},
		{"unique items", member(`{}`), member(`{"uniqueItems": true}`), []string{"data/a: items must be unique now"}},
		{"no further members", `{}`, `{"additionalProperties": false}`, []string{"data/*: nothing is allowed here any more"}},
		{"further members again", `{"additionalProperties": false}`, `{}`, nil},
		{"deep within", member(`{"items": {"properties": {"b": {"enum": [1, 2]}}}}`), member(`{"items": {"properties": {"b": {"enum": [2]}}}}`), []string{"data/a/[]/b: enum is narrowed: 1 is no longer allowed"}},
		{"what can't be judged", member(`{"oneOf": [{"type": "string"}]}`), member(`{"oneOf": [{"type": "string"}, {"type": "null"}]}`), []string{"data/a: oneOf is changed, which this check can't judge"}},
		{"a member that may be anything", member(`true`), member(`{}`), nil},
		{"a member that may be nothing any more", member(`true`), member(`false`), []string{"data/a: nothing is allowed here any more"}},
		{"two things at once", `{"properties": {"a": {"type": "string"}, "b": {}}}`, member(`{"type": "null"}`), []string{"data/a: type is narrowed: string is no longer allowed", "data/b: the member is removed"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			// Examples must follow the schemas, so these are made without.
			catalog := func(schema string) *Catalog {
				c := &Catalog{known: map[string]Type{}}
				c.add(Type{Name: "a.b", Schema: []byte(schema)})
				return c
			}
			var want []string
			for _, line := range tt.want {
				want = append(want, "a.b: "+line)
			}
			if got := Breaking(catalog(tt.older), catalog(tt.newer)); !slices.Equal(got, want) {
				t.Errorf("got  %s\nwant %s", strings.Join(got, "\n     "), strings.Join(want, "\n     "))
			}
		})
	}
}

func TestTypesOfAFile(t *testing.T) {
	t.Parallel()
	load := func(names ...string) *Catalog {
		var list []string
		for _, name := range names {
			list = append(list, one(name, `{}`, body(name, `{}`)))
		}
		c, err := Load(file(t, "["+strings.Join(list, ",")+"]"))
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	if got := Breaking(load("a.a", "a.b"), load("a.c", "a.b")); !slices.Equal(got, []string{"a.a: the type is removed"}) {
		t.Errorf("%q", got)
	}
}

func TestCheckSaysWhereAndWhat(t *testing.T) {
	t.Parallel()
	c, err := Load("")
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name, eventType, data string
		acceptUnknown         bool
		want                  string
	}{
		{"good", "endpoint.disabled", `{"endpointId":"01980c7a-4b5e-7c3d-9a1f-2e6b8d4f0a35","reason":"gone"}`, false, ""},
		{"undeclared", "order.paid", `{}`, false, "type: is not declared in EVENT_TYPES_FILE: order.paid"},
		{"undeclared, and accepted", "order.paid", `{}`, true, ""},
		{"a value that is none of the enum", "endpoint.disabled", `{"endpointId":"01980c7a-4b5e-7c3d-9a1f-2e6b8d4f0a35","reason":"x"}`, false, `data: at "/reason": value must be one of 'gone', 'failing'`},
		{"declared, though unknown ones are accepted", "endpoint.disabled", `{}`, true, `data: at "": missing properties 'endpointId', 'reason'`},
		{"a long value", "webhook.test", `{"endpointId":"` + strings.Repeat("x", 4000) + `","message":""}`, false, `data: at "/endpointId": 'xxx`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			got := ""
			if err := c.Check(tt.eventType, []byte(tt.data), tt.acceptUnknown); err != nil {
				got = err.Error()
			}
			if (got == "") != (tt.want == "") || !strings.HasPrefix(got, tt.want) || len(got) > 600 {
				t.Errorf("%q, want %q", got, tt.want)
			}
		})
	}
}

// BenchmarkCheck is what fan-out adds per event if CHECK_NATS_EVENTS is set.
func BenchmarkCheck(b *testing.B) {
	c, err := Load("")
	if err != nil {
		b.Fatal(err)
	}
	data := []byte(`{"cardId":"00000000-0000-7000-8000-0000000000c1","viewerId":null,"username":"alice","source":"qr"}`)
	for b.Loop() {
		if err := c.Check("card.viewed", data, false); err != nil {
			b.Fatal(err)
		}
	}
}
