package endpoints

import (
	"encoding/json"
	"fmt"
	"strings"

	"github.com/danielgtaylor/huma/v2"
)

// kind says in words what a schema is, and which shape on the page it links to,
// if any.
func (d docs) kind(s *huma.Schema) (text, link string) {
	switch {
	case s.Ref != "":
		name := s.Ref[strings.LastIndexByte(s.Ref, '/')+1:]
		text, link = name, name
	case s.Type == huma.TypeArray:
		text, link = d.kind(s.Items)
		text = "array of " + text
	default:
		text = s.Type
		if s.Format != "" && s.Type == huma.TypeString {
			text += " (" + s.Format + ")"
		}
	}
	if s.Nullable {
		text += " or null"
	}
	return text, link
}

// limits says in words what a schema demands.
func limits(s *huma.Schema) string {
	var parts []string
	add := func(format string, v ...any) { parts = append(parts, fmt.Sprintf(format, v...)) }
	between := func(low, high any, unit string, hasLow, hasHigh bool) {
		switch {
		case hasLow && hasHigh && low == high:
			add("exactly %v%s", low, unit)
		case hasLow && hasHigh:
			add("%v to %v%s", low, high, unit)
		case hasLow:
			add("at least %v%s", low, unit)
		case hasHigh:
			add("at most %v%s", high, unit)
		}
	}
	between(value(s.Minimum), value(s.Maximum), "", s.Minimum != nil, s.Maximum != nil)
	between(value(s.MinLength), value(s.MaxLength), " characters", s.MinLength != nil, s.MaxLength != nil)
	between(value(s.MinItems), value(s.MaxItems), " entries", s.MinItems != nil, s.MaxItems != nil)
	if s.Pattern != "" {
		add("matches %s", s.Pattern)
	}
	var values []string
	for _, v := range s.Enum {
		if v != nil {
			values = append(values, fmt.Sprint(v))
		}
	}
	if len(values) > 0 {
		add("one of %s", strings.Join(values, ", "))
	}
	if s.Items != nil && s.Items.Ref == "" {
		if l := limits(s.Items); l != "" {
			add("each %s", l)
		}
	}
	if s.Default != nil {
		add("default %v", s.Default)
	}
	return strings.Join(parts, "; ")
}

func value[T any](p *T) (v T) {
	if p != nil {
		v = *p
	}
	return v
}

// example makes the JSON of a schema's examples, indented, members in the order
// of the page.
func (d docs) example(s *huma.Schema) string {
	var b strings.Builder
	d.writeExample(&b, s, "")
	return b.String()
}

func (d docs) writeExample(b *strings.Builder, s *huma.Schema, indent string) {
	for s.Ref != "" {
		s = d.schemas.SchemaFromRef(s.Ref)
	}
	deeper := indent + "  "
	switch {
	case len(s.Examples) > 0:
		text, err := json.MarshalIndent(s.Examples[0], indent, "  ")
		if err != nil {
			panic(err) // the document with the same examples was just marshalled
		}
		b.Write(text)
	case s.Type == huma.TypeArray:
		b.WriteString("[\n" + deeper)
		d.writeExample(b, s.Items, deeper)
		b.WriteString("\n" + indent + "]")
	case s.Type == huma.TypeObject:
		b.WriteString("{")
		for i, name := range fields(s) {
			if i > 0 {
				b.WriteString(",")
			}
			fmt.Fprintf(b, "\n%s%q: ", deeper, name)
			d.writeExample(b, s.Properties[name], deeper)
		}
		b.WriteString("\n" + indent + "}")
	default:
		b.WriteString("null")
	}
}
