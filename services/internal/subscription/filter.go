package subscription

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// Bounds of a filter.
const (
	MaxFilterBytes = 4096 // of its JSON without spaces (endpoints.filter)
	MaxConditions  = 20   // all are looked at for each event of the endpoint
	MaxValues      = 50   // of one set
	maxNames       = 8    // of one path
	maxPathBytes   = 256
)

// A Filter is conditions on fields of an event's data, all of which must hold.
// The zero Filter has none, and everything passes it.
//
// As JSON it is an object. Its members' names are paths: the names of the members on the
// way to a field, joined by dots, beginning in data. Each value is one of
//
//	"qr", 5, true, null      the field is that value
//	["qr", "link"]           the field is one of these values
//	{"exists": false}        the field is not there; true: it is, be it null
//	{"gte": 100, "lt": 500}  the field is a number in a range: gt, gte, lt, lte
//
// A field that is an array fulfils a condition on values if one of its entries
// does. Names and strings are compared exactly, numbers by their value. A field
// that is not there fulfils nothing but {"exists": false}, and a name that has a dot in it
// can't be reached.
type Filter struct{ conditions []condition }

type condition struct {
	path   []string
	exists *bool   // or else
	values []value // one of these, or if empty
	ranges []bound // all of these
}

// A bound is one end of a range.
type bound struct {
	op   string
	than number
}

// A FilterError says which member of a filter breaks which rule.
type FilterError struct {
	Field string // such as filter["amount"].gte
	Rule  string
}

func (e *FilterError) Error() string { return e.Field + ": " + e.Rule }

func broken(field, rule string) error { return &FilterError{field, rule} }

// ParseFilter reads a filter. An error is a [*FilterError]. null is no filter
// and not allowed here.
func ParseFilter(text []byte) (Filter, error) {
	var compact bytes.Buffer
	if err := json.Compact(&compact, text); err != nil {
		return Filter{}, broken("filter", "must be JSON")
	}
	if compact.Len() > MaxFilterBytes {
		return Filter{}, broken("filter", fmt.Sprintf("must be at most %d bytes, not %d", MaxFilterBytes, compact.Len()))
	}
	members, err := object(compact.Bytes())
	if err != nil {
		return Filter{}, broken("filter", "must be an object of conditions by path: "+err.Error())
	}
	if len(members) < 1 || len(members) > MaxConditions {
		return Filter{}, broken("filter", fmt.Sprintf("must have 1 to %d conditions, not %d", MaxConditions, len(members)))
	}
	var f Filter
	for _, m := range members {
		c, err := parseCondition(m)
		if err != nil {
			return Filter{}, err
		}
		f.conditions = append(f.conditions, c)
	}
	return f, nil
}

func parseCondition(m member) (c condition, err error) {
	field := "filter[" + quoted(m.name) + "]"
	c.path = strings.Split(m.name, ".")
	switch {
	case len(m.name) > maxPathBytes:
		return c, broken(field, fmt.Sprintf("a path must be at most %d bytes", maxPathBytes))
	case slices.Contains(c.path, ""):
		return c, broken(field, "a path must be names of members joined by dots, none of them empty")
	case len(c.path) > maxNames:
		return c, broken(field, fmt.Sprintf("a path must have at most %d names", maxNames))
	}
	switch m.value[0] {
	case '{':
		return c, c.operators(field, m.value)
	case '[':
		return c, c.set(field, m.value)
	default:
		v, err := parseValue(field, m.value)
		c.values = []value{v}
		return c, err
	}
}

func (c *condition) set(field string, text []byte) error {
	var list []json.RawMessage
	if err := json.Unmarshal(text, &list); err != nil {
		return broken(field, "must be JSON")
	}
	if len(list) < 1 || len(list) > MaxValues {
		return broken(field, fmt.Sprintf("a set must have 1 to %d values, not %d", MaxValues, len(list)))
	}
	for i, one := range list {
		v, err := parseValue(field+"["+strconv.Itoa(i)+"]", one)
		if err != nil {
			return err
		}
		c.values = append(c.values, v)
	}
	return nil
}

func (c *condition) operators(field string, text []byte) error {
	const rule = "must be exists, or one or two of gt, gte, lt and lte"
	members, err := object(text)
	if err != nil {
		return broken(field, err.Error())
	}
	if len(members) == 0 {
		return broken(field, rule)
	}
	var low, high bool
	for _, m := range members {
		switch m.name {
		case "exists":
			if len(members) > 1 {
				return broken(field+".exists", "must be the only operator")
			}
			is := string(m.value) == "true"
			if !is && string(m.value) != "false" {
				return broken(field+".exists", "must be true or false")
			}
			c.exists = &is
			continue
		case "gt", "gte":
			if low {
				return broken(field, "there must be only one of gt and gte")
			}
			low = true
		case "lt", "lte":
			if high {
				return broken(field, "there must be only one of lt and lte")
			}
			high = true
		default:
			return broken(field, "has the operator "+quoted(m.name)+": each "+rule)
		}
		v, err := parseValue(field, m.value)
		n, ok := v.(number)
		if err != nil || !ok {
			return broken(field+"."+m.name, "must be a number of at most 1.8e308")
		}
		c.ranges = append(c.ranges, bound{m.name, n})
	}
	return nil
}

func parseValue(field string, text []byte) (value, error) {
	d := json.NewDecoder(bytes.NewReader(text))
	d.UseNumber()
	var v any
	if err := d.Decode(&v); err != nil {
		return nil, broken(field, "must be JSON")
	}
	switch v := v.(type) {
	case json.Number:
		n, ok := parseNumber(v.String())
		if !ok {
			return nil, broken(field, "must be a number of at most 1.8e308")
		}
		return n, nil
	case string, bool, nil:
		return v, nil
	}
	return nil, broken(field, "must be a string, a number, true, false or null")
}

// A member of an object, as it stands there.
type member struct {
	name  string
	value json.RawMessage // without space around it
}

// object reads the members of an object in their order: none may be there twice.
func object(text []byte) (list []member, err error) {
	d := json.NewDecoder(bytes.NewReader(text))
	if t, err := d.Token(); err != nil || t != json.Delim('{') {
		return nil, errors.New("must be an object")
	}
	for d.More() {
		t, err := d.Token()
		if err != nil {
			return nil, errors.New("must be JSON")
		}
		m := member{name: t.(string)} // the decoder allows nothing else here
		if err := d.Decode(&m.value); err != nil {
			return nil, errors.New("must be JSON")
		}
		if slices.ContainsFunc(list, func(o member) bool { return o.name == m.name }) {
			return nil, errors.New("has the member " + quoted(m.name) + " twice")
		}
		list = append(list, m)
	}
	if _, err := d.Token(); err != nil {
		return nil, errors.New("must be JSON")
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("must be one object")
	}
	return list, nil
}

// quoted is what a stranger wrote, bounded and escaped.
func quoted(s string) string {
	const most = 64
	if utf8.RuneCountInString(s) > most {
		s = string([]rune(s)[:most]) + "…"
	}
	return strconv.Quote(s)
}
