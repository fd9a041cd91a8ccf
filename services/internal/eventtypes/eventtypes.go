// Package eventtypes knows the types of events that endpoints can ask for, and
// what the body of each looks like: Cardwire's own, and those of a file.
package eventtypes

import (
	"bytes"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/cardwire/cardwire/events"
)

const (
	// maxTypes bounds a file: the error for an unknown type lists them all.
	maxTypes = 32
	// maxFileBytes bounds a file. 32 types with long schemas have some 100 KB.
	maxFileBytes = 1 << 20
	// maxDescription bounds a type's description, in bytes.
	maxDescription = 1024
)

//go:embed devcard.json
var devcard []byte // what DevCard publishes: used if no file is given

//go:embed own.json
var own []byte // what Cardwire publishes itself: always there

// A Type is a type of events. Schema and Example are of the whole body: an
// object with type, timestamp and data.
type Type struct {
	Name        string          `json:"name"`        // see events.ValidateType
	Description string          `json:"description"` // for whoever writes a receiver; at most 1 KiB
	Schema      json.RawMessage `json:"schema"`      // JSON Schema 2020-12, which refers to nothing outside itself
	Example     json.RawMessage `json:"example"`     // follows Schema

	compiled *jsonschema.Schema
}

// Validate says what is wrong with the body of an event of this type.
func (t Type) Validate(body []byte) error {
	value, err := jsonschema.UnmarshalJSON(bytes.NewReader(body))
	if err != nil {
		return fmt.Errorf("%s: %w", t.Name, err)
	}
	if err := t.compiled.Validate(value); err != nil {
		return fmt.Errorf("%s: %w", t.Name, err)
	}
	return nil
}

// A Catalog is a list of types. It is not changed once it is made.
type Catalog struct {
	types []Type
	known map[string]Type
}

// Load reads the catalog of a file: a JSON array of at most 32 objects with
// name, description, schema and example, see [Type], in 1 MiB. An empty path
// stands for what DevCard publishes. Cardwire's own types are added.
func Load(path string) (*Catalog, error) {
	text := devcard
	if path != "" {
		var err error
		if text, err = read(path); err != nil {
			return nil, err
		}
	}
	return parse(text)
}

func read(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err // names the path
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
	c := &Catalog{known: make(map[string]Type)}
	if err := c.add(text); err != nil {
		return nil, err
	}
	if len(c.types) < 1 || len(c.types) > maxTypes {
		return nil, fmt.Errorf("must be 1 to %d types, not %d", maxTypes, len(c.types))
	}
	if err := c.add(own); err != nil {
		return nil, err
	}
	return c, nil
}

func (c *Catalog) add(text []byte) error {
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	var types []Type
	if err := d.Decode(&types); err != nil {
		return fmt.Errorf("must be a JSON array of objects with name, description, schema and example: %w", err)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return errors.New("must be one JSON array, with nothing after it")
	}
	for i, t := range types {
		if err := events.ValidateType(t.Name); err != nil {
			return fmt.Errorf("type %d, %q: %w", i+1, t.Name, err)
		}
		if _, there := c.known[t.Name]; there {
			return fmt.Errorf("%s: is there twice, or is one of Cardwire's own", t.Name)
		}
		if err := t.check(); err != nil {
			return fmt.Errorf("%s: %w", t.Name, err)
		}
		c.types = append(c.types, t)
		c.known[t.Name] = t
	}
	return nil
}

// check compiles the schema of a type and holds its example to it.
func (t *Type) check() error {
	if t.Description == "" || len(t.Description) > maxDescription {
		return fmt.Errorf("description: must have 1 to %d bytes, not %d", maxDescription, len(t.Description))
	}
	if !isObject(t.Schema) || !isObject(t.Example) {
		return errors.New("schema and example: must be JSON objects")
	}
	schema, err := jsonschema.UnmarshalJSON(bytes.NewReader(t.Schema))
	if err != nil {
		return fmt.Errorf("schema: %w", err)
	}
	const here = "urn:cardwire:event-type"
	compiler := jsonschema.NewCompiler()
	compiler.DefaultDraft(jsonschema.Draft2020)
	compiler.AssertFormat()
	compiler.UseLoader(jsonschema.SchemeURLLoader{}) // nothing is fetched, not even files
	if err := compiler.AddResource(here, schema); err != nil {
		return fmt.Errorf("schema: %w", err)
	}
	if t.compiled, err = compiler.Compile(here); err != nil {
		return fmt.Errorf("schema: %w", err)
	}
	if err := t.Validate(t.Example); err != nil {
		return fmt.Errorf("example: %w", err)
	}
	var body struct{ Type string }
	if err := json.Unmarshal(t.Example, &body); err != nil || body.Type != t.Name {
		return fmt.Errorf("example: type must be %s", t.Name)
	}
	return nil
}

func isObject(raw json.RawMessage) bool {
	return strings.HasPrefix(string(bytes.TrimSpace(raw)), "{")
}

// All returns the types, those of the file first, in their order.
func (c *Catalog) All() []Type { return c.types }

// Type returns a type by its name.
func (c *Catalog) Type(name string) (t Type, ok bool) {
	t, ok = c.known[name]
	return t, ok
}

// Subscribable lists the names of the types that endpoints can ask for: all but
// webhook.test, which goes to the endpoint that is tested.
func (c *Catalog) Subscribable() []string {
	var list []string
	for _, t := range c.types {
		if t.Name != events.Test {
			list = append(list, t.Name)
		}
	}
	return list
}
