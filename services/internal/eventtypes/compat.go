package eventtypes

import (
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
)

// Breaking lists what in a newer file breaks those who rely on the older one: a
// line each, in order of the types, empty if nothing does. Publishers go on sending
// what they send, so nothing may be demanded that was not: members newly required,
// types and enums narrowed, limits tightened. Receivers go on reading what they
// read, so no type and no member may disappear. What is added, loosened or only
// described otherwise is fine.
func Breaking(older, newer *Catalog) (lines []string) {
	for _, old := range older.types {
		now, ok := newer.known[old.Name]
		if !ok {
			lines = append(lines, old.Name+": the type is removed")
			continue
		}
		var a, b any
		if json.Unmarshal(old.Schema, &a) != nil || json.Unmarshal(now.Schema, &b) != nil {
			continue // Load has compiled both
		}
		c := comparison{name: old.Name}
		c.schema("", a, b)
		lines = append(lines, c.lines...)
	}
	return lines
}

// A comparison is of the two schemas of one type.
type comparison struct {
	name  string
	lines []string
}

func (c *comparison) breaks(path, format string, v ...any) {
	if path == "" {
		path = "data"
	} else {
		path = "data" + path
	}
	c.lines = append(c.lines, c.name+": "+path+": "+fmt.Sprintf(format, v...))
}

// schema compares the schemas of one value. true is the schema {}.
func (c *comparison) schema(path string, older, newer any) {
	a, aOpen := object(older)
	b, bOpen := object(newer)
	switch {
	case !aOpen: // nothing was allowed
		return
	case !bOpen:
		c.breaks(path, "nothing is allowed here any more")
		return
	}
	c.types(path, a, b)
	c.values(path, a, b)
	c.members(path, a, b)
	c.limits(path, a, b)
	for _, keyword := range []string{"items", "additionalProperties", "propertyNames", "contains"} {
		if was, is := a[keyword], b[keyword]; is != nil && !reflect.DeepEqual(was, is) {
			if was == nil {
				was = true
			}
			c.schema(path+"/"+map[string]string{"items": "[]", "additionalProperties": "*"}[keyword], was, is)
		}
	}
	// What these mean together can't be judged by looking at each.
	for _, keyword := range []string{
		"$ref", "$dynamicRef", "allOf", "anyOf", "oneOf", "not", "if", "then", "else", "dependentRequired", "dependentSchemas", "prefixItems",
		"patternProperties", "unevaluatedProperties", "unevaluatedItems", "$defs",
	} {
		if is, there := b[keyword]; there && !reflect.DeepEqual(a[keyword], is) {
			c.breaks(path, "%s is changed, which this check can't judge", keyword)
		}
	}
}

// object returns a schema as an object; open is false if it allows nothing.
func object(schema any) (m map[string]any, open bool) {
	switch s := schema.(type) {
	case map[string]any:
		return s, true
	case bool:
		return nil, s
	}
	return nil, true
}

// types compares what kinds of values are allowed.
func (c *comparison) types(path string, a, b map[string]any) {
	is := kinds(b)
	if is == nil {
		return
	}
	was := kinds(a)
	if was == nil {
		c.breaks(path, "type is narrowed to %s", strings.Join(is, ", "))
		return
	}
	var gone []string
	for _, kind := range was {
		if !slices.Contains(is, kind) && (kind != "integer" || !slices.Contains(is, "number")) {
			gone = append(gone, kind)
		}
	}
	if len(gone) > 0 {
		c.breaks(path, "type is narrowed: %s is no longer allowed", strings.Join(gone, ", "))
	}
}

func kinds(s map[string]any) (list []string) {
	switch t := s["type"].(type) {
	case string:
		return []string{t}
	case []any:
		for _, one := range t {
			list = append(list, fmt.Sprint(one))
		}
	}
	return list
}

// values compares which values are allowed: enum and const.
func (c *comparison) values(path string, a, b map[string]any) {
	is, bounded := allowed(b)
	if !bounded {
		return
	}
	was, wasBounded := allowed(a)
	if !wasBounded {
		c.breaks(path, "only some values are allowed now: %s", texts(is))
		return
	}
	var gone []any
	for _, v := range was {
		if !slices.ContainsFunc(is, func(w any) bool { return reflect.DeepEqual(v, w) }) {
			gone = append(gone, v)
		}
	}
	if len(gone) > 0 {
		c.breaks(path, "enum is narrowed: %s is no longer allowed", texts(gone))
	}
}

func allowed(s map[string]any) (values []any, bounded bool) {
	if v, there := s["const"]; there {
		return []any{v}, true
	}
	values, bounded = s["enum"].([]any)
	return values, bounded
}

func texts(values []any) string {
	list := make([]string, len(values))
	for i, v := range values {
		text, _ := json.Marshal(v) // it was JSON before
		list[i] = string(text)
	}
	return strings.Join(list, ", ")
}

// members compares the members of objects.
func (c *comparison) members(path string, a, b map[string]any) {
	was, _ := a["properties"].(map[string]any)
	is, _ := b["properties"].(map[string]any)
	for _, name := range slices.Sorted(maps.Keys(was)) {
		if _, there := is[name]; !there {
			c.breaks(path+"/"+name, "the member is removed")
			continue
		}
		c.schema(path+"/"+name, was[name], is[name])
	}
	required, _ := a["required"].([]any)
	now, _ := b["required"].([]any)
	for _, name := range now {
		if !slices.Contains(required, name) {
			c.breaks(fmt.Sprint(path, "/", name), "the member is newly required")
		}
	}
}

// limits compares what bounds values. Each keyword is one that tightens as it
// grows, or as it shrinks, or at any change.
func (c *comparison) limits(path string, a, b map[string]any) {
	for _, keyword := range []string{"minimum", "exclusiveMinimum", "minLength", "minItems", "minProperties", "minContains"} {
		if is, there := b[keyword].(float64); there {
			if was, bounded := a[keyword].(float64); (!bounded && is > 0) || (!bounded && strings.HasSuffix(keyword, "inimum")) || bounded && is > was {
				c.breaks(path, "%s is tightened to %v", keyword, is)
			}
		}
	}
	for _, keyword := range []string{"maximum", "exclusiveMaximum", "maxLength", "maxItems", "maxProperties", "maxContains"} {
		if is, there := b[keyword].(float64); there {
			if was, bounded := a[keyword].(float64); !bounded || is < was {
				c.breaks(path, "%s is tightened to %v", keyword, is)
			}
		}
	}
	for _, keyword := range []string{"pattern", "format", "multipleOf", "contentEncoding", "contentMediaType"} {
		if is, there := b[keyword]; there && !reflect.DeepEqual(a[keyword], is) {
			c.breaks(path, "%s is changed to %v, which may refuse what was allowed", keyword, is)
		}
	}
	if b["uniqueItems"] == true && a["uniqueItems"] != true {
		c.breaks(path, "items must be unique now")
	}
}
