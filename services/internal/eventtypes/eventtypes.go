// Package eventtypes knows the types of events that endpoints can ask for, and
// what the data of each looks like: from a file, or those that DevCard publishes.
package eventtypes

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"github.com/google/uuid"
	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/cardwire/cardwire/events"
)

// A Type is a type of events.
type Type struct {
	Name        string          `json:"name"`        // see events.ValidateType
	Description string          `json:"description"` // for whoever writes a receiver; 1 to 1024 characters
	Schema      json.RawMessage `json:"schema"`      // of the event's data: JSON Schema 2020-12 that refers to nothing outside itself
	Example     json.RawMessage `json:"example"`     // a whole body: type, timestamp, and data that follows Schema

	compiled *jsonschema.Schema
}

// anyID stands for the ids of an example, which has none.
var anyID = uuid.MustParse("00000000-0000-7000-8000-000000000001")

// Validate says what is wrong with the body of an event of this type: it is no
// such body (see [events.Event]), or its data does not follow the schema.
func (t Type) Validate(body []byte) error {
	if err := (events.Event{ID: anyID, UserID: anyID, Type: t.Name, Body: body}).Validate(); err != nil {
		return err
	}
	var members map[string]json.RawMessage // no struct: it would match names in any case
	if err := json.Unmarshal(body, &members); err != nil {
		return fmt.Errorf("body: %w", err)
	}
	return t.ValidateData(members["data"])
}

// ValidateData holds the data of an event to the schema. The error is a
// *[BrokenError] if it does not follow it.
func (t Type) ValidateData(data []byte) error {
	value, err := jsonschema.UnmarshalJSON(bytes.NewReader(data))
	if err != nil {
		return fmt.Errorf("data: %w", err)
	}
	if err := t.compiled.Validate(value); err != nil {
		return brokenError(err)
	}
	return nil
}

// A Catalog is a list of types. It is not changed once it is made.
type Catalog struct {
	types []Type
	known map[string]Type
}

// All returns the types in the order of the file; those of Cardwire's own that
// it lacks come last.
func (c *Catalog) All() []Type { return slices.Clone(c.types) }

// Type returns a type by its name.
func (c *Catalog) Type(name string) (t Type, ok bool) {
	t, ok = c.known[name]
	return t, ok
}

// Subscribable lists the names of the types that endpoints can ask for: all but
// webhook.test, which goes to the endpoint that is tested.
func (c *Catalog) Subscribable() []string {
	list := make([]string, 0, len(c.types))
	for _, t := range c.types {
		if t.Name != events.Test {
			list = append(list, t.Name)
		}
	}
	return list
}

// ErrUnknown is what [Catalog.Check] wraps if the catalog lacks the type.
var ErrUnknown = errors.New("type: is not declared")

// Check holds the data of an event to its type. A type that the catalog lacks is
// ErrUnknown, unless unknown ones are accepted; data that does not follow the
// schema is a *[BrokenError]. Schemas were compiled by Load.
func (c *Catalog) Check(eventType string, data []byte, acceptUnknown bool) error {
	t, ok := c.known[eventType]
	switch {
	case ok:
		return t.ValidateData(data)
	case acceptUnknown:
		return nil
	}
	return fmt.Errorf("%w in EVENT_TYPES_FILE: %s", ErrUnknown, eventType)
}
