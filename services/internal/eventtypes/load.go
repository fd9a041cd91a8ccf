package eventtypes

import (
	"bytes"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"unicode/utf8"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/cardwire/cardwire/events"
)

const (
	maxTypes       = 200     // of a file: GET /api/event-types answers with all of them at once
	maxFileBytes   = 1 << 20 // 200 types with schemas of 2 KB and their examples fit
	maxDescription = 1024    // characters
)

// builtin is the name of the types that are there without a file, in errors.
const builtin = "event-types.json"

//go:embed event-types.json
var builtinTypes []byte // what DevCard and Cardwire publish

// Load reads a file of types: a JSON array of 1 to 200 objects as [Type] has
// them, in 1 MiB at most. Types that Cardwire itself publishes (webhook.test and
// the operational ones) are added if the file does not define them. An empty
// path stands for what is published without further services. Errors name the
// file, the type and the rule.
func Load(path string) (*Catalog, error) {
	known, err := parse(builtinTypes)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", builtin, err)
	}
	if path == "" {
		return known, nil
	}
	text, err := read(path)
	if err != nil {
		return nil, err // names the path
	}
	c, err := parse(text)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	for _, t := range known.types {
		if _, defined := c.known[t.Name]; !defined && (t.Name == events.Test || events.Operational(t.Name)) {
			c.add(t)
		}
	}
	return c, nil
}

func read(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxFileBytes+1))
	if err != nil {
		return nil, err
	}
	if len(text) > maxFileBytes {
		return nil, fmt.Errorf("%s: must be at most %d bytes", path, maxFileBytes)
	}
	return text, nil
}

func parse(text []byte) (*Catalog, error) {
	var list []json.RawMessage
	if err := json.Unmarshal(text, &list); err != nil {
		return nil, fmt.Errorf("must be one JSON array of objects with name, description, schema and example: %w", err)
	}
	if len(list) < 1 || len(list) > maxTypes {
		return nil, fmt.Errorf("must be 1 to %d types, not %d", maxTypes, len(list))
	}
	c := &Catalog{known: make(map[string]Type, len(list))}
	for i, raw := range list {
		var t Type
		d := json.NewDecoder(bytes.NewReader(raw))
		d.DisallowUnknownFields()
		decodeErr := d.Decode(&t)
		if err := events.ValidateType(t.Name); err != nil {
			return nil, fmt.Errorf("type %d: name %q: %w", i+1, t.Name, err)
		}
		if decodeErr != nil {
			return nil, fmt.Errorf("%s: must be an object with name, description, schema and example: %w", t.Name, decodeErr)
		}
		if _, there := c.known[t.Name]; there {
			return nil, fmt.Errorf("%s: name: is there twice", t.Name)
		}
		if err := t.check(); err != nil {
			return nil, fmt.Errorf("%s: %w", t.Name, err)
		}
		c.add(t)
	}
	return c, nil
}

func (c *Catalog) add(t Type) {
	c.types = append(c.types, t)
	c.known[t.Name] = t
}

// check compiles the schema of a type and holds its example to it.
func (t *Type) check() error {
	if n := utf8.RuneCountInString(t.Description); n < 1 || n > maxDescription {
		return fmt.Errorf("description: must have 1 to %d characters, not %d", maxDescription, n)
	}
	compiled, err := compile(t.Schema)
	if err != nil {
		return fmt.Errorf("schema: %w", err)
	}
	t.compiled = compiled
	if err := t.Validate(t.Example); err != nil {
		return fmt.Errorf("example: %w", err)
	}
	return nil
}

// dialect is what schemas are written in. Formats are asserted; patterns are Go's.
const dialect = "https://json-schema.org/draft/2020-12/schema"

func compile(text json.RawMessage) (*jsonschema.Schema, error) {
	if !bytes.HasPrefix(text, []byte("{")) {
		return nil, errors.New("must be a JSON object")
	}
	schema, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
	if err != nil {
		return nil, err
	}
	if is, there := schema.(map[string]any)["$schema"]; there && is != dialect {
		return nil, errors.New("$schema: must be " + dialect + ", or missing")
	}
	const here = "urn:cardwire:event-type"
	compiler := jsonschema.NewCompiler()
	compiler.DefaultDraft(jsonschema.Draft2020)
	compiler.AssertFormat()
	compiler.UseLoader(jsonschema.SchemeURLLoader{}) // nothing is fetched, not even files
	if err := compiler.AddResource(here, schema); err != nil {
		return nil, schemaFault(err)
	}
	compiled, err := compiler.Compile(here)
	if err != nil {
		return nil, schemaFault(err)
	}
	return compiled, nil
}
