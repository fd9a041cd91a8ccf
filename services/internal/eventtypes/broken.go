package eventtypes

import (
	"errors"
	"fmt"
	"strings"

	"github.com/santhosh-tekuri/jsonschema/v6"
)

// maxRule bounds what a BrokenError says, in bytes: the library quotes values.
const maxRule = 512

// A BrokenError is data that does not follow the schema of its type.
type BrokenError struct {
	Pointer string // JSON pointer to the value in the data that is wrong; "" is the data as a whole
	Keyword string // of the schema, that the value breaks: "required", "pattern", …
	Rule    string // a sentence; it may quote the value, so it is for who sent it and for no log
}

func (e *BrokenError) Error() string { return fmt.Sprintf("data: at %q: %s", e.Pointer, e.Rule) }

// Quiet is the error without the value.
func (e *BrokenError) Quiet() string {
	return fmt.Sprintf("data: at %q: breaks %q of the schema of its type", e.Pointer, e.Keyword)
}

// brokenError is what the library says about data.
func brokenError(err error) error {
	pointer, keyword, rule, ok := deepest(err)
	if !ok {
		return fmt.Errorf("data: %w", err)
	}
	return &BrokenError{Pointer: pointer, Keyword: keyword, Rule: rule}
}

// schemaFault is what the library says about a schema, in one line.
func schemaFault(err error) error {
	pointer, _, rule, ok := deepest(err)
	if !ok {
		return err
	}
	return fmt.Errorf("at %q: %s", pointer, rule)
}

// deepest finds the rule that is broken deepest in a value, and where.
func deepest(err error) (pointer, keyword, rule string, ok bool) {
	var meta *jsonschema.SchemaValidationError // does not unwrap
	if errors.As(err, &meta) {
		err = meta.Err
	}
	var invalid *jsonschema.ValidationError
	if !errors.As(err, &invalid) {
		return "", "", "", false
	}
	found := -1
	for _, unit := range invalid.BasicOutput().Errors {
		// What encloses others comes before them, and says only that they failed.
		if unit.Error == nil || len(unit.InstanceLocation) < found {
			continue
		}
		found = len(unit.InstanceLocation)
		pointer, rule = unit.InstanceLocation, unit.Error.String()
		keyword = strings.Join(unit.Error.Kind.KeywordPath(), "/")
	}
	if found < 0 {
		rule = "does not follow the schema"
	}
	return pointer, keyword, strings.ToValidUTF8(rule[:min(len(rule), maxRule)], ""), true
}
