package subscription

import (
	"bytes"
	"encoding/json"
	"math"
	"strconv"
)

// Data is the data of an event, read once for all filters that it is held to.
type Data struct{ root any }

// ReadData reads the data of an event's body. A body that is none, such as one that is
// no longer kept, has no data, in which no field is there.
func ReadData(body []byte) Data {
	var members map[string]json.RawMessage // no struct: it would match names in any case
	if json.Unmarshal(body, &members) != nil {
		return Data{}
	}
	d := json.NewDecoder(bytes.NewReader(members["data"]))
	d.UseNumber()
	var root any
	if d.Decode(&root) != nil {
		return Data{}
	}
	return Data{root}
}

// Passes says whether data fulfils all conditions.
func (f Filter) Passes(d Data) bool {
	for _, c := range f.conditions {
		if !c.holds(d.root) {
			return false
		}
	}
	return true
}

func (c condition) holds(root any) bool {
	field, there := find(root, c.path)
	if c.exists != nil {
		return *c.exists == there
	}
	if !there {
		return false
	}
	if list, ok := field.([]any); ok {
		for _, entry := range list {
			if c.fits(entry) {
				return true
			}
		}
		return false
	}
	return c.fits(field)
}

// find follows a path through objects.
func find(at any, path []string) (field any, there bool) {
	for _, name := range path {
		members, ok := at.(map[string]any)
		if !ok {
			return nil, false
		}
		if at, there = members[name]; !there {
			return nil, false
		}
	}
	return at, true
}

// fits says whether one value of an event's data is in the set or the range.
func (c condition) fits(field any) bool {
	var is value = field
	switch v := field.(type) {
	case json.Number:
		n, ok := parseNumber(v.String())
		if !ok {
			return false
		}
		is = n
	case map[string]any, []any:
		return false
	}
	for _, v := range c.values {
		if v == is {
			return true
		}
	}
	n, ok := is.(number)
	if !ok || len(c.ranges) == 0 {
		return false
	}
	for _, b := range c.ranges {
		if !b.holds(n) {
			return false
		}
	}
	return true
}

func (b bound) holds(n number) bool {
	switch b.op {
	case "gt":
		return b.than.less(n)
	case "gte":
		return !n.less(b.than)
	case "lt":
		return n.less(b.than)
	default:
		return !b.than.less(n)
	}
}

// A value is what a field can be compared to: a string, a bool, nil or a number.
// Two are equal if == says so.
type value any

// A number is an int64 exactly, or else the nearest float64. What is both, such
// as 1.0, is an integer, so that == is equality.
type number struct {
	integer int64
	other   float64 // 0 for an integer
}

// parseNumber reads a number of JSON; ok is false beyond the range of float64.
func parseNumber(text string) (n number, ok bool) {
	if i, err := strconv.ParseInt(text, 10, 64); err == nil {
		return number{integer: i}, true
	}
	f, err := strconv.ParseFloat(text, 64)
	if err != nil {
		return number{}, false
	}
	// Up to here each float that is whole is one int64, and ±2^63 are not.
	if f == math.Trunc(f) && f > math.MinInt64 && f < math.MaxInt64 {
		return number{integer: int64(f)}, true
	}
	return number{other: f}, true
}

func (n number) less(m number) bool {
	if n.other == 0 && m.other == 0 {
		return n.integer < m.integer
	}
	return n.float() < m.float()
}

func (n number) float() float64 {
	if n.other != 0 {
		return n.other
	}
	return float64(n.integer)
}
